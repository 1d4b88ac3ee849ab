"""What the pictures show, as arrays: drawn for print by matplotlib, for the page by Plotly."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.laws import Exponents, Isoflop, frontier
from scaling.report import methods
from scaling.report.analysis import Analysis
from scaling.report.parametric import Fit

Array = NDArray[np.float64]
Band = tuple[Array, Array]
NAMED_SIZES = 12  # more sizes than this are told apart by a ramp of colours
SLICES_DRAWN = 9
POINTS = 60  # of a drawn line
WIDE = 1e4  # a band whose ends differ by more than this factor is no picture


@dataclass(frozen=True)
class Sizes:
    """Runs in classes of N, each of one colour: `of` is the class of each run, `N` the middle of each class.

    `named`: every class is one size; otherwise sizes are too many to name, and classes divide log N evenly.
    """

    of: NDArray[np.int64]
    N: Array
    named: bool


@dataclass(frozen=True)
class Path:
    """N_opt and D_opt over C (FLOPs) by one method; bands are 95 %, None where there are none."""

    method: str
    kind: str  # frontier | envelope | isoflop | law
    identified: bool
    C: Array
    N: Array
    D: Array
    N_band: Band | None = None
    D_band: Band | None = None


@dataclass(frozen=True)
class Optima:
    """Optima that a method found budget by budget, `spread` 2 sd of log N as a factor (None where not known)."""

    method: str
    kind: str
    C: Array
    N: Array
    D: Array
    spread: Array | None = None


@dataclass(frozen=True)
class Slice:
    """Loss over N at one budget C (FLOPs); `best` is (N, loss) of an optimum inside the slice."""

    C: float
    N: Array
    loss: Array
    best: tuple[float, float] | None


def sizes(N: pd.Series) -> Sizes:
    values, of = np.unique(N.to_numpy(dtype=float), return_inverse=True)
    if len(values) <= NAMED_SIZES:
        return Sizes(of.ravel(), values, True)
    ends = np.geomspace(values[0], values[-1], NAMED_SIZES + 1)
    return Sizes(np.digitize(N, ends[1:-1]), np.sqrt(ends[1:] * ends[:-1]), False)


def paths(analysis: Analysis) -> Iterator[Path]:
    """Every method that names a size for a budget, over the compute that the runs span."""
    primary = analysis.selection.primary
    N, D, C, _ = methods.columns(analysis.selection, primary)
    grid = np.geomspace(C.min(), C.max(), POINTS)
    rows = {e.method: e for e in reversed(analysis.estimates) if e.counting.n == primary.n}

    def line(method: str, kind: str, found: Exponents) -> Path:
        bands = [_finite(one.band(grid)) for one in (found.N, found.D)]
        return Path(method, kind, rows[method].identified, grid, found.N.predict(grid), found.D.predict(grid), *bands)

    regression = analysis.frontiers[0].regression
    if regression is not None:
        yield line(methods.EVERY, "frontier", regression.all)
        if regression.interior is not None:
            yield line(methods.INTERIOR, "frontier", regression.interior)
    if rows[methods.HULL].a is not None:
        hull = frontier(*methods.columns(analysis.selection, primary), method="hull")
        yield line(methods.HULL, "frontier", hull.regress().all)
    if analysis.envelope is not None and (through := analysis.envelope.regress().interior) is not None:
        yield line(methods.ENVELOPE, "envelope", through)
    for one in analysis.isoflops:
        if one.identified:
            yield line(methods.ISOFLOP.format(one.method), "isoflop", one.regress())
    k = float(np.median(C / (N * D)))
    for fit in analysis.fits:
        if fit.counting.n == primary.n and rows[fit.name].a is not None:
            yield _law(fit, rows[fit.name].identified, grid, k)


def _law(fit: Fit, identified: bool, grid: Array, k: float) -> Path:
    """The best split by a law, C = k N D with the runs' own k."""
    assert fit.found is not None
    with np.errstate(invalid="ignore"):  # resamples of a law that is not identified may have no optimum
        best = [fit.found.optimal(float(c), k=k) for c in grid]
    bands: list[Band | None] = [None, None]
    if fit.found.draws is not None:
        N_ci, D_ci = (np.array(ends, dtype=float).T for ends in ([b.N_ci for b in best], [b.D_ci for b in best]))
        bands = [_finite((N_ci[0], N_ci[1])), _finite((D_ci[0], D_ci[1]))]
    return Path(fit.name, "law", identified, grid, np.array([b.N for b in best]), np.array([b.D for b in best]), *bands)


def _finite(band: Band) -> Band | None:
    low, high = band
    return (low, high) if np.isfinite(high).all() and (high < WIDE * low).all() else None


def optima(analysis: Analysis) -> Iterator[Optima]:
    """The optima behind the lines."""
    lower = analysis.envelope
    if lower is not None and lower.interior.any():
        at = lower.interior
        yield Optima(methods.ENVELOPE, "envelope", lower.C[at], lower.N[at], lower.D[at])
    for one in analysis.isoflops:
        if one.used.any():
            at = one.used
            spread = np.exp(2 * one.std[at]) if one.noise > 0 else None
            yield Optima(methods.ISOFLOP.format(one.method), "isoflop", one.C[at], one.N[at], one.D[at], spread)


def slices(analysis: Analysis) -> list[Slice]:
    """Some isoFLOP slices, those with an optimum inside where there are any."""
    if not analysis.isoflops:
        return []
    found = analysis.isoflops[0]
    some = np.flatnonzero(found.used) if found.used.any() else np.arange(len(found.C))
    some = some[np.unique(np.linspace(0, len(some) - 1, SLICES_DRAWN).round().astype(int))]
    return [_slice(analysis, found, int(i)) for i in some]


def _slice(analysis: Analysis, found: Isoflop, i: int) -> Slice:
    """Sizes and their loss at one budget: the runs there, or between the runs of each size."""
    N, _, C, loss = methods.columns(analysis.selection, analysis.selection.primary)
    budget = float(found.C[i])
    best = (float(found.N[i]), float(found.loss[i])) if found.used[i] else None
    if methods.is_isoflop_design(N, C):
        near = np.abs(np.log(C / budget)) < methods.SLICE
        at = loss[near].groupby(N[near]).mean()
        return Slice(budget, at.index.to_numpy(dtype=float), at.to_numpy(dtype=float), best)
    points = []
    for size, rows in loss.groupby(N):
        order = np.argsort(C[rows.index].to_numpy())
        c, y = C[rows.index].to_numpy()[order], rows.to_numpy()[order]
        if c[0] <= budget * 1.001 and budget <= c[-1] * 1.001:
            points.append((float(size), float(np.exp(np.interp(np.log(budget), np.log(c), np.log(y))))))
    n, y = np.array(points).reshape(-1, 2).T
    return Slice(budget, n, y, best)


def residuals(analysis: Analysis) -> tuple[Fit, Array] | None:
    """The law that answers, and what each run's loss lies above it (log); None where no law could be fitted."""
    first = next((fit for fit in analysis.fits if fit.found is not None), None)
    if first is None or first.found is None or first.counting.n != analysis.selection.primary.n:
        return None
    loss = analysis.selection.used["loss"].to_numpy(dtype=float)
    return first, np.log(loss) - np.log(first.found.fitted)
