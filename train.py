"""Train one run, or with -m a sweep:  python train.py -m 'model=glob(*)' 'tokens=glob(*)'"""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no trace for Ctrl+C while libraries load; what trains has its own way

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from scaling.cli import one_line_errors, register_plugins, run_main
from scaling.config import TrainConfig, register, typed
from scaling.launcher.elsewhere import run_there
from scaling.launcher.local import Job, Result, run_here

register_plugins()
register("train_schema", TrainConfig)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> Result:
    """A single run, here or as a job of an engine; a sweep on this machine goes through its own launcher."""
    here = HydraConfig.get()
    if here.mode is RunMode.MULTIRUN:
        return run_there(Job(typed(cfg), tuple(here.overrides.task)), here.runtime.cwd)
    with one_line_errors():
        sys.exit(run_here(Job(typed(cfg), tuple(here.overrides.task))))


if __name__ == "__main__":
    run_main(main)
