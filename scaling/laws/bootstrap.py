"""Resampling of runs and intervals from it.

Resampled are independent units: runs, or cells of several seeds, or groups that the caller names; never the
checkpoints of one run, which are correlated and would make intervals several times too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.laws.errors import Array, LawError
from scaling.laws.identify import smooth_enough, widened
from scaling.laws.solver import Problem, Solution, solve

MANY = 500  # points above which one step from the optimum is tried instead of a refit
CHECKED = 24  # resamples that are refitted in full beside it
FEW, WORK = 60, 600_000  # refits at least, and points in all of them, where one step is not enough
CLOSE = 0.2  # of a parameter's spread: that far may the two differ, in root mean square
KERNEL = 0.3  # of the noise's sd: half width of the window in which a kink's curvature is counted
STEP = 1e-5  # of theta, in differences of the gradient


def units(groups: NDArray[np.int64], draws: int, seed: int) -> Array:
    """Counts (draws, units) of a pairs bootstrap: as many units as there are, drawn with replacement."""
    return _drawn(int(groups.max()) + 1, draws, seed)


@lru_cache(maxsize=1)  # the laws of one table share their resamples
def _drawn(count: int, draws: int, seed: int) -> Array:
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


def refit(problem: Problem, best: Array, weights: Array, counts: Array, groups: NDArray[np.int64]) -> Array:
    """theta (R, p), one fit per row of counts (R, units), each unit with all its points (groups (n,)). Of more than
    MANY points CHECKED rows are fitted in full, and the rest by one step where that gave the same answer for these;
    where it did not, as many rows as WORK allows are fitted, but FEW at least (a standard error to 9 %)."""
    if problem.surface.n <= MANY:
        return in_full(problem, best, weights, counts[:, groups])
    r = problem.objective.residual(problem.surface.value(best[None]), problem.log_loss)[0][0]
    problem = smooth_enough(problem, r)
    full = in_full(problem, best, weights, counts[:CHECKED, groups])
    if len(counts) <= CHECKED:
        return full
    step = one_step(problem, best, weights, counts, groups)
    off, spread = np.std(step[:CHECKED] - full, axis=0), np.std(full, axis=0)
    if np.isfinite(step).all() and (off <= CLOSE * spread).all():
        return np.concatenate([full, step[CHECKED:]])
    most = max(FEW, WORK // problem.surface.n)
    return np.concatenate([full, in_full(problem, best, weights, counts[CHECKED:most, groups])])


def one_step(problem: Problem, best: Array, weights: Array, counts: Array, groups: NDArray[np.int64]) -> Array:
    """One Newton step from the optimum by each resample's own gradient and Hessian (Davidson & MacKinnon 1999,
    International Economic Review 40): those of each unit are taken once, and all resamples are two matrix products.
    The error falls with the number of points. nan where a Hessian is not positive."""
    surface, T, p = problem.surface, problem.T, problem.surface.p
    f, J, _ = surface.evaluate(best[None])
    r, m = problem.objective.residual(f, problem.log_loss)
    moved = best + STEP * np.concatenate([np.eye(p), -np.eye(p)])
    ends = surface.evaluate(moved)[1].reshape(2, p, p, -1)
    second = (ends[0] - ends[1]) / (2 * STEP)  # of f, (p, p, n); differences of the exact gradient do for all laws
    o, wide = problem.objective, widened(problem, r[0], KERNEL).objective  # a kink's curvature is a density

    def per_unit(values: Array) -> Array:
        rows = values.reshape(-1, surface.n) * weights
        return np.stack([np.bincount(groups, weights=row, minlength=counts.shape[1]) for row in rows])

    score = per_unit(o.slope(r) * m * J[0])
    score -= score.mean(axis=1, keepdims=True)  # zero at a smooth optimum
    curve, slope = wide.curve(r) * m * m, wide.slope(r) * m
    if not o.log:
        curve = curve + slope  # d2 exp(f) = exp(f) (d2f + J J')
    outer = J[0][:, None] * J[0][None]
    H = (counts @ per_unit(curve * outer + slope * second).T).reshape(-1, p, p)
    step, positive = solve(T.T @ H @ T, -(counts @ score.T) @ T)
    return np.where(positive[:, None], best + step @ T.T, np.nan)


def in_full(problem: Problem, best: Array, weights: Array, counts: Array) -> Array:
    """Refits to convergence, started at the optimum of the data themselves. Those that do not converge from there
    start again from the median of those that did."""

    def run(start: Array, rows: Array) -> Solution:
        return problem.minimise(start, weights * rows, delta0=first, max_iter=100, tol=tol)

    # relative to a gradient's size: of many points the noise in it is a hundred times this
    tol = 1e-7 if problem.surface.n <= MANY else 1e-5
    first = problem.floor if not problem.objective.exact else None
    found = run(np.repeat(best[None], len(counts), axis=0), counts)
    lost = np.flatnonzero(found.gradient > 1e-4)
    if 0 < len(lost) < len(counts):
        middle = np.median(np.delete(found.theta, lost, axis=0), axis=0)
        again = run(np.repeat(middle[None], len(lost), axis=0), counts[lost])
        better = again.value < found.value[lost]
        found.theta[lost[better]] = again.theta[better]
    return found.theta


def interval(
    estimate: float, draws: Array, level: float, n: int, p: int, *, scale: str = "plain", smooth: float = 1.0
) -> tuple[float, float]:
    """Student's t around the estimate with the bootstrap's standard error, on the scale where the quantity is
    closest to normal: "log" for coefficients and counts, "odds" for shares of one, "plain" for the rest.

    n: independent units; p: free parameters; smooth: share of residuals in the quadratic part of the objective.
    Residuals of least squares are smaller than the noise, which sqrt(n / (n - p)) mends; kinked objectives need
    none of it, nor Student's allowance for an estimated variance. Chosen by simulation at 40 to 60 points
    (docs/estimation.md): percentile intervals come out too narrow for squares and too wide for near-absolute
    objectives, this one right for both. Unbounded where n <= p or the estimate itself is at infinity.
    """
    if not 0 < level < 1:
        raise LawError(f"level={level}: must lie between 0 and 1")
    from scipy.special import stdtrit  # late: importing this package should cost next to nothing

    to, back = SCALES[scale]
    with np.errstate(all="ignore"):
        moved, centre = to(draws), float(to(np.float64(estimate)))
        if n <= p or not np.isfinite(centre) or np.isfinite(moved).sum() < 2:
            return float(back(-np.inf)), float(back(np.inf))
        se = float(np.std(moved[np.isfinite(moved)], ddof=1)) * (n / (n - p)) ** (smooth / 2)
        half = float(stdtrit((n - p) / max(smooth, 1e-9), (1 + level) / 2)) * se
        return float(back(centre - half)), float(back(centre + half))


SCALES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "plain": (lambda v: v, lambda v: v),
    "log": (np.log, np.exp),
    "odds": (lambda v: np.log(v / (1 - v)), lambda v: 1 / (1 + np.exp(-v))),
}
