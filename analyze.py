"""What a study's runs say:  python analyze.py study=default   (also: --config-name=status, design)"""

import os
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to lose, so no trace for Ctrl+C
os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small systems: threads only get in each other's way

import hydra
from omegaconf import DictConfig, OmegaConf

from scaling.cli import one_line_errors, run_main
from scaling.report.config import CompareConfig, DesignConfig, StatusConfig, register_schemas

register_schemas()


@hydra.main(version_base="1.3", config_path="conf", config_name="analyze")
def main(cfg: DictConfig) -> None:
    """Each verb is loaded when it is asked for: input that is rejected waits for no library."""
    with one_line_errors():
        if OmegaConf.get_type(cfg) is StatusConfig:
            from scaling.report.status import show

            show(cfg)
        elif OmegaConf.get_type(cfg) is DesignConfig:
            from scaling.report.design import design

            design(cfg)
        elif OmegaConf.get_type(cfg) is CompareConfig:
            from scaling.report.compare import show as compare

            compare(cfg)
        else:
            from scaling.report.write import analyze

            analyze(cfg)


if __name__ == "__main__":
    run_main(main)
