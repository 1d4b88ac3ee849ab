"""What this machine has, and the rule from that to how many jobs run side by side.

The rule takes a plain description of the machine, so it can be read, tested and asked about machines elsewhere.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.cores import cgroups

HEADROOM = 0.85  # of free memory is given away
MAX_THREADS = 8  # beyond this a small model's step only waits for its threads
GPU_SHARE = 8  # jobs on one GPU at most: more only take turns


@dataclass(frozen=True)
class Gpu:
    """`id` as CUDA_VISIBLE_DEVICES knows it; memory is what is free."""

    id: str
    memory_mb: float


@dataclass(frozen=True)
class Machine:
    """Cores and memory that this process may use, not those of the whole host."""

    cores: int
    memory_mb: float
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Need:
    """Memory of one job: of its process, and on its GPU (0 where it trains on the CPU)."""

    memory_mb: float
    gpu_mb: float = 0.0


@dataclass(frozen=True)
class Layout:
    """`slots` has the GPU of each worker (empty: no GPU is assigned, each sees what this process sees)."""

    workers: int
    threads: int
    slots: tuple[str, ...] = ()
    warning: str = ""


def layout(machine: Machine, needs: Sequence[Need], workers: int | None = None, threads: int | None = None) -> Layout:
    """Jobs side by side and CPU threads of each; `workers` and `threads` are what the user insists on.

    On CPUs one job a core, since small models use one thread best; threads only where there are more cores than
    jobs. On GPUs several jobs share a device, as a small model leaves it idle between its kernels: as many as there
    are cores to feed it and memory to hold them. Sized for the largest job.
    """
    need = max(need.memory_mb for need in needs)
    gpu_need = max(need.gpu_mb for need in needs)
    on_gpu = bool(machine.gpus) and gpu_need > 0
    rule = machine.cores // (threads or 1)
    fits = math.floor(HEADROOM * machine.memory_mb / need)
    if on_gpu:
        each = [math.floor(HEADROOM * gpu.memory_mb / gpu_need) for gpu in machine.gpus]
        cores_each = max(1, rule // len(machine.gpus))
        fits = min(fits, sum(each))
        rule = sum(min(n, cores_each, GPU_SHARE) for n in each)
    chosen = min(len(needs), workers or max(1, min(rule, fits)))
    slots: tuple[str, ...] = ()
    if on_gpu and len(machine.gpus) > 1:
        slots = _dealt([gpu.id for gpu in machine.gpus], each, chosen)
    warning = ""
    if fits < chosen:
        where = "GPU memory" if on_gpu and sum(each) == fits else "memory"
        warning = f"{where}: {chosen} jobs side by side may need more than there is free (room for about {fits})"
    return Layout(chosen, threads or max(1, min(machine.cores // chosen, MAX_THREADS)), slots, warning)


def _dealt(ids: list[str], room: list[int], workers: int) -> tuple[str, ...]:
    """One GPU for each worker: in turn, the ones with room first."""
    dealt: list[str] = []
    turn = 0
    while len(dealt) < workers:
        open_ = [id_ for id_, n in zip(ids, room, strict=True) if n > turn] or ids
        dealt += open_[: workers - len(dealt)]
        turn += 1
    return tuple(dealt)


def free_memory_mb() -> float:
    """Memory that can be had without swapping, within the cgroup's limit."""
    try:
        text = Path("/proc/meminfo").read_text()
        free = next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    for path in cgroups():
        limit, used = _number(path / "memory.max"), _number(path / "memory.current")
        if limit is not None and used is not None:
            free = min(free, (limit - used) / 2**20)
    return max(free, 1.0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
