"""One run on several devices of a node: this process is rank 0, the others are started beside it.

Lightning's own launcher would start the command line once more, which in a sweep is the whole sweep. A run is a pure
function of its config, so another rank is a process that is given the config; alone, in a sweep, or in a job of an
engine makes no difference. What they compute together is Lightning's DDP.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.plugins.environments import LightningEnvironment

from scaling.config import ConfigError, TrainConfig

ROOT = Path(__file__).parents[2]
LEAVE_S = 60.0  # for the other ranks to end after the first


@dataclass(frozen=True)
class Place:
    """Which of `world` processes this is, and the port of 127.0.0.1 where they meet."""

    rank: int = 0
    world: int = 1
    port: int = 0


class Started(LightningEnvironment):
    """Tells Lightning that all ranks exist already."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._place.port

    def local_rank(self) -> int:
        return self._place.rank

    def node_rank(self) -> int:
        return 0


def count(config: TrainConfig, device: torch.device) -> int:
    """Devices of one run. Raises ConfigError for what is not there or does not divide the batch."""
    asked, there = config.trainer.devices, torch.cuda.device_count() if device.type == "cuda" else None
    if asked is None and there is None:
        raise ConfigError(
            "trainer.devices=null: means all GPUs, and there is none; on a CPU give a number of processes"
        )
    n = asked or there or 1
    if there is not None and n > there:
        raise ConfigError(f"trainer.devices={n}: this process sees {there} GPU{'s' if there > 1 else ''}")
    if config.batch_size % n:
        raise ConfigError(f"trainer.devices={n}: must divide batch_size={config.batch_size}")
    micro = config.trainer.micro_batch
    if micro and config.batch_size // n % micro:
        raise ConfigError(
            f"trainer.micro_batch={micro}: must divide the {config.batch_size // n} sequences of a device"
        )
    return n


@contextlib.contextmanager
def together(config: TrainConfig, world: int, log: Path) -> Iterator[Place]:
    """Ranks 1.. beside the body, which is rank 0; they end with it, however it ends. Their complaints go to `log`."""
    if world == 1:
        yield Place()
        return
    place = Place(0, world, find_free_network_port())
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    others = []
    with log.open("a") as errors:
        for rank in range(1, world):
            command = [sys.executable, "-m", "scaling.training.ranks"]
            other = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=errors, env=os.environ | {"PYTHONPATH": path}
            )
            assert other.stdin is not None
            pickle.dump((config, Place(rank, world, place.port)), other.stdin)
            other.stdin.flush()
            others.append(other)
    try:
        yield place
        for other in others:
            other.wait(LEAVE_S)
    finally:
        for other in others:
            other.kill()
            other.wait()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # the next job in this process meets others


def main() -> None:
    """Another rank: its config comes through a pipe, and when that closes the first one is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # the first rank is told, and tells the others
        signal.signal(number, signal.SIG_IGN)
    config, place = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_leave_with_first, daemon=True).start()
    from scaling.training.session import follow

    follow(config, place)
    os._exit(0)  # the thread below holds stdin, which an orderly end would wait for and call an error


def _leave_with_first() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
