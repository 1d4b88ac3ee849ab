"""A sweep on one machine: what is finished is skipped, the rest runs side by side, longest first.

Every job writes its own record; this file only decides who runs when, and says how it ended.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pebble import ProcessExpired

from scaling.config import ConfigError, TrainConfig
from scaling.cores import cpu_count
from scaling.launcher.machine import MAX_THREADS, Layout, layout
from scaling.launcher.plan import Planned, finished_paces, make_plan
from scaling.launcher.pool import Done, Pool, call
from scaling.launcher.preflight import wandb_mode
from scaling.launcher.progress import Display, place
from scaling.launcher.stopping import ctrl_c_is_sigterm, stop_on_sigterm, working
from scaling.launcher.survey import corpus_of, load_all, survey
from scaling.launcher.table import duration, plural, print_plan, print_table, summary
from scaling.training.finished import damaged, finished_before

GOOD = {"finished", "skipped"}
_began = time.perf_counter()


@dataclass(frozen=True)
class Job:
    config: TrainConfig
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.config.run_name


@dataclass(frozen=True)
class Result:
    """The end of a job as the sweep saw it; `status` as in a record, or skipped, busy, interrupted, not started."""

    run_name: str
    status: str
    reason: str = ""
    loss_val: float | None = None

    def __str__(self) -> str:
        loss = f"  loss {self.loss_val:.4f}" if self.loss_val is not None else ""
        return f"{self.run_name}  {self.status}{loss}" + (f"  ({self.reason})" if self.reason else "")


def run_here(job: Job) -> int:
    """One run in this process. Returns the exit code."""
    if job.config.dry_run:
        return run_sweep([job])
    # before torch is loaded: its idle threads spin for milliseconds, in the way of the kernels' own
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    where = _place(job.config)
    (job,) = with_wandb([job])
    print(f"{job} on {where}", flush=True)
    stop_on_sigterm()
    ctrl_c_is_sigterm()
    try:
        with working():
            result = run_job(with_threads(job, min(cpu_count(), MAX_THREADS)))
    except SystemExit:
        print(f"{job}: interrupted; the same line goes on with it")
        return 130
    print(result)
    return 0 if result.status in GOOD else 1


def run_sweep(jobs: Sequence[Job], workers: int | None = None) -> int:
    """All jobs, side by side. Returns the exit code: 0 if every run is finished now."""
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ConfigError(f"hydra.launcher.jobs={workers}: must be a whole number above 0, or null for the rule")
    check(jobs)
    before = finished(jobs)
    if any(job.config.dry_run for job in jobs):
        return dry_run(jobs, before, workers)
    todo = with_wandb([job for job in jobs if str(job) not in before])
    print(f"{plural(len(jobs), 'run')}: {len(before)} finished before, {len(todo)} to do", flush=True)
    results, stopped = _train(todo, len(before), workers) if todo else ([], None)
    return close([*before.values(), *results], stopped)


def _train(jobs: Sequence[Job], n_before: int, workers: int | None) -> tuple[list[Result], int | None]:
    """Results of these jobs, and the signal that ended the sweep early, if one did."""
    runs, chosen = _surveyed(jobs, {}, workers)
    by_name = {str(job): (with_threads(job, chosen.threads), run) for job, run in zip(jobs, runs, strict=True)}
    ordered = sorted(by_name.values(), key=lambda both: both[1].work.flops, reverse=True)
    pool: Pool[Job] = Pool(chosen.workers, chosen.slots)
    results = []
    with Display([run for _, run in ordered], chosen.workers, finished_paces(runs)[0], n_before) as display:
        for done in pool.results(run_job, [job for job, _ in ordered]):
            if done is not None:
                results.append(_result(done, pool.stopped))
                display.ended(results[-1])
            display.refresh({str(job) for job in pool.running()})
    missing = by_name.keys() - {result.run_name for result in results}
    return [*results, *(Result(name, "not started") for name in missing)], pool.stopped


def dry_run(jobs: Sequence[Job], before: Mapping[str, Result], workers: int | None) -> int:
    runs, chosen = _surveyed(jobs, before, workers)
    setup_s = time.perf_counter() - _began
    plan = make_plan(runs, chosen)
    print_plan(plan)
    todo = [run for run in plan.runs if not run.skip]
    alone = sum(run.seconds for run in todo)
    print(
        f"{plural(len(jobs), 'run')}: {len(before)} finished before, {len(todo)} to do, "
        f"{sum(run.work.flops for run in todo):.3g} FLOPs, {duration(alone)} of one job after the other"
    )
    if todo:
        timed = f"{plan.n_timed} of {plural(plan.n_shapes, 'shape')} timed now, the others from finished runs"
        print(
            f"about {duration(setup_s + plan.total_s)} in all: {chosen.workers} side by side, "
            f"{plural(chosen.threads, 'thread')} each, {duration(setup_s)} of it to start ({timed})"
        )
    return 0


def check(jobs: Sequence[Job]) -> None:
    """Refuse what cannot be run as a whole."""
    if not jobs:
        raise ConfigError("no runs: the sweep matches nothing")
    names = Counter(str(job) for job in jobs)
    twice = [name for name, n in names.items() if n > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: {names[twice[0]]} jobs of this sweep are the same run")


def with_wandb(jobs: Sequence[Job]) -> list[Job]:
    """Whether W&B goes online is decided once for all jobs."""
    resolved = {mode: wandb_mode(mode) for mode in {job.config.logger.mode for job in jobs}}
    if "auto" in resolved:
        mode, why = resolved["auto"]
        print(f"W&B {mode}: {why}" if why else f"W&B {mode}")
    modes = {asked: mode for asked, (mode, _) in resolved.items()}
    return [
        replace(job, config=replace(job.config, logger=replace(job.config.logger, mode=modes[job.config.logger.mode])))
        for job in jobs
    ]


def finished(jobs: Sequence[Job]) -> dict[str, Result]:
    """Runs that need no worker at all. The tokens are built here if they are not in the cache."""
    began = time.perf_counter()
    stores = load_all([job.config for job in jobs])
    if (seconds := time.perf_counter() - began) > 3:
        print(f"tokens: {duration(seconds)} to build them into the cache", flush=True)
    results = {}
    for job in jobs:
        record = finished_before(job.config, stores[corpus_of(job.config)].data_id)
        if record is not None and not job.config.force and not damaged(job.config.run_dir):
            results[str(job)] = Result(str(job), "skipped", "finished before", record.loss_val)
    return results


def _surveyed(jobs: Sequence[Job], before: Mapping[str, Result], workers: int | None) -> tuple[list[Planned], Layout]:
    machine, sizes = call(survey, [job.config for job in jobs])
    runs = [
        Planned(job.config, size, before[str(job)].reason if str(job) in before else "")
        for job, size in zip(jobs, sizes, strict=True)
    ]
    needs = [run.size.need for run in runs if not run.skip] or [run.size.need for run in runs]
    threads = max((job.config.trainer.threads or 0 for job in jobs), default=0) or None
    if any(job.config.trainer.devices != 1 for job in jobs):  # a run on several devices has the machine to itself
        machine, workers = replace(machine, gpus=machine.gpus[:1]), 1
    chosen = layout(machine, needs, workers, threads)
    if chosen.warning:
        print(f"warning: {chosen.warning}")
    return runs, chosen


def with_threads(job: Job, threads: int) -> Job:
    trainer = job.config.trainer
    return replace(job, config=replace(job.config, trainer=replace(trainer, threads=trainer.threads or threads)))


def _place(config: TrainConfig) -> str:
    from scaling.training.session import check

    device, precision = check(config)
    return place(device.type, precision)


def run_job(job: Job) -> Result:
    """In a worker: import what trains, once, and run the job."""
    from scaling.training import session

    outcome = session.run(job.config, job.overrides)
    return Result(outcome.run_name, outcome.status, outcome.reason, outcome.loss_val)


def _result(done: Done[Job], stopped: int | None) -> Result:
    name, error = str(done.item), done.error
    if error is None:
        assert isinstance(done.value, Result)
        return done.value
    if stopped is not None:
        return Result(name, "interrupted")
    if isinstance(error, ProcessExpired):
        return Result(name, "failed", f"its worker died twice ({error})")
    return Result(name, "failed", f"{type(error).__name__}: {error}".splitlines()[0])


def close(results: Sequence[Result], stopped: int | None) -> int:
    """The sweep's last words, and its exit code."""
    counts = Counter(result.status for result in results)
    print(f"{plural(len(results), 'run')} in {duration(time.perf_counter() - _began)}: {summary(counts)}")
    told = [result for result in results if result.status not in GOOD | {"not started"}]
    if told:
        print_table(("run", "ended", "loss", "reason"), list(_rows(told)))
    if stopped is not None:
        print("stopped: the same line finishes what is missing")
        return 128 + stopped
    return 0 if counts.keys() <= GOOD else 1


def _rows(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for result in results:
        loss = f"{result.loss_val:.4f}" if result.loss_val is not None else ""
        yield (result.run_name, result.status, loss, result.reason)
