"""The compute frontier of a grid of runs, and the article's regression through it.

A frontier point is an optimum only where the grid had runs on either side of it (more parameters on fewer
tokens, fewer on more) and where it lies on the lower convex hull of log loss over log C: the Pareto set of a
coarse grid also holds runs that are merely unrivalled at their own C. The other points say what the grid was,
not what is best; they are kept, marked, and left out of the interior regression.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.cells import Cells, cells, same_value
from scaling.laws.errors import Array, LawError
from scaling.laws.regression import Exponents, exponents

Index = NDArray[np.int64]
MIN_INTERIOR = 3  # interior budgets, and different sizes among them, below which no slope is believed


@dataclass(frozen=True)
class FrontierRegression:
    """a and b through every frontier point (the article's way) and through the interior ones alone.

    `interior` is None and `verdict` says why where fewer than three budgets, or three sizes, are interior.
    """

    all: Exponents
    interior: Exponents | None
    interior_budgets: int
    interior_sizes: int
    identified: bool
    verdict: str


@dataclass(frozen=True)
class SlopeBootstrap:
    """Slopes a of resampled grids; `refused` is the share of draws in which no slope could be drawn."""

    slopes: Array
    refused: float

    @property
    def se(self) -> float:
        return float(np.std(self.slopes, ddof=1)) if len(self.slopes) > 1 else float("inf")

    def ci(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval; unbounded where more than the tail's share of draws gave no slope."""
        tail = (1 - level) / 2
        if len(self.slopes) < 2 or self.refused > tail:
            return float("-inf"), float("inf")
        low, high = np.quantile(self.slopes, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Frontier:
    """Frontier points in order of C (parameters, tokens, FLOPs, nats per token).

    `edge` is one of "", "N min", "N max", "D min", "D max" (joined by " and "); `interior` is where it is "";
    `supported` is where the point is on the lower hull. `cell` points into `grid`, the runs it was taken from
    with seeds of one (N, D) as one.
    """

    method: str
    N: Array
    D: Array
    C: Array
    loss: Array
    edge: tuple[str, ...]
    interior: NDArray[np.bool_]
    supported: NDArray[np.bool_]
    cell: Index
    grid: Cells
    bins_per_decade: int

    def regress(self) -> FrontierRegression:
        """log N and log D on log C by ordinary least squares. Raises LawError with fewer than two points."""
        if len(self.C) < 2:
            raise LawError(f"the frontier has {len(self.C)} point: a slope needs two, and a grid of runs")
        inside = self.interior & self.supported
        budgets, sizes = (len(set(same_value(v[inside]))) if inside.any() else 0 for v in (self.C, self.N))
        identified = budgets >= MIN_INTERIOR and sizes >= MIN_INTERIOR
        return FrontierRegression(
            all=exponents(self.C, self.N, self.D),
            interior=exponents(self.C[inside], self.N[inside], self.D[inside]) if identified else None,
            interior_budgets=budgets,
            interior_sizes=sizes,
            identified=identified,
            verdict=self._verdict(budgets, sizes, identified),
        )

    def bootstrap(self, draws: int = 1000, *, interior: bool = False, seed: int = 0) -> SlopeBootstrap:
        """Slope a on grids whose runs are drawn with replacement (pairs bootstrap over runs).

        It shows how much hangs on single runs; what hangs on the grid itself is `grid_bias`. With `interior`
        a draw with fewer than three interior budgets or sizes gives no slope and is counted in `refused`.
        """
        if draws < 2:
            raise LawError(f"draws = {draws}: at least 2")
        rng, pick = np.random.default_rng(seed), picker(self.method, self.bins_per_decade)
        grid = self.grid.ordered(np.argsort(same_value(self.grid.C), kind="stable"))  # sorted once, not in every draw
        log_c, log_n, budget, size = np.log(grid.C), np.log(grid.N), same_value(grid.C), same_value(grid.N)
        inside = np.array([not e for e in _edges(grid, np.arange(len(grid.N)))])
        slopes = np.full(draws, np.nan)
        for draw in range(draws):
            hit, loss = grid.resample(rng.integers(len(grid.row_cell), size=len(grid.row_cell)))
            chosen = hit[pick(log_c[hit], budget[hit], loss)]
            if interior:
                full = np.full(len(grid.N), np.inf)
                full[hit] = loss
                hull = _hull(log_c[chosen], np.arange(len(chosen)), full[chosen])
                chosen = chosen[hull][inside[chosen[hull]]]
                if min(len(set(budget[chosen])), len(set(size[chosen]))) < MIN_INTERIOR:
                    continue
            slopes[draw] = slope(log_c[chosen], log_n[chosen])
        drawn = np.isfinite(slopes)
        return SlopeBootstrap(slopes[drawn], float(1 - drawn.mean()))

    def _verdict(self, budgets: int, sizes: int, identified: bool) -> str:
        total = len(set(same_value(self.C)))
        seen = f"{budgets} of {total} frontier budgets have an interior optimum, at {sizes} sizes"
        if identified:
            return f"{seen}: the interior slope stands on them"
        counts = {name: sum(name in e for e in self.edge) for name in ("N min", "N max", "D min", "D max")}
        where = ", ".join(f"{k} at {v}" for k, v in counts.items() if v)
        needed = f"at least {MIN_INTERIOR} budgets and {MIN_INTERIOR} sizes are needed"
        return f"not identified: {seen}, {needed}" + (f" (edge of the grid: {where})" if where else "")


def frontier(
    N: ArrayLike,
    D: ArrayLike,
    C: ArrayLike,
    loss: ArrayLike,
    *,
    method: str = "pareto",
    bins_per_decade: int = 4,
) -> Frontier:
    """Runs that no cheaper run equals in loss. N parameters, D tokens, C FLOPs, loss nats per token.

    `pareto`: all of them. `hull`: the lower convex hull of (log C, log loss), as a saturating power law is
    convex there. `binned`: the best run of each bin of log C, less those worse than a cheaper bin's, so no
    stretch of C counts double. Several seeds of one (N, D) count as one run with their mean loss.
    Raises LawError for columns that are not finite and positive, or differ in length.
    """
    grid = cells(N, D, C, loss)
    log_c, budget = np.log(grid.C), same_value(grid.C)
    chosen = picker(method, bins_per_decade)(log_c, budget, grid.loss)
    edge = _edges(grid, chosen)
    return Frontier(
        method=method,
        N=grid.N[chosen],
        D=grid.D[chosen],
        C=grid.C[chosen],
        loss=grid.loss[chosen],
        edge=edge,
        interior=np.array([not e for e in edge], dtype=bool),
        supported=np.isin(chosen, _hull(log_c, budget, grid.loss)),
        cell=chosen,
        grid=grid,
        bins_per_decade=bins_per_decade,
    )


def pareto(budget: Index, loss: Array) -> Index:
    """Indices of the strict running minimum of loss over ascending budget labels, one a budget at most."""
    order = np.argsort(budget, kind="stable")
    y, new = loss[order], np.diff(budget[order], prepend=budget[order[:1]] - 1) > 0
    group = np.cumsum(new) - 1
    lowest = np.minimum.reduceat(y, np.flatnonzero(new))
    at = np.flatnonzero(y == lowest[group])
    at = at[np.diff(group[at], prepend=-1) > 0]  # the first of equals
    return np.asarray(order[at[lowest < np.minimum.accumulate(np.concatenate([[np.inf], lowest[:-1]]))]])


def slope(log_x: Array, log_y: Array) -> float:
    """Least-squares slope alone, for the inside of a bootstrap; nan where x does not vary."""
    if len(log_x) < 2:
        return float("nan")
    centred = log_x - log_x.mean()
    spread = centred @ centred
    return float(centred @ log_y / spread) if spread > 1e-12 else float("nan")


def picker(method: str, bins_per_decade: int = 4) -> Callable[[Array, Index, Array], Index]:
    """(log C, budget label, loss) -> indices of the frontier in order of C."""
    if method == "pareto":
        return lambda log_c, budget, loss: pareto(budget, loss)
    if method == "hull":
        return _hull
    if method == "binned":
        if bins_per_decade < 1:
            raise LawError(f"bins_per_decade = {bins_per_decade}: at least 1")
        width = np.log(10) / bins_per_decade

        def binned(log_c: Array, budget: Index, loss: Array) -> Index:
            return pareto(np.floor((log_c - log_c.min()) / width + 1e-9).astype(np.int64), loss)

        return binned
    raise LawError(f"method = {method!r}: one of pareto, hull, binned")


def _hull(log_c: Array, budget: Index, loss: Array) -> Index:
    """Lower convex hull of the Pareto points (Andrew's monotone chain)."""
    points = pareto(budget, loss)
    x, y = log_c[points].tolist(), np.log(loss[points]).tolist()
    hull: list[int] = []
    for i in range(len(points)):
        while len(hull) > 1:
            p, q = hull[-2], hull[-1]
            turn = (x[q] - x[p]) * (y[i] - y[p]) - (y[q] - y[p]) * (x[i] - x[p])
            if turn > 0:
                break
            hull.pop()
        hull.append(i)
    return points[hull]


def _edges(grid: Cells, chosen: Index) -> tuple[str, ...]:
    """Which edge of the grid's N and D each chosen cell lies on."""
    n, d = same_value(grid.N), same_value(grid.D)
    sides = (("N min", n == 0), ("N max", n == n.max()), ("D min", d == 0), ("D max", d == d.max()))
    return tuple(" and ".join(name for name, at in sides if at[i]) for i in chosen)
