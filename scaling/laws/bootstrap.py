"""Resampling of runs and intervals from it.

Resampled are independent units: runs, or cells of several seeds, or groups that the caller names; never the
checkpoints of one run, which are correlated and would make intervals several times too narrow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scaling.laws.errors import Array, LawError
from scaling.laws.solver import Problem, Solution


def units(groups: NDArray[np.int64], draws: int, seed: int) -> Array:
    """Weights (draws, n) of a pairs bootstrap over units, each with all its rows. The weights are exponential
    (Rubin 1981) rather than counts: near a kink counts make a lumpy distribution that is too wide at 50 points,
    and a design of few sizes can lose one of them."""
    drawn = np.random.default_rng(seed).exponential(size=(draws, int(groups.max()) + 1))
    return drawn[:, groups]


def refit(problem: Problem, best: Array, weights: Array, counts: Array) -> Solution:
    """One fit per row of counts (R, n), started at the optimum of the data themselves. Those that do not converge
    from there start again from the median of those that did."""
    def run(start: Array, rows: Array) -> Solution:
        return problem.minimise(start, weights * rows, delta0=first, max_iter=100, tol=1e-7)

    first = problem.floor if not problem.objective.exact else None
    found = run(np.repeat(best[None], len(counts), axis=0), counts)
    lost = np.flatnonzero(found.gradient > 1e-4)
    if 0 < len(lost) < len(counts):
        middle = np.median(np.delete(found.theta, lost, axis=0), axis=0)
        again = run(np.repeat(middle[None], len(lost), axis=0), counts[lost])
        better = again.value < found.value[lost]
        found.theta[lost[better]], found.value[lost[better]] = again.theta[better], again.value[better]
        found.gradient[lost[better]] = again.gradient[better]
    return found


def interval(draws: Array, level: float, n: int, p: int, smooth: float) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg 2015, arXiv 1411.5279): quantiles of the draws at levels widened to
    those of Student's t with n - p degrees of freedom and by sqrt(n / (n - p)), since the residuals of a fit are
    smaller than the noise. n: independent units; p: free parameters; smooth: share of points in the quadratic
    part of the objective. Kinked objectives (smooth near 0) need no widening: at 40-60 points their bootstrap is
    wide enough already, as the coverage benchmark shows. Unbounded where n <= p.
    """
    if not 0 < level < 1:
        raise LawError(f"level={level}: must lie between 0 and 1")
    if n <= p:
        return float("-inf"), float("inf")
    from scipy.special import ndtr, ndtri, stdtrit  # late: importing this package should cost next to nothing

    tail = (1 - level) / 2
    z, t = -ndtri(tail), -stdtrit(n - p, tail) * (n / (n - p)) ** 0.5
    tail = float(ndtr(-z * (t / z) ** smooth))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
