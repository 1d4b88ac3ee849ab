"""Approach 2 (Hoffmann et al. 2022, section 3.2): the best size at each of several compute budgets.

The optimum of a budget is read off log loss over log N near its minimum, by a local quadratic or an Akima
curve (Porian et al. 2024, section 3). A parabola through the whole slice is kept for comparison only: where
slices are wide or off-centre its vertex is far from the minimum. An optimum at the edge of a slice is no
optimum: dropped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.cells import Cells, cells
from scaling.laws.errors import Array, LawError, columns
from scaling.laws.frontier import MIN_INTERIOR, SlopeBootstrap
from scaling.laws.minimum import METHODS, REACH, minimum
from scaling.laws.regression import Exponents, exponents

MIN_SIZES = {"local": 3, "akima": 4, "parabola": 3}
# Below this share of noise draws with an optimum inside the slice a budget is dropped: those left are biased.
VALID = 0.95


@dataclass(frozen=True)
class Isoflop:
    """One entry per budget, in order of C (FLOPs): N and D at the optimum (parameters, tokens), loss there
    (nats).

    `used` says which budgets enter the regression and `note` why not, or what to mind. `centre` is where the
    optimum lies in its slice (-1 smallest size, 0 middle, 1 largest), `decades` how wide the slice is,
    `sizes` how many sizes it has. `std` is the sd of log N under the noise, `valid` the share of draws with
    an optimum inside. `noise` is the sd of log loss, `noise_source` where it came from. `draws` is log N,
    draws x budgets; `shared` says that budgets were interpolated from the same runs.
    """

    method: str
    C: Array
    N: Array
    D: Array
    loss: Array
    used: NDArray[np.bool_]
    note: tuple[str, ...]
    sizes: NDArray[np.int64]
    centre: Array
    decades: Array
    std: Array
    valid: Array
    noise: float
    noise_source: str
    draws: Array
    shared: bool

    @property
    def identified(self) -> bool:
        return int(self.used.sum()) >= MIN_INTERIOR

    @property
    def verdict(self) -> str:
        found = f"{self.used.sum()} of {len(self.C)} budgets have an interior optimum"
        return found if self.identified else f"not identified: {found}, at least {MIN_INTERIOR} are needed"

    def regress(self, *, weighted: bool = True) -> Exponents:
        """a and b through the budgets used: each weighs 1 / std^2, errors as the noise draws have them.

        Ordinary least squares where `weighted` is false or the noise is unknown or zero. Budgets interpolated
        from one grid share runs; the draws carry that, so their errors are not independent here.
        Raises LawError with fewer than three budgets.
        """
        if not self.identified:
            raise LawError(self.verdict)
        keep = self.used
        std = self.std[keep] if weighted and self.noise > 0 else None
        if std is not None and self.shared:
            off = np.where(np.isfinite(self.draws), self.draws - np.log(self.N), 0.0)[:, keep]
            std = np.corrcoef(off, rowvar=False) * np.outer(std, std)
        return exponents(self.C[keep], self.N[keep], self.D[keep], std=std)

    def bootstrap(self) -> SlopeBootstrap:
        """Slope a in each noise draw, over the budgets that are used and inside their slice in that draw."""
        log_c, weight = np.log(self.C), np.where(self.std > 0, self.std, 1.0) ** -2
        inside = np.isfinite(self.draws) & self.used
        w = np.where(inside, weight, 0.0)
        total = np.maximum(w.sum(axis=1, keepdims=True), 1e-300)
        x = log_c - (w * log_c).sum(axis=1, keepdims=True) / total
        y = np.where(inside, self.draws, 0.0)
        enough = inside.sum(axis=1) >= MIN_INTERIOR
        slopes = (w * x * y).sum(axis=1)[enough] / (w * x**2).sum(axis=1)[enough]
        return SlopeBootstrap(slopes, float(1 - enough.mean()) if len(enough) else 1.0)


def isoflop(
    N: ArrayLike,
    C: ArrayLike,
    loss: ArrayLike,
    method: str = "local",
    *,
    D: ArrayLike | None = None,
    noise: float | None = None,
    tolerance: float = 0.05,
    draws: int = 200,
    seed: int = 0,
) -> Isoflop:
    """Optima of isoFLOP slices. N parameters, C FLOPs, loss nats per token, D tokens (default C / 6N).

    Runs whose C differ by less than `tolerance` (relative) are one budget; several seeds of one (N, C) are
    one point with their mean, of several D of one N the one nearest to the budget's C counts. `noise` is the sd
    of log loss: given, or else pooled from seeds, or else from how the slices scatter about local quadratics. It
    is drawn again `draws` times for the error of each optimum. `method`: local (quadratic through the five points
    about the minimum), akima, or parabola (all points; for comparison: edges are not dropped). Raises LawError for
    bad columns, an unknown method, or when no budget has enough sizes.
    """
    n, c, y = columns(3, N=N, C=C, loss=loss)
    d = c / (6 * n) if D is None else columns(3, N=N, D=D)[1]
    grid = cells(n, d, c, y)
    level, source = noise_level(grid, noise, tolerance)
    log_loss = noisy(grid, level, draws, seed)
    return from_slices(grid.N, grid.D, grid.C, log_loss, method, level, source, tolerance=tolerance)


def from_slices(
    N: Array,
    D: Array,
    C: Array,
    log_loss: Array,
    method: str,
    noise: float,
    source: str,
    *,
    tolerance: float = 1e-6,
    shared: bool = False,
) -> Isoflop:
    """Optima of slices from the log loss of each point: row 0 as measured, the rows after it with noise drawn."""
    if method not in METHODS:
        raise LawError(f"method = {method!r}: one of {', '.join(METHODS)}")
    groups = [_one_of_each_size(g, N, C) for g in budgets(C, tolerance)]
    groups = [g for g in groups if len(g) >= MIN_SIZES[method]]
    if not groups:
        raise LawError(f"no budget has {MIN_SIZES[method]} sizes, which method {method!r} needs")
    x = [np.log(N[g]) for g in groups]
    found = [minimum(x_g, log_loss[:, g], method) for x_g, g in zip(x, groups, strict=True)]
    at, bottom = (np.stack([f[i] for f in found], axis=1) for i in (0, 1))  # (1 + draws) x budgets
    best, inside = at[0], np.isfinite(at[1:])
    valid = inside.mean(axis=0) if len(inside) else np.ones(len(groups))
    C_at = np.array([np.exp(np.log(C[g]).mean()) for g in groups])
    per_token = [np.interp(o, x_g, np.log(C[g] / D[g])) for o, x_g, g in zip(best, x, groups, strict=True)]
    ends = np.array([(x_g[0], x_g[-1]) for x_g in x]).T
    return Isoflop(
        method=method,
        C=C_at,
        N=np.exp(best),
        D=C_at / np.exp(per_token),
        loss=np.exp(bottom[0]),
        used=np.isfinite(best) & ((valid >= VALID) | (method == "parabola")),
        note=tuple(_note(log_loss[0, g], best[i], x[i], float(valid[i]), method, noise) for i, g in enumerate(groups)),
        sizes=np.array([len(g) for g in groups]),
        centre=2 * (best - ends[0]) / (ends[1] - ends[0]) - 1,
        decades=(ends[1] - ends[0]) / np.log(10),
        std=np.array([np.std(at[1:][ok, i], ddof=1) if ok.sum() > 1 else 0.0 for i, ok in enumerate(inside.T)]),
        valid=valid,
        noise=noise,
        noise_source=source,
        draws=at[1:],
        shared=shared,
    )


def budgets(C: Array, tolerance: float) -> list[NDArray[np.int64]]:
    """Row indices of each budget, ascending: a new one starts where C is `tolerance` above the last one's start."""
    groups: list[list[int]] = []
    start = -np.inf
    for i in np.argsort(C, kind="stable"):
        if np.log(C[i]) - start > np.log1p(tolerance):
            groups.append([])
            start = np.log(C[i])
        groups[-1].append(int(i))
    return [np.array(g) for g in groups]


