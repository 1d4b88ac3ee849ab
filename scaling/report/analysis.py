"""The analysis of one selection of runs: every method under every counting, and what each can and cannot tell."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

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
    for counting in selection.table.countings:
        say(f"frontier and training curves: {counting.label}")
        front, line, estimates = methods.from_frontier(selection, counting, bootstrap, seed)
        views.append(FrontierView(counting, front, line))
        lower, estimate = methods.from_curves(selection, curves, counting, bootstrap, seed)
        found_envelope.append(lower)
        rows += [*estimates, estimate]
    say("parametric laws")
    fits = parametric.fit_all(selection, bootstrap, seed)
    noise = parametric.noise_of(selection, fits)
    say("isoFLOP slices, hold-out and the grid")
    slices = []
    for counting in selection.table.countings:
        for method in SLICE_METHODS:
            sd = noise.sd if noise is not None else None
            found, estimate = methods.from_slices(selection, counting, method, sd, bootstrap, seed)
            rows.append(estimate)
            if counting == selection.primary and found is not None:
                slices.append(found)
    grid, no_grid = parametric.bias_of_grid(selection, noise)
    held, no_hold_out = parametric.held_out(selection, min(bootstrap, HOLD_OUT_DRAWS), seed)
    theirs, kaplan_counting, no_kaplan = parametric.kaplan_set(selection)
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


def _entropy_rate(selection: Selection) -> float | None:
    """The irreducible loss, where the source of the text has one that is known."""
    runs = selection.used
    if "entropy_rate" not in runs:
        return None
    known = runs["entropy_rate"].dropna().unique()
    return float(known[0]) if len(known) == 1 and np.isfinite(known[0]) else None
