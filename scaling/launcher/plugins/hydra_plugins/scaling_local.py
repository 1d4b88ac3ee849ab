"""Hydra's view of sweeps: a sweeper that refuses empty ones, and a launcher over the pool of this machine.

Lives in the namespace package `hydra_plugins`, because Hydra 1.3 accepts plugins from nowhere else.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from scaling.config import ConfigError, TrainConfig, typed
from scaling.cores import side_by_side
from scaling.launcher.elsewhere import run_elsewhere
from scaling.launcher.local import Job, run_sweep
from scaling.launcher.pool import warm_up


class GridSweeper(BasicSweeper):
    """Every combination of the swept values, in one batch; writes nothing (Hydra's own writes `multirun.yaml`).

    Any launcher will do: with one of Hydra's plugins the sweep is checked, and closed, by `elsewhere`.
    runs: for sweeps that are no grid, one line of overrides a run; each is combined with every value of `params`.
    """

    def __init__(self, params: dict[str, str] | None = None, runs: list[str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.runs = [shlex.split(line) for line in runs or [""]]

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None and self.hydra_context is not None and self.launcher is not None
        if not isinstance(self.params or {}, Mapping):
            raise ConfigError(f"hydra.sweeper.params={self.params}: must map keys to their values")
        parameters = [f"{key}={value}" for key, value in (self.params or {}).items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*parameters, *arguments])
        for override in overrides:
            if override.is_discrete_sweep() and not list(override.sweep_string_iterator()):
                raise ConfigError(f"{override.input_line}: matches nothing")
        (batch,) = self.split_arguments(overrides, None)
        jobs = [[*run, *job] for run in self.runs for job in batch]
        if isinstance(self.launcher, LocalLauncher):
            return [self.launcher.launch(jobs, initial_job_idx=0)]
        code = run_elsewhere(composed(jobs, self.hydra_context, self.config), self.launcher)
        if code:
            raise SystemExit(code)
        return []


class LocalLauncher(Launcher):
    """Composes and checks every job before the first one starts, then hands them to the pool."""

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        warm_up()
        jobs = composed(job_overrides, self.hydra_context, self.config)
        code = run_sweep(jobs, workers=self.jobs)
        returns = [JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED) for job in jobs]
        if code:
            raise SystemExit(code)
        return returns


def composed(job_overrides: Sequence[Sequence[str]], context: HydraContext, config: DictConfig) -> list[Job]:
    """Every job of a sweep, checked before the first one starts. Raises ConfigError."""

    def compose(overrides: Sequence[str]) -> TrainConfig:
        job = context.config_loader.load_sweep_config(config, list(overrides))
        OmegaConf.set_readonly(job, None)
        with open_dict(job):
            del job["hydra"]
        return typed(job)

    configs = side_by_side(compose, job_overrides)
    return [Job(config, tuple(overrides)) for config, overrides in zip(configs, job_overrides, strict=True)]
