"""The analysis of one selection of runs: frontier, regressions, verdicts, under every counting of N and C."""

from dataclasses import dataclass

import numpy as np

from scaling.laws import Exponents, Frontier, FrontierRegression, LawError, frontier
from scaling.report.estimate import Estimate
from scaling.sources.select import Selection
from scaling.sources.table import Counting

ALL = "frontier, every point"
INTERIOR = "frontier, interior points"
EDGE_SHARE = 0.1  # a line through more edge points than this is a picture of the grid
STUDENT = "Student's t of the regression"


@dataclass(frozen=True)
class FrontierView:
    """The Pareto frontier under one counting; `regression` is None, and `why` set, where no line can be drawn."""

    counting: Counting
    frontier: Frontier
    regression: FrontierRegression | None
    why: str = ""


@dataclass(frozen=True)
class Analysis:
    """What a selection of runs says. `frontiers[0]` is under the primary counting, as figures and answers are."""

    selection: Selection
    frontiers: tuple[FrontierView, ...]
    estimates: tuple[Estimate, ...]
    notes: tuple[str, ...]
    entropy_rate: float | None


def analyse(selection: Selection) -> Analysis:
    """Every method under every counting. Needs one usable run; what it cannot say, it says."""
    views = tuple(_view(selection, counting) for counting in selection.table.countings)
    estimates = tuple(e for view in views for e in _from_frontier(view))
    return Analysis(selection, views, estimates, selection.notes, _entropy_rate(selection))


def _view(selection: Selection, counting: Counting) -> FrontierView:
    runs = selection.used
    found = frontier(counting.N(runs), runs["tokens"], counting.C(runs), runs["loss"])
    try:
        return FrontierView(counting, found, found.regress())
    except LawError as error:
        return FrontierView(counting, found, None, str(error))


def _from_frontier(view: FrontierView) -> list[Estimate]:
    line, counting = view.regression, view.counting
    if line is None:
        return [Estimate.none(method, counting, view.why) for method in (ALL, INTERIOR)]
    on_edge, points = int((~view.frontier.interior).sum()), len(view.frontier.C)
    at_edge = f"{on_edge} of {points} points are the edge of the grid"
    on_grid = on_edge > EDGE_SHARE * points
    every = f"not identified: {at_edge}, no optima" if on_grid else line.verdict if not line.identified else at_edge
    interior = Estimate.none(INTERIOR, counting, line.verdict)
    if line.interior is not None:
        interior = _row(INTERIOR, counting, line.interior, line.identified, line.verdict)
    return [_row(ALL, counting, line.all, line.identified and not on_grid, every), interior]


def _row(method: str, counting: Counting, found: Exponents, identified: bool, verdict: str) -> Estimate:
    """A pair of regression lines as a row; two points make a line but hold no interval."""
    a_ci, b_ci, points = found.N.ci(), found.D.ci(), found.N.points
    note = found.note if found.note.startswith("b = 1 - a") else ""
    return Estimate(method, counting, found.a, found.b, a_ci, b_ci, points, identified, verdict, STUDENT, note)


def _entropy_rate(selection: Selection) -> float | None:
    """The irreducible loss, where the source of the text has one that is known."""
    runs = selection.used
    if "entropy_rate" not in runs:
        return None
    known = runs["entropy_rate"].dropna().unique()
    return float(known[0]) if len(known) == 1 and np.isfinite(known[0]) else None
