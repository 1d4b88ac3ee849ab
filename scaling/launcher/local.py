"""A sweep on one machine: a pool of workers that import once and run jobs side by side, longest first.

A worker that dies (killed, out of memory) costs its job one retry and nothing else. Every job writes its own
record; this file only decides who runs when and tells the person watching.
"""

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pebble import ProcessExpired, ProcessPool

from scaling.config import ConfigError, TrainConfig
from scaling.launcher.preflight import wandb_mode
from scaling.launcher.progress import show


@dataclass(frozen=True)
class Job:
    config: TrainConfig
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The end of a job as the sweep saw it; `status` as in a record, or skipped or busy."""

    run_name: str
    status: str
    reason: str = ""
    loss_val: float | None = None
    wall_s: float = 0.0


def run_here(job: Job) -> int:
    """One run in this process. Returns the exit code."""
    (ready,) = _prepared([job])
    result = _run(ready)
    print(describe(result))
    return 0 if result.status in ("finished", "skipped") else 1


def run_sweep(jobs: Sequence[Job], workers: int | None = None) -> int:
    """All jobs, side by side. Returns the exit code: 0 if every run is finished now."""
    ready = sorted(_prepared(jobs), key=rough_cost, reverse=True)
    n_workers = min(workers or default_workers(ready), len(ready))
    started = time.perf_counter()
    results = list(show(_results(ready, n_workers), len(ready), n_workers))
    counts = Counter(result.status for result in results)
    print(f"{len(results)} runs in {time.perf_counter() - started:.0f} s: " + summary(counts))
    for result in results:
        if result.status not in ("finished", "skipped"):
            print(f"  {describe(result)}")
    return 0 if set(counts) <= {"finished", "skipped"} else 1


def default_workers(jobs: Sequence[Job]) -> int:
    """As many jobs as there are cores for their threads."""
    return max(1, (os.cpu_count() or 1) // max(job.config.trainer.threads for job in jobs))


def rough_cost(job: Job) -> float:
    """Good enough to start the longest first: a transformer's products per token, times tokens."""
    m = job.config.model
    weights = m.n_layers * m.d_model * (4 * m.d_model + 2 * m.d_mlp) + m.d_model * job.config.tokenizer.vocab_size
    return float(weights) * job.config.tokens.budget


def describe(result: Result) -> str:
    loss = f" loss {result.loss_val:.4f}" if result.loss_val is not None else ""
    reason = f" ({result.reason})" if result.reason else ""
    return f"{result.run_name}: {result.status}{loss}{reason}"


def summary(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.most_common())


def _prepared(jobs: Sequence[Job]) -> list[Job]:
    """Decide once for all jobs what depends on the machine; refuse what cannot be run as a whole."""
    if not jobs:
        raise ConfigError("no runs: the sweep matches nothing")
    names = Counter(job.config.run_name for job in jobs)
    twice = [name for name, n in names.items() if n > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: {names[twice[0]]} jobs of this sweep are the same run")
    modes = {job.config.logger.mode for job in jobs}
    resolved = {mode: wandb_mode(mode) for mode in modes}
    if "auto" in modes:
        print(f"W&B {resolved['auto']}" + (": no key on this machine" if resolved["auto"] == "offline" else ""))
    return [_with_mode(job, resolved[job.config.logger.mode]) for job in jobs]


def _with_mode(job: Job, mode: str) -> Job:
    return replace(job, config=replace(job.config, logger=replace(job.config.logger, mode=mode)))


def _run(job: Job) -> Result:
    """In a worker: import what trains, once, and run the job."""
    from scaling.training import session

    outcome = session.run(job.config, job.overrides)
    return Result(outcome.run_name, outcome.status, outcome.reason, outcome.loss_val, outcome.wall_s)


def _results(jobs: Sequence[Job], n_workers: int) -> Iterator[Result]:
    """Results in the order of their arrival."""
    import queue

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before workers load their BLAS; jobs set their own count
    multiprocessing.set_forkserver_preload(["scaling.training.session", "wandb"])
    pool = ProcessPool(max_workers=n_workers, context=multiprocessing.get_context("forkserver"))
    arrivals: queue.Queue[tuple[Job, int, object]] = queue.Queue()

    def submit(job: Job, attempt: int) -> None:
        future = pool.schedule(_run, args=[job])
        future.add_done_callback(lambda done: arrivals.put((job, attempt, done)))

    try:
        for job in jobs:
            submit(job, attempt=1)
        waiting = len(jobs)
        while waiting:
            job, attempt, future = arrivals.get()
            name = job.config.run_name
            try:
                yield future.result()  # type: ignore[attr-defined]
            except ProcessExpired as death:
                if attempt == 1:
                    print(f"{name}: its worker died ({death}), trying once more", file=sys.stderr)
                    submit(job, attempt=2)
                    continue
                yield Result(name, "failed", f"its worker died twice ({death})")
            except Exception as error:
                yield Result(name, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
            waiting -= 1
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
