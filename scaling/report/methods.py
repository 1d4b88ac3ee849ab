"""Approaches 1 and 2: slopes read off frontiers, training curves and isoFLOP slices, each as rows of the table."""

from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.laws import (
    Curve,
    Envelope,
    Frontier,
    FrontierRegression,
    Isoflop,
    LawError,
    envelope,
    frontier,
    isoflop,
    isoflop_from_grid,
)
from scaling.report.estimate import Estimate, not_identified
from scaling.sources.select import Selection
from scaling.sources.table import Counting

EVERY = "frontier, every point"
INTERIOR = "frontier, interior points"
HULL = "convex hull"
ENVELOPE = "envelope of training curves"
ISOFLOP = "isoFLOP, {}"
EDGE_SHARE = 0.1  # a line through more edge points than this is a picture of the grid
MANY = 2000  # runs above which fewer resamples do: noise drawn 100 times knows a spread to 7 %
FEWER_SLICES, FEWER_FRONTIERS = 100, 200
SLICE = 0.05  # runs whose C differ by less are one isoFLOP budget
SLICE_SIZES, SLICES = 4, 3  # as few sizes in a budget, and budgets, make a study an isoFLOP design


def columns(selection: Selection, counting: Counting) -> tuple[pd.Series, ...]:
    """N, D, C, loss of the runs in use."""
    runs = selection.used
    return counting.N(runs), runs["tokens"].astype(float), counting.C(runs), runs["loss"].astype(float)


def from_frontier(
    selection: Selection, counting: Counting, draws: int, seed: int
) -> tuple[Frontier, FrontierRegression | None, list[Estimate]]:
    """The Pareto frontier, its regression, and the rows of it and of its convex hull."""
    found = frontier(*columns(selection, counting))
    draws = _of_many(len(selection.used), draws, FEWER_FRONTIERS)
    try:
        line = found.regress()
    except LawError as error:
        return found, None, [Estimate.none(method, counting, str(error)) for method in (EVERY, INTERIOR, HULL)]
    on_edge, points = int((~found.interior).sum()), len(found.C)
    at_edge = f"{on_edge} of {points} points are the edge of the grid"
    on_grid = on_edge > EDGE_SHARE * points
    verdict = not_identified(f"{at_edge}, no optima") if on_grid else line.verdict if not line.identified else at_edge
    every = Estimate.line(EVERY, counting, line.all, line.identified and not on_grid, verdict)
    interior = Estimate.none(INTERIOR, counting, line.verdict)
    if line.interior is not None:
        interior = Estimate.line(INTERIOR, counting, line.interior, True, line.verdict)
    if draws:
        every = every.resampled(found.bootstrap(draws, seed=seed))
        if line.interior is not None:
            interior = interior.resampled(found.bootstrap(draws, interior=True, seed=seed))
    return found, line, [every, interior, _hull(selection, counting, draws, seed)]


def _hull(selection: Selection, counting: Counting, draws: int, seed: int) -> Estimate:
    found = frontier(*columns(selection, counting), method="hull")
    try:
        line = found.regress()
    except LawError as error:
        return Estimate.none(HULL, counting, str(error))
    on_edge, points = int((~found.interior).sum()), len(found.C)
    on_grid = on_edge > EDGE_SHARE * points
    verdict = f"{on_edge} of {points} points are the edge of the grid"
    row = Estimate.line(HULL, counting, line.all, not on_grid, not_identified(verdict) if on_grid else verdict)
    return row.resampled(found.bootstrap(draws, seed=seed)) if draws else row


def _of_many(runs: int, draws: int, fewer: int) -> int:
    return draws if runs <= MANY else min(draws, fewer)


def from_curves(
    selection: Selection, curves: pd.DataFrame | None, counting: Counting, draws: int, seed: int
) -> tuple[Envelope | None, Estimate]:
    """Approach 1 over rows of undecayed learning rate and fresh data, the rows that can stand for shorter runs."""
    if curves is None or curves.empty:
        return None, Estimate.none(ENVELOPE, counting, "no training curves")
    runs = selection.used.set_index("run")
    N = counting.N(runs)
    given = []
    for name, rows in curves.groupby("run", sort=False):
        fresh = (rows["phase"] == "stable") & (rows["epoch"] <= 1)
        C = rows["flops"] if counting.c is not None else 6.0 * float(N[name]) * rows["tokens"]
        given.append(Curve(float(N[name]), rows["tokens"], C, rows["loss_train"], fresh))
    try:
        found = envelope(given)
        line = found.regress()
    except LawError as error:
        return None, Estimate.none(ENVELOPE, counting, str(error))
    if line.interior is None:
        return found, Estimate.none(ENVELOPE, counting, line.verdict)
    row = Estimate.line(ENVELOPE, counting, line.interior, True, line.verdict)
    return found, row.resampled(found.bootstrap(draws, seed=seed)) if draws else row


def from_slices(
    selection: Selection, counting: Counting, method: str, noise: float | None, draws: int, seed: int
) -> tuple[Isoflop | None, Estimate]:
    """Approach 2: on the study's own isoFLOP budgets, or interpolated from its grid of sizes and tokens."""
    N, D, C, loss = columns(selection, counting)
    name = ISOFLOP.format(method)
    draws = max(_of_many(len(N), draws, FEWER_SLICES), 2)
    try:
        if is_isoflop_design(N, C):
            found = isoflop(N, C, loss, method, D=D, noise=noise, tolerance=SLICE, draws=draws, seed=seed)
        else:
            found = isoflop_from_grid(N, D, C, loss, method, noise=noise, draws=draws, seed=seed)
        if not found.identified:
            return found, Estimate.none(name, counting, found.verdict)
        row = Estimate.line(name, counting, found.regress(), True, found.verdict)
    except ValueError as error:  # LawError, and what an interpolator refuses
        return None, Estimate.none(name, counting, str(error))
    return found, replace(row, interval=f"noise: {found.noise_source}") if found.noise > 0 else row


def is_isoflop_design(N: pd.Series, C: pd.Series) -> bool:
    """Whether runs share their C, rather than their D, often enough to be read slice by slice."""
    label = np.round(np.log(C) / np.log1p(SLICE))
    return int((N.groupby(label).nunique() >= SLICE_SIZES).sum()) >= SLICES
