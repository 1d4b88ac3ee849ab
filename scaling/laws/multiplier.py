"""How much more compute one set of runs needs than another to reach the same loss, read off their frontiers.

No law is fitted: C at a loss is interpolated in (log C, log loss) along the lower hull of each set, so that only losses
that both sets reach can be asked for. Runs off the hull do not count: a set is as good as its best runs.
"""

from dataclasses import dataclass

import numpy as np

from scaling.laws.cells import same_value
from scaling.laws.errors import Array, LawError
from scaling.laws.frontier import Frontier, picker


@dataclass(frozen=True)
class Multiplier:
    """`ratio` = C of the other over C of the reference at each `loss` (nats per token, falling); `mean` is the
    geometric mean over the losses.

    Intervals are percentiles over resampled runs: (levels, 2) and (2,); nan where fewer than `ENOUGH` of the draws
    reach that loss, and everywhere without a bootstrap.
    """

    loss: Array
    C: Array
    ratio: Array
    ci: Array
    mean: float
    mean_ci: tuple[float, float]


ENOUGH = 0.5


def compute_multiplier(
    reference: Frontier, other: Frontier, *, levels: int = 9, draws: int = 500, seed: int = 0, level: float = 0.95
) -> Multiplier:
    """Compute for equal loss, over `levels` losses that both reach, evenly spaced in log loss.

    Runs of both are drawn with replacement for the intervals. Raises LawError where no loss is reached by both.
    """
    (x, y), (u, v) = _hull(reference), _hull(other)
    worst, best = min(y.max(), v.max()), max(y.min(), v.min())
    if not worst > best or min(len(x), len(u)) < 2:
        raise LawError(
            f"no loss is reached by both: {np.exp(y.max()):.3f} to {np.exp(y.min()):.3f} "
            f"and {np.exp(v.max()):.3f} to {np.exp(v.min()):.3f} nats per token"
        )
    asked = np.linspace(worst, best, levels)
    base = _compute_at(asked, x, y)
    ratio = _compute_at(asked, u, v) - base
    rng = np.random.default_rng(seed)
    drawn = np.full((draws, levels), np.nan)
    for draw in range(draws):
        drawn[draw] = _compute_at(asked, *_hull(other, rng)) - _compute_at(asked, *_hull(reference, rng))
    tails = [(1 - level) / 2, (1 + level) / 2]
    ci = np.full((levels, 2), np.nan)
    for i, column in enumerate(drawn.T):
        reached = column[np.isfinite(column)]
        if draws and len(reached) >= ENOUGH * draws:
            ci[i] = np.exp(np.quantile(reached, tails))
    means = [np.mean(row[np.isfinite(row)] - ratio[np.isfinite(row)]) for row in drawn if np.isfinite(row).any()]
    low, high = np.exp(ratio.mean() + np.quantile(means, tails)) if means else (np.nan, np.nan)
    return Multiplier(
        np.exp(asked), np.exp(base), np.exp(ratio), ci, float(np.exp(ratio.mean())), (float(low), float(high))
    )


def _hull(front: Frontier, rng: np.random.Generator | None = None) -> tuple[Array, Array]:
    """log C and log loss along the lower hull, of all runs or of as many drawn with replacement."""
    grid = front.grid
    hit, loss = np.arange(len(grid.N)), grid.loss
    if rng is not None:
        n = len(grid.row_cell)
        hit, loss = grid.resample(rng.integers(n, size=n))
    on = picker("hull")(np.log(grid.C[hit]), same_value(grid.C)[hit], loss)
    return np.log(grid.C[hit][on]), np.log(loss[on])


def _compute_at(log_loss: Array, log_c: Array, log_hull: Array) -> Array:
    """log C at which a hull reaches each loss; nan for losses it does not reach."""
    return np.interp(log_loss, log_hull[::-1], log_c[::-1], left=np.nan, right=np.nan)
