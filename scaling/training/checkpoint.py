"""`last.ckpt`: what a run that was stopped goes on from. Whole or not there, whatever kills the writer."""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from scaling.records import set_aside

LAST = "last.ckpt"


def save(saved: Any, path: Path) -> None:
    """`torch.save`, of which a reader sees nothing or all; a full disk leaves what was there before."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as handle:
            torch.save(saved, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:  # torch has errors of its own for a full disk, which needs the room
        temporary.unlink(missing_ok=True)
        raise


class InPlace(TorchCheckpointIO):
    """Lightning's own takes a detour through the system's temporary directory, and leaves files there when killed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(checkpoint, Path(path))


class Checkpoints(Callback):
    """`last.ckpt` every `every_s` seconds, between chunks.

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

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        # Lightning's handler, in place by now, would wait in the middle of a step for ranks that have heard nothing
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
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
        trainer.save_checkpoint(self.path)
        self._saved = time.perf_counter()

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self._heard = signum
        handler = self._outer[signal.SIGTERM]
        if signum == signal.SIGTERM and callable(handler):
            handler(signum, frame)


def mend(run_dir: Path, identity: str) -> str:
    """Set a checkpoint aside that is damaged, or foreign: of another run or other data. Returns a line about it."""
    path = run_dir / LAST
    if not path.exists():
        return ""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)["training"]["identity"]
    except Exception:  # whatever a reader of half a file happens to meet
        return set_aside(path)
    return "" if found == identity else set_aside(path, "foreign")
