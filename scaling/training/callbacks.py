"""What happens around the steps: a record that is alive, a checkpoint to resume from."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from scaling.records import RunRecord
from scaling.training.module import Training

LAST = "last.ckpt"


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


class Checkpoints(Callback):
    """`last.ckpt` every `every_s` seconds, between chunks; a reader never sees half a file.

    Signals wait for a border too, where the state is saved first. An engine that listens to SIGUSR2 (submitit: requeue
    and leave) hears it then; left to itself it would requeue at once and lose what the last checkpoint has not got.
    With several ranks the first one hears signals and looks at the clock, and the others do what it does.
    """

    def __init__(self, run_dir: Path, every_s: float) -> None:
        self.path, self.every_s = run_dir / LAST, every_s
        self._saved = time.perf_counter()
        self._outer = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
        self._heard: int | None = None

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if callable(self._outer[signal.SIGUSR2]):
            signal.signal(signal.SIGUSR2, self._hear)
        if trainer.world_size > 1:  # Lightning's handler would wait for ranks that have heard nothing
            signal.signal(signal.SIGTERM, self._hear if trainer.is_global_zero else signal.SIG_IGN)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = time.perf_counter() - self._saved >= self.every_s
        # Lightning turns SIGTERM into an exit right after this hook: nothing trained so far is lost
        save, leave = trainer.received_sigterm or due, self._heard is not None
        if trainer.world_size > 1:
            word = torch.tensor([save, leave], dtype=torch.uint8, device=module.device)
            torch.distributed.broadcast(word, src=0)
            save, leave = map(bool, word.tolist())
        if save or leave:
            self.save(trainer)
        if leave:
            handler = self._outer[signal.SIGUSR2]
            if self._heard == signal.SIGUSR2 and callable(handler):
                self._heard = None
                handler(signal.SIGUSR2, None)
            if trainer.world_size > 1:
                raise SystemExit(128 + signal.SIGTERM)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if callable(self._outer[signal.SIGUSR2]):
            signal.signal(signal.SIGUSR2, self._outer[signal.SIGUSR2])

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.on_fit_end(trainer, module)

    def save(self, trainer: Trainer) -> None:
        temporary = self.path.with_name(f".{LAST}.tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)
        self._saved = time.perf_counter()

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self._heard = signum
        handler = self._outer[signal.SIGTERM]
        if signum == signal.SIGTERM and callable(handler):
            handler(signum, frame)
