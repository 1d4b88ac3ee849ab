"""The cores that this process may use, and work of its own spread over them."""

import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def cpu_count() -> int:
    """Cores this process may run on: affinity and cgroup quota respected."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for path in cgroups() if (quota := _quota(path / "cpu.max")) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def side_by_side(function: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
    """`[function(item) for item in items]` on all cores, where forking is safe: on Linux with no other thread running.
    Values travel back pickled; function and items do not, they are inherited."""
    work = list(items)
    workers = min(cpu_count(), len(work))
    if sys.platform != "linux" or workers < 2 or threading.active_count() > 1:
        return [function(item) for item in work]
    from pebble import ProcessPool  # its workers leave Ctrl+C to this process

    context = multiprocessing.get_context("fork")
    with ProcessPool(workers, initializer=_inherit, initargs=(function, work), context=context) as pool:
        futures = [pool.schedule(_nth, args=(i,)) for i in range(len(work))]
        # what failed there fails here again, with its whole story
        return [function(item) if f.exception() else f.result() for item, f in zip(work, futures, strict=True)]


_inherited: tuple[Callable[[Any], Any], Sequence[Any]]


def _inherit(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _inherited
    _inherited = function, items


def _nth(i: int) -> Any:
    function, items = _inherited
    return function(items[i])


def cgroups() -> list[Path]:
    """This process' cgroup (version 2) and those around it."""
    try:
        line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    root = Path("/sys/fs/cgroup")
    own = root / line.removeprefix("0::").strip("/")
    return [own, *(p for p in own.parents if p.is_relative_to(root))]


def _quota(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None
