"""What happens around the steps: a record that is alive, for whoever watches."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from scaling.records import RunRecord
from scaling.training.module import Training


class Heartbeat(Callback):
    """Keeps a running record, and what `publish` shows, at most `every_s` old for whoever watches.

    A file a window would cost a small model more than its steps.
    """

    def __init__(self, record: RunRecord, run_dir: Path, publish: Callable[[], None], every_s: float = 1.0) -> None:
        self.record, self.run_dir, self.publish, self.every_s = record, run_dir, publish, every_s
        self.seconds = 0.0  # of training alone, evaluation excluded
        self.tokens = 0
        self._written = time.perf_counter()
        self._chunk_started = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._chunk_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, Training)
        now = time.perf_counter()
        self.seconds += now - self._chunk_started
        step_tokens = module.config.batch_size * module.config.seq_len
        self.tokens += len(batch) * step_tokens
        if now - self._written >= self.every_s:
            self.record.tokens_done = module.steps_done * step_tokens
            self.record.tokens_per_s = self.tokens / self.seconds
            self.record.loss_train = module.rows[-1].loss_train if module.rows else None
            self.record.write(self.run_dir)
            self.publish()
            self._written = now
