"""Resampling of runs and intervals from it.

Resampled are independent units: runs, or cells of several seeds, or groups that the caller names; never the
checkpoints of one run, which are correlated and would make intervals several times too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.laws.errors import Array, LawError
from scaling.laws.solver import Problem, Solution


def units(groups: NDArray[np.int64], draws: int, seed: int) -> Array:
    """Counts (draws, n) of a pairs bootstrap: as many units as there are, drawn with replacement, each with all its
    rows."""
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    return drawn[:, groups].astype(float)


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
