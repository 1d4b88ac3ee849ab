"""Train one run, or with -m a sweep:  python train.py -m 'model=glob(*)' 'tokens=glob(*)'"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scaling.cli import one_line_errors, register_plugins, run_main
from scaling.config import TrainConfig, register, typed
from scaling.launcher.local import Job, run_here

register_plugins()
register("train_schema", TrainConfig)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """A single run; a sweep reaches the same session through the launcher."""
    with one_line_errors():
        sys.exit(run_here(Job(typed(cfg), tuple(HydraConfig.get().overrides.task))))


if __name__ == "__main__":
    run_main(main)
