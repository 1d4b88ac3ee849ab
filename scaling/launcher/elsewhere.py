"""A sweep whose jobs an engine starts: SLURM or Ray, through Hydra's own plugins.

What a sweep owes its user stays the same: every job is checked and the tokens are built before anything is
submitted, what is finished is left out, and the table at the end says how each run ended. In between there is
nothing of ours: a job is a pure function of its overrides, so an engine may start it again as often as it likes.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from scaling import records
from scaling.config import ConfigError
from scaling.cores import cpu_count
from scaling.launcher.local import Job, Result, check, close, dry_run, finished, run_job, with_threads, with_wandb
from scaling.launcher.machine import MAX_THREADS
from scaling.launcher.stopping import stop_on_sigterm, working
from scaling.launcher.table import plural

NVIDIA = Path("/dev/nvidiactl")  # is there where a GPU is, hidden from this process or not


def run_elsewhere(jobs: Sequence[Job], launcher: Launcher) -> int:
    """All jobs on the launcher's engine. Returns the exit code: 0 if every run is finished now."""
    check(jobs)
    before = finished(jobs)
    if any(job.config.dry_run for job in jobs):
        return dry_run(jobs, before, None)
    todo = [job for job in jobs if str(job) not in before]
    print(f"{plural(len(jobs), 'run')}: {len(before)} finished before, {len(todo)} to do", flush=True)
    results: list[Result] = []
    stopped: int | None = None
    for first in range(0, len(todo), size := _at_once(launcher, len(todo))):
        part = todo[first : first + size]
        try:
            returns = launcher.launch([list(job.overrides) for job in part], initial_job_idx=first)
            results += [_returned(job, answer) for job, answer in zip(part, returns, strict=True)]
        except KeyboardInterrupt:
            print("stopped watching; an engine with a queue of its own goes on: analyze.py --config-name=status")
            results, stopped = [*results, *map(_recorded, part)], 2
            break
        except Exception as error:  # the engine lost a job: what became of each is in its record
            print(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
            results += map(_recorded, part)
    return close([*before.values(), *results], stopped)


def run_there(job: Job, home: str) -> Result:
    """In a job of an engine, on whatever machine; `home` is where the sweep was started, on storage all share.

    A run that fails says so in its result. Only a signal leaves by SystemExit: the engine must not take it for done.
    """
    try:
        os.chdir(home)
    except OSError as error:
        node = os.uname().nodename
        raise ConfigError(f"{home}: not there on {node}; a sweep needs storage that all nodes share") from error
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" and job.config.trainer.device == "auto" and NVIDIA.exists():
        raise ConfigError(
            "trainer.device=auto: there is a GPU, but the launcher gave the job none; allowed: cpu, or ask for one by "
            "hydra.launcher.gpus_per_node=1 (slurm), hydra.launcher.ray.remote.num_gpus=0.5 (ray)"
        )
    (job,) = with_wandb([job])  # asked here, since this machine may have no way out where the submitting one has
    asked = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("OMP_NUM_THREADS") or "1"  # Ray sets the latter
    threads = int(asked) if asked.isdecimal() else 1
    stop_on_sigterm()
    with working():
        result = run_job(with_threads(job, max(1, min(threads, cpu_count(), MAX_THREADS))))
    print(result, flush=True)
    return result


def _at_once(launcher: Launcher, jobs: int) -> int:
    """submitit's local executor has no queue: all it is given starts at once, so it is given one job a core."""
    local = getattr(launcher, "_EXECUTOR", "") == "local"
    return max(1, min(jobs, cpu_count()) if local else jobs)


def _returned(job: Job, answer: JobReturn) -> Result:
    try:
        value = answer.return_value
    except Exception as error:
        return Result(str(job), "failed", f"{type(error).__name__}: {error}".splitlines()[0])
    assert isinstance(value, Result)
    return value


def _recorded(job: Job) -> Result:
    """How a run ended, or how far it is, from its files alone."""
    with contextlib.suppress(records.RecordError):
        record = records.read(job.config.run_dir)
        return Result(str(job), record.status, record.error or "", record.loss_val)
    return Result(str(job), "not started")
