"""Approach 1 (Hoffmann et al. 2022, section 3.1): the lower envelope of training curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.cells import same_value
from scaling.laws.errors import Array, LawError, columns
from scaling.laws.frontier import MIN_INTERIOR, FrontierRegression, SlopeBootstrap, slope
from scaling.laws.regression import exponents


@dataclass(frozen=True)
class Curve:
    """One run while it trains: N parameters; tokens, FLOPs so far and loss (nats per token) row by row.

    `stable` marks the rows that could stand for a run that ended there: neither warm-up nor a decaying
    learning rate. There is no default: a row taken at half of a cosine is no run of half the tokens.
    """

    N: float
    D: ArrayLike
    C: ArrayLike
    loss: ArrayLike
    stable: ArrayLike


@dataclass(frozen=True)
class Envelope:
    """The best size at every budget C (FLOPs), its tokens and loss; `curve` is the index of the run.

    `interior`: curves of a smaller and of a larger size reach that C too. `log_loss` is the log loss of every
    curve at every budget (curves x budgets, inf where the curve does not reach), `sizes` the N of each curve.
    """

    C: Array
    N: Array
    D: Array
    loss: Array
    curve: NDArray[np.int64]
    interior: NDArray[np.bool_]
    sizes: Array
    log_loss: Array

    def regress(self) -> FrontierRegression:
        """a and b over all budgets and over the interior ones. The points share runs: errors by `bootstrap`."""
        inside = self.interior
        sizes = len(set(same_value(self.N[inside]))) if inside.any() else 0
        enough = inside.sum() >= MIN_INTERIOR and sizes >= MIN_INTERIOR
        seen = f"{inside.sum()} of {len(self.C)} budgets have an interior optimum, at {sizes} sizes"
        return FrontierRegression(
            all=exponents(self.C, self.N, self.D),
            interior=exponents(self.C[inside], self.N[inside], self.D[inside]) if enough else None,
            interior_budgets=int(inside.sum()),
            interior_sizes=sizes,
            identified=bool(enough),
            verdict=seen if enough else f"not identified: {seen}, at least {MIN_INTERIOR} sizes are needed",
        )

    def bootstrap(self, draws: int = 1000, *, interior: bool = True, seed: int = 0) -> SlopeBootstrap:
        """Slope a on runs drawn with replacement, whole curves at a time: rows of one curve are one observation."""
        rng, n = np.random.default_rng(seed), len(self.sizes)
        log_c, slopes = np.log(self.C), np.full(draws, np.nan)
        for draw in range(draws):
            hit = np.unique(rng.integers(n, size=n))
            best, inside = _best(self.sizes[hit], self.log_loss[hit])
            keep = best >= 0
            if interior:
                keep &= inside
                if len(np.unique(self.sizes[hit][best[keep]])) < MIN_INTERIOR:
                    continue
            slopes[draw] = slope(log_c[keep], np.log(self.sizes[hit][best[keep]]))
        drawn = np.isfinite(slopes)
        return SlopeBootstrap(slopes[drawn], float(1 - drawn.mean()))


def envelope(curves: Sequence[Curve], *, per_decade: int = 20) -> Envelope:
    """At log-spaced budgets, the run whose curve is lowest there, read between its rows in log-log.

    Only rows marked `stable` are used, nothing is extrapolated, and several runs of one N compete as they are
    (average their curves first to make them one). Raises LawError where fewer than two sizes are left.
    """
    if per_decade < 1:
        raise LawError(f"per_decade = {per_decade}: at least 1")
    kept = [(i, c.N, *rows) for i, c in enumerate(curves) if (rows := _stable_rows(i, c)) is not None]
    if len({float(n) for _, n, *_ in kept}) < 2:
        raise LawError(f"{len(kept)} of {len(curves)} curves have two stable rows or more: two sizes are needed")
    low, high = min(c[0] for _, _, c, _, _ in kept), max(c[-1] for _, _, c, _, _ in kept)
    grid = np.linspace(low, high, max(2, round((high - low) / np.log(10) * per_decade) + 1))
    log_loss = np.array([np.interp(grid, c, y, np.inf, np.inf) for _, _, c, _, y in kept])
    log_d = np.array([np.interp(grid, c, d) for _, _, c, d, _ in kept])
    sizes = np.array([float(n) for _, n, *_ in kept])
    best, inside = _best(sizes, log_loss)
    some = best >= 0
    return Envelope(
        C=np.exp(grid[some]),
        N=sizes[best[some]],
        D=np.exp(log_d[best[some], np.flatnonzero(some)]),
        loss=np.exp(log_loss[best[some], np.flatnonzero(some)]),
        curve=np.array([i for i, *_ in kept])[best[some]],
        interior=inside[some],
        sizes=sizes,
        log_loss=log_loss[:, some],
    )


def _best(sizes: Array, log_loss: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Per budget the lowest curve (-1 where none reaches), and whether a smaller and a larger size reach it."""
    reach = np.isfinite(log_loss)
    best = np.where(reach.any(axis=0), np.argmin(log_loss, axis=0), -1)
    at = np.where(reach, sizes[:, None], np.nan)
    inside = np.zeros(log_loss.shape[1], dtype=bool)
    some = best >= 0
    n = sizes[best[some]]
    inside[some] = (np.nanmin(at[:, some], axis=0) < n) & (n < np.nanmax(at[:, some], axis=0))
    return best, inside


def _stable_rows(index: int, curve: Curve) -> tuple[Array, Array, Array] | None:
    """log C, log D, log loss of the stable rows in order of C; None where there are fewer than two."""
    stable = np.atleast_1d(np.asarray(curve.stable, dtype=bool))
    names = {f"curves[{index}].{k}": getattr(curve, k) for k in ("C", "D", "loss")}
    c, d, y = (np.log(v) for v in columns(1, **names))
    if len(stable) != len(c):
        raise LawError(f"curves[{index}]: stable has {len(stable)} rows, C has {len(c)}")
    columns(1, **{f"curves[{index}].N": curve.N})
    order = np.flatnonzero(stable)[np.argsort(c[stable], kind="stable")]
    return (c[order], d[order], y[order]) if len(order) >= 2 else None
