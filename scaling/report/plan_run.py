"""The run of `train.py` that comes closest to a plan: its shape, what the law promises of it, and its line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaling.accounting import steps_within
from scaling.config import ConfigError, ModelConfig, TrainConfig
from scaling.laws import LawFit
from scaling.laws.plan import Cost, regret
from scaling.report import recipe
from scaling.report.style import count
from scaling.sources.select import Selection


@dataclass(frozen=True)
class PlannedRun:
    """A run of a family: N and C under the primary counting, tokens as trained (whole steps), the loss promised with
    the interval in which it should end, and the share of the budget that its shape wastes.

    `line` runs it; where it is "", `why` says what is not to be had, and numbers may be None.
    """

    why: str
    line: str = ""
    family: str = ""
    model: ModelConfig | None = None
    N: float | None = None
    tokens: int | None = None
    epochs: float | None = None
    C: float | None = None
    loss: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    extra_compute: float | None = None


def planned_run(
    selection: Selection, fit: LawFit, N: float, C: float, cost: Cost, U: float | None, runs_dir: Path | None
) -> PlannedRun:
    """The closest shape to N parameters for a budget of C FLOPs, in the family and on the data of the study."""
    runs = selection.used
    if runs_dir is None or not {"family", *recipe.SHAPE} <= set(runs.columns):
        return PlannedRun("these runs were not made by train.py here")
    if cost.tokens(N, C) <= 0:
        return PlannedRun("the budget does not even pay for the inference")

    off = np.abs(np.log(selection.primary.N(runs) / N)) + np.abs(np.log(runs["tokens"] / float(cost.tokens(N, C))))
    nearest = str(runs["run"][off.idxmin()])
    try:
        config = _here(recipe.read_config(runs_dir / nearest), runs_dir)
        if config.ladder:
            return PlannedRun("the study trained each model on through all of its budgets, a single run would not")
        shapes = [ModelConfig("", *map(int, shape)) for shape in runs[list(recipe.SHAPE)].drop_duplicates().to_numpy()]
        family = recipe.Family(config, shapes, selection.primary.n)
        shaped = family.closest(N)
        tokens = _whole_steps(config, C / shaped.flops_per_token - cost.inference_tokens / 3)
        if tokens > family.unique_tokens and not fit.law.uses_U:
            return PlannedRun(
                f"D = {count(tokens)} tokens: the data have {count(family.unique_tokens)} different ones, "
                "and these runs do not tell what repeating them is worth"
            )
        overrides = [*recipe.overrides_of(config, shape=False), *recipe.shape_overrides(shaped.model, tokens)]
        recipe.checked(overrides)
    except ConfigError as error:
        return PlannedRun(str(error))
    unique = min(U, tokens) if U is not None else None
    low, high = fit.predict_interval(shaped.N, tokens, unique, noise=True) if fit.draws is not None else (None, None)
    return PlannedRun(
        why="",
        line=recipe.command(overrides),
        family=config.family.name,
        model=shaped.model,
        N=shaped.N,
        tokens=tokens,
        epochs=tokens / family.unique_tokens,
        C=shaped.flops_per_token * tokens,
        loss=float(fit.predict(shaped.N, tokens, unique)),
        loss_low=None if low is None else float(low),
        loss_high=None if high is None else float(high),
        extra_compute=regret(fit, shaped.N, C, cost, U),
    )


def _here(config: TrainConfig, runs_dir: Path) -> TrainConfig:
    """The same settings in this place: where the runs lie now, with this machine's cache."""
    cache = recipe.checked([]).cache_dir
    return replace(config, study=runs_dir.name, output_dir=str(runs_dir.parent), cache_dir=cache)


def _whole_steps(config: TrainConfig, tokens: float) -> int:
    step = config.batch_size * config.seq_len
    whole = steps_within(int(tokens), config.batch_size, config.seq_len) * step
    if whole < step:
        raise ConfigError(f"D = {max(tokens, 0):.3g} tokens: not even one step of {step}")
    return whole
