"""The analysis of one selection of runs: every method under every counting, and what each can and cannot tell."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd
import scipy.interpolate
import scipy.special  # noqa: F401

from scaling.cores import side_by_side
from scaling.laws import CriticalBatch, Envelope, Frontier, FrontierRegression, GridBias, HoldOut, Isoflop, Kaplan
from scaling.report import methods, parametric
from scaling.report.batch import critical_batch_of
from scaling.report.estimate import Estimate
from scaling.report.parametric import Fit, Noise
from scaling.report.plan import Ask, Plan, make_plan
from scaling.sources.select import Selection
from scaling.sources.table import Counting

SLICE_METHODS = ("local", "akima")
HOLD_OUT_DRAWS = 200
PARAMETRIC_FIRST = ("data_constrained, huber", "chinchilla, huber")


@dataclass(frozen=True)
class FrontierView:
    """The Pareto frontier under one counting; `regression` is None where no line can be drawn."""

    counting: Counting
    frontier: Frontier
    regression: FrontierRegression | None


@dataclass(frozen=True)
class Analysis:
    """What a selection of runs says. `curves` are the training curves of the runs in use. Figures and answers are under
    the primary counting: `frontiers[0]`, `fits[0]`, `envelope`, `isoflops`, `grid_bias`, `hold_outs`. What could not
    be done is in `missing`, by name."""

    selection: Selection
    curves: pd.DataFrame | None
    frontiers: tuple[FrontierView, ...]
    envelope: Envelope | None
    isoflops: tuple[Isoflop, ...]
    fits: tuple[Fit, ...]
    noise: Noise | None
    grid_bias: GridBias | None
    hold_outs: tuple[HoldOut, ...]
    kaplan: Kaplan | None
    kaplan_counting: Counting
    estimates: tuple[Estimate, ...]
    missing: dict[str, str]
    entropy_rate: float | None
    plan: Plan | None = None
    critical_batch: CriticalBatch | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        return self.selection.notes

    @property
    def answer(self) -> Estimate | None:
        """The identified estimate to go by, under the primary count of N: a parametric law before isoFLOP slices
        before training curves before the frontier; None where nothing is identified."""
        primary = self.selection.primary
        known = {e.method: e for e in self.estimates if e.identified and e.counting.n == primary.n}
        slices = (methods.ISOFLOP.format(method) for method in SLICE_METHODS)
        order = (*PARAMETRIC_FIRST, *slices, methods.ENVELOPE, methods.INTERIOR)
        return next((known[name] for name in order if name in known), None)


def analyse(
    selection: Selection,
    *,
    bootstrap: int = 500,
    seed: int = 0,
    ask: Ask | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Analysis:
    """Every method under every counting, and the plan that follows. Needs one usable run; what it cannot say, it says.
    `say` hears of progress."""
    views, rows, found_envelope = [], [], []
    read = selection.table.read_curves
    curves = read(list(selection.used["run"])) if read is not None else None
    say("laws, hold-out, frontier and training curves")
    countings = selection.table.countings
    held_out, laws, fronts, lowers = _side_by_side(
        [partial(parametric.held_out, selection, min(bootstrap, HOLD_OUT_DRAWS), seed)],
        [partial(parametric.fit, selection, *plan, bootstrap, seed) for plan in parametric.plans(selection)],
        [partial(methods.from_frontier, selection, counting, bootstrap, seed) for counting in countings],
        [partial(methods.from_curves, selection, curves, counting, bootstrap, seed) for counting in countings],
    )
    for counting, (front, line, estimates), (lower, estimate) in zip(countings, fronts, lowers, strict=True):
        views.append(FrontierView(counting, front, line))
        found_envelope.append(lower)
        rows += [*estimates, estimate]
    fits = tuple(laws)
    noise = parametric.noise_of(selection, fits)
    say("isoFLOP slices and the grid")
    sd, ways = noise.sd if noise is not None else None, [*product(countings, SLICE_METHODS)]
    sliced, ((grid, no_grid),), ((theirs, kaplan_counting, no_kaplan),) = _side_by_side(
        [partial(methods.from_slices, selection, *way, sd, bootstrap, seed) for way in ways],
        [partial(parametric.bias_of_grid, selection, noise)],
        [partial(parametric.kaplan_set, selection)],
    )
    rows += [estimate for _, estimate in sliced]
    slices = [
        found for (counting, _), (found, _) in zip(ways, sliced, strict=True) if found and counting == countings[0]
    ]
    ((held, no_hold_out),) = held_out
    batch, no_batch = critical_batch_of(selection)
    missing = {"grid_bias": no_grid, "hold_out": no_hold_out, "kaplan": no_kaplan, "critical_batch": no_batch}
    said = Analysis(
        selection=selection,
        curves=curves,
        frontiers=tuple(views),
        envelope=found_envelope[0],
        isoflops=tuple(slices),
        fits=fits,
        noise=noise,
        grid_bias=grid,
        hold_outs=held,
        kaplan=theirs,
        kaplan_counting=kaplan_counting,
        estimates=(*rows, *(parametric.as_estimate(fit, fits) for fit in fits)),
        missing={name: why for name, why in missing.items() if why},
        entropy_rate=_entropy_rate(selection),
        critical_batch=batch,
    )
    say("the plan")
    return replace(said, plan=make_plan(selection, fits, views[0].frontier, said.answer, ask))


def _side_by_side(*groups: list[partial[Any]]) -> list[list[Any]]:
    """The values of every group of calls; all are spread over the cores."""
    values = iter(side_by_side(lambda call: call(), chain(*groups)))
    return [[next(values) for _ in group] for group in groups]


def _entropy_rate(selection: Selection) -> float | None:
    """The irreducible loss, where the source of the text has one that is known."""
    runs = selection.used
    if "entropy_rate" not in runs:
        return None
    known = runs["entropy_rate"].dropna().unique()
    return float(known[0]) if len(known) == 1 and np.isfinite(known[0]) else None
