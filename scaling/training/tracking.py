"""One W&B run for one job, behind Lightning's logger. The only place in training that touches wandb.

Jobs share a process, so every run is started and finished here explicitly: a run left open would swallow the
next one's rows. The dashboard is a copy; `record.json` and `curve.csv` are what counts, so nothing that W&B does
can fail a job or hold it up for long.
"""

import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from scaling import dashboard
from scaling.config import TrainConfig
from scaling.records import RunRecord
from scaling.training.curve import Row

# seconds that W&B may take at the start and at the end of a run, and after which a row is safe on disk
BOUNDS = {"WANDB_INIT_TIMEOUT": "15", "WANDB_FINISH_TIMEOUT": "15", "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
PROBE_S = 3.0
_log = logging.getLogger("scaling")


class Tracker:
    """The W&B run of one job; does nothing at all for `mode=none`."""

    def __init__(self, config: TrainConfig, record: RunRecord, run_dir: Path) -> None:
        self.logger: WandbLogger | None = None
        self._run: Any = None
        if config.logger.mode == "none":
            return
        logging.raiseExceptions = False  # the client's own log on a full disk: a traceback for every line of it
        try:
            self._run = _start(config, record, run_dir)
            record.url = self._run.url or ""  # an offline run has none
            self._logged = int(self._run.starting_step)  # rows that the server has already
            self._run.define_metric("tokens")
            self._run.define_metric("*", step_metric="tokens")
            self._run.summary.update(dashboard.summary_of(record))
            self.logger = WandbLogger(experiment=self._run)
        except Exception as error:
            self._give_up(error)

    def log(self, rows: Sequence[Row]) -> None:
        """Every row of the curve so far: those logged before, in an attempt that was cut short too, are left out.

        Tokens and compute go in the same call as the losses: exact x-axes.
        """
        if self.logger is None:
            return
        try:
            for row in rows[self._logged :]:
                self.logger.log_metrics(dashboard.metrics_of(asdict(row)))
                self._logged += 1
        except Exception as error:
            self._give_up(error)

    def finish(self, record: RunRecord) -> None:
        """Closes the run; anything but a finished record is shown as failed."""
        if self._run is None:
            return
        try:
            self._run.summary.update(dashboard.summary_of(record))
            self._run.finish(exit_code=0 if record.status == "finished" else 1)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _log.warning("W&B left out from here on: %s", _first_line(error))
        self.logger = self._run = None
        import wandb

        wandb.teardown(exit_code=1)  # or the next job would be handed this run


def _start(config: TrainConfig, record: RunRecord, run_dir: Path) -> Any:
    # offline means no socket at all; a sweep's screen is its own
    os.environ.update(WANDB_ERROR_REPORTING="false", WANDB_SILENT="true")
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    import wandb

    assert wandb.run is None, "the run of an earlier job was left open"
    for earlier in run_dir.glob("wandb/*run-*"):  # all of the curve is logged again: uploading both would double it
        shutil.rmtree(earlier, ignore_errors=True)
    asked: dict[str, Any] = {
        "id": dashboard.run_id(config.study, config.run_hash, _attempt(run_dir)),
        "name": config.run_name,
        "project": config.logger.project,
        "entity": config.logger.entity,
        "group": config.study,
        "job_type": "train",
        "tags": [config.family.name, *config.logger.tags],
        "config": {k: v for k, v in asdict(config).items() if k not in ("logger", "output_dir", "cache_dir")}
        | {"lr": record.lr, "n_total": record.n_total, "n_non_embedding": record.n_non_embedding},
        "dir": run_dir,
        "settings": wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, save_code=False,
            x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False,
        ),
    }  # fmt: skip
    if config.logger.mode == "online":
        try:
            _probe(wandb.setup().settings.base_url)
            return wandb.init(mode="online", resume="allow", **asked)
        except Exception as error:
            _log.warning("W&B is out of reach (%s): this run stays offline, `make sync` uploads it", _first_line(error))
            wandb.teardown()  # the id is taken in this process otherwise
    return wandb.init(mode="offline", **asked)


def _attempt(run_dir: Path) -> int:
    """How often this run was finished and trained again from the start."""
    return len(list(run_dir.parent.glob(f".replaced/{run_dir.name}-*")))


def _probe(server: str) -> None:
    """Raises OSError if there is nobody: the client itself would try for much longer."""
    try:
        urllib.request.urlopen(server, timeout=PROBE_S).close()
    except urllib.error.HTTPError as answer:
        if answer.code >= 500:
            raise


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
