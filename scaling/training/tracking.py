"""One W&B run for one job, behind Lightning's logger. The only place in training that touches wandb.

Jobs share a process, so every run is started and finished here explicitly: a run left open would swallow the
next one's rows. The dashboard is a copy; `record.json` and `curve.csv` are what counts.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from scaling.config import TrainConfig
from scaling.records import RunRecord
from scaling.training.curve import Row


class Tracker:
    """The W&B run of one job; does nothing at all for `mode=none`."""

    def __init__(self, config: TrainConfig, record: RunRecord, run_dir: Path) -> None:
        self.logger: WandbLogger | None = None
        if config.logger.mode == "none":
            return
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # offline means no socket at all
        import wandb

        assert wandb.run is None, "the run of an earlier job was left open"
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, save_code=False, init_timeout=30,
            x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False,
        )  # fmt: skip
        self.run: Any = wandb.init(
            id=f"{config.study[:40]}-{config.run_hash}",
            name=config.run_name,
            project=config.logger.project,
            entity=config.logger.entity,
            group=config.study,
            job_type="train",
            tags=[config.family.name, *config.logger.tags],
            config={k: v for k, v in asdict(config).items() if k not in ("logger", "output_dir", "cache_dir")}
            | {"lr": record.lr, "n_total": record.n_total, "n_non_embedding": record.n_non_embedding},
            mode="online" if config.logger.mode == "online" else "offline",
            resume="allow",
            dir=run_dir,
            settings=settings,
        )
        self.run.define_metric("tokens")
        self.run.define_metric("*", step_metric="tokens")
        self.logger = WandbLogger(experiment=self.run)

    def log(self, row: Row) -> None:
        """Tokens and compute go in the same call as the losses: exact x-axes."""
        if self.logger is None:
            return
        values = {"train/loss": row.loss_train, "tokens": row.tokens, "flops": row.flops, "lr": row.lr}
        if row.loss_val is not None:
            values["val/loss"] = row.loss_val
        self.logger.log_metrics(values)

    def finish(self, record: RunRecord) -> None:
        """Closes the run; anything but a finished record is shown as failed."""
        if self.logger is None:
            return
        summary = {k: v for k, v in asdict(record).items() if isinstance(v, int | float | str)}
        for name in ("loss_train", "loss_val", "loss_test"):
            loss = summary.pop(name, None)
            if loss is not None:
                summary[f"final/{name.removeprefix('loss_')}_loss"] = loss
        self.run.summary.update(summary)
        self.run.finish(exit_code=0 if record.status == "finished" else 1)
