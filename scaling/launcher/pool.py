"""Workers side by side that import once, and that die without taking the sweep with them."""

import gc
import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from scaling.launcher.stopping import signals_to, stop_on_sigterm, working

Item = TypeVar("Item")
TICK_S = 1.0
GRACE_S = 20.0  # that running jobs have to reach a border of their chunks


def warm_up() -> None:
    """Start the process that workers are forked from: it imports what trains while the caller goes on."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any BLAS is loaded; each job sets its own count
    multiprocessing.set_forkserver_preload(["scaling.training.session", "wandb"])
    resource_tracker.ensure_running()  # now, as its first start unblocks the signal that is blocked next
    # the server and all workers inherit the mask: Ctrl+C reaches the parent alone, who tells them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def call(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in a process of its own that is gone afterwards, with what it held."""
    warm_up()
    with ProcessPool(1, context=multiprocessing.get_context("forkserver")) as pool:
        return pool.schedule(function, args=args).result()


@dataclass(frozen=True)
class Done(Generic[Item]):
    """The end of one item: its value, or why there is none. `died` if its worker did, twice."""

    item: Item
    value: Any = None
    error: BaseException | None = None


class Pool(Generic[Item]):
    """Runs `function(item)` for every item in their order, `workers` at a time.

    `slots` gives each worker its GPU; `fresh` gives each item a process of its own. After a signal `stopped` is its
    number: what ran was ended, what waited was not begun.
    """

    def __init__(self, workers: int, slots: Sequence[str] = (), fresh: bool = False) -> None:
        self.workers, self.slots, self.fresh = workers, tuple(slots), fresh
        self.stopped: int | None = None
        self._futures: dict[ProcessFuture, tuple[Item, int]] = {}

    def running(self) -> list[Item]:
        return [item for item, _ in self._futures.values()]

    def results(self, function: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[Done[Item] | None]:
        """In the order of their arrival; None about once a second, for whoever watches."""
        warm_up()
        waiting = deque((item, 1) for item in items)
        arrivals: queue.SimpleQueue[ProcessFuture | int] = queue.SimpleQueue()  # may be put to by a signal handler
        deadline = float("inf")
        with tempfile.TemporaryDirectory() as locks, signals_to(arrivals.put):
            pool = ProcessPool(
                self.workers,
                max_tasks=int(self.fresh),
                initializer=_enter,
                initargs=(self.slots, locks),
                context=multiprocessing.get_context("forkserver"),
            )
            try:
                while (waiting or self._futures) and time.monotonic() < deadline:
                    while waiting and len(self._futures) < self.workers:
                        item, attempt = waiting.popleft()
                        future = pool.schedule(_work, args=(function, item))
                        self._futures[future] = (item, attempt)
                        future.add_done_callback(arrivals.put)  # type: ignore[arg-type]
                    try:
                        arrived = arrivals.get(timeout=TICK_S)
                    except queue.Empty:
                        yield None
                        continue
                    if isinstance(arrived, int):
                        self.stopped, deadline = arrived, time.monotonic() + GRACE_S
                        waiting.clear()
                        for process in multiprocessing.active_children():
                            process.terminate()
                        continue
                    item, attempt = self._futures.pop(arrived)
                    error = arrived.exception()
                    if isinstance(error, ProcessExpired) and not self.stopped and attempt == 1:
                        print(f"{item}: its worker died ({error}), trying once more", file=sys.stderr)
                        waiting.appendleft((item, 2))
                        continue
                    yield Done(item, None if error else arrived.result(), error)
                for item in self.running():
                    yield Done(item, error=TimeoutError())
            finally:
                pool.stop()
                pool.join()


def _enter(slots: Sequence[str], locks: str) -> None:
    """A new worker. Its GPU is the first that no living worker holds: a dead one's lock is free again."""
    stop_on_sigterm()
    gc.freeze()  # the libraries are here to stay: a job's collection need not walk them each time
    for n, gpu in enumerate(slots):
        lock = FileLock(Path(locks) / str(n))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return


_held: list[FileLock] = []


def _work(function: Callable[[Item], Any], item: Item) -> Any:
    with working():
        return function(item)