def _one_of_each_size(g: NDArray[np.int64], N: Array, C: Array) -> NDArray[np.int64]:
    """A slice by ascending N; of points that share a size the one whose C is nearest to the slice's mean."""
    off = np.abs(np.log(C[g]) - np.log(C[g]).mean())
    g = g[np.lexsort((off, N[g]))]
    return g[np.diff(N[g], prepend=0.0) > 0]


def _note(y: Array, best: float, x: Array, valid: float, method: str, noise: float) -> str:
    if not np.isfinite(best):
        lowest = int(np.argmin(y))
        if method != "parabola" and lowest in (0, len(x) - 1):
            return f"dropped: the best size is the {'smallest' if lowest == 0 else 'largest'} of the slice"
        return "dropped: no minimum inside the slice"
    if valid < VALID and method != "parabola":
        return f"dropped: the optimum leaves the slice in {1 - valid:.0%} of the noise draws"
    remarks = []
    if abs(2 * (best - x[0]) / (x[-1] - x[0]) - 1) > 0.6:
        remarks.append("off-centre: few sizes on one side of the optimum")
    if min(y[0], y[-1]) - y.min() < 3 * noise:
        remarks.append("shallow: one end of the slice is within 3 sd of the minimum")
    return "; ".join(remarks)


def noise_level(grid: Cells, noise: float | None, tolerance: float) -> tuple[float, str]:
    """Sd of log loss of one run and where it comes from: as given, from seeds, or from the slices' scatter."""
    if noise is not None:
        if not (np.isfinite(noise) and noise >= 0):
            raise LawError(f"noise = {noise}: sd of log loss, zero or more")
        return float(noise), "given"
    if np.isfinite(grid.noise):
        return grid.noise, "seeds of one run"
    return _scatter(grid, tolerance), "scatter about local quadratics"


def _scatter(grid: Cells, tolerance: float) -> float:
    """Sd of log loss about the quadratic through five points around each slice's lowest; 0 where none has them."""
    squares, freedom = 0.0, 0
    for g in budgets(grid.C, tolerance):
        g = g[np.argsort(grid.N[g])]
        x, y = np.log(grid.N[g]), np.log(grid.loss[g])
        lowest = int(np.argmin(y))
        if REACH <= lowest < len(x) - REACH:
            near = slice(lowest - REACH, lowest + REACH + 1)
            fit = np.polynomial.Polynomial.fit(x[near], y[near], 2)
            squares += float(np.sum((y[near] - fit(x[near])) ** 2))
            freedom += 2 * REACH - 2
    return float(np.sqrt(squares / freedom)) if freedom else 0.0


def noisy(grid: Cells, level: float, draws: int, seed: int) -> Array:
    """Log loss of every cell: row 0 as measured, then `draws` rows with the noise of its seeds drawn anew."""
    rng = np.random.default_rng(seed)
    shape = (draws if level > 0 else 0, len(grid.N))
    error = level / np.sqrt(grid.count) * rng.standard_normal(shape)
    return np.asarray(np.log(grid.loss) + np.concatenate([np.zeros((1, len(grid.N))), error]))
