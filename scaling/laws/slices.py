"""isoFLOP slices out of a rectangular grid of runs, by interpolation along each size's own tokens."""

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws.cells import cells, same_value
from scaling.laws.errors import Array, LawError, columns
from scaling.laws.frontier import Index
from scaling.laws.isoflop import MIN_SIZES, Isoflop, from_slices, noisy

SIZES = 5  # a default budget is one that at least this many sizes reach


def isoflop_from_grid(
    N: ArrayLike,
    D: ArrayLike,
    C: ArrayLike,
    loss: ArrayLike,
    method: str = "local",
    *,
    budgets: ArrayLike | None = None,
    noise: float | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Isoflop:
    """Approach 2 on runs of a size x token grid: N parameters, D tokens, C FLOPs, loss nats per token.

    Each size's log loss is interpolated over log C by a monotone cubic (PCHIP), never extrapolated; a budget
    takes the sizes whose runs reach from below to above it. Default `budgets` (FLOPs): one for every step of
    the token grid, over the range that five sizes reach. Neighbouring budgets share runs: noise is drawn for
    runs, not for slices, and the errors of the regression follow from that. `noise` is the sd of log loss
    (given, or from several seeds of one (N, D), or else taken as zero). Raises LawError where no budget has
    enough sizes.
    """
    from scipy.interpolate import PchipInterpolator

    grid = cells(N, D, C, loss)
    if noise is not None and not (np.isfinite(noise) and noise >= 0):
        raise LawError(f"noise = {noise}: sd of log loss, zero or more")
    known = noise is not None or np.isfinite(grid.noise)
    level = float(noise if noise is not None else grid.noise) if known else 0.0
    source = ("given" if noise is not None else "seeds of one run") if known else "unknown, taken as zero"
    log_loss = noisy(grid, level, draws, seed)
    log_c, log_d, size = np.log(grid.C), np.log(grid.D), same_value(grid.N)
    rows = [np.flatnonzero(size == s) for s in range(size.max() + 1)]
    rows = [r[np.argsort(log_c[r])] for r in rows if len(r) > 1]
    if len(rows) < MIN_SIZES.get(method, 3):
        raise LawError(f"only {len(rows)} sizes have two budgets or more: too few for method {method!r}")
    at = np.log(columns(1, budgets=budgets)[0]) if budgets is not None else _budgets(rows, log_c)

    points: list[tuple[Array, Array, Array, Array]] = []
    for r in rows:
        inside = at[(at >= log_c[r[0]] - 1e-9) & (at <= log_c[r[-1]] + 1e-9)]
        inside = np.clip(inside, log_c[r[0]], log_c[r[-1]])
        curve = PchipInterpolator(log_c[r], log_loss[:, r], axis=1)(inside)
        tokens = np.interp(inside, log_c[r], log_d[r])
        points.append((np.full(len(inside), grid.N[r[0]]), np.exp(tokens), np.exp(inside), curve))
    n, d, c = (np.concatenate([p[i] for p in points]) for i in range(3))
    curves = np.concatenate([p[3] for p in points], axis=1)
    return from_slices(n, d, c, curves, method, level, source, shared=True)


def _budgets(rows: list[Index], log_c: Array) -> Array:
    """Log C, spaced as the token grid, from the first to the last that enough sizes reach."""
    low, high = (np.sort([log_c[r[end]] for r in rows]) for end in (0, -1))
    needed = min(SIZES, len(rows))
    step = float(np.median(np.concatenate([np.diff(log_c[r]) for r in rows])))
    start, stop = low[needed - 1], high[-needed]
    if stop < start:
        raise LawError("no compute budget is reached by enough sizes: the grid's tokens do not overlap in C")
    return np.linspace(start, stop, max(2, round((stop - start) / step) + 1))
