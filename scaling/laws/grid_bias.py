"""How much of a frontier slope is the grid: the same regression on surfaces whose exponent is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.cells import same_value
from scaling.laws.errors import Array, LawError, columns
from scaling.laws.frontier import frontier, picker, slope

# Chinchilla's data refitted (Besiroglu et al. 2024, table 1): N parameters, D tokens, nats per token.
EPOCH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
TELLS = 0.2  # a grid that leaves the true a open by more than this cannot tell


@dataclass(frozen=True)
class GridBias:
    """Frontier slopes of N on C that a grid returns, by true a (rows) and noise of log loss (columns).

    `slope` is the mean over draws, `low` and `high` the middle 95 % of them. On the noise-free surface of
    each true a, `interior_budgets` counts the interior optima and `interior_slope` is the slope through them
    (nan where there are too few).
    """

    method: str
    true_a: Array
    noise: Array
    slope: Array
    sd: Array
    low: Array
    high: Array
    interior_budgets: NDArray[np.int64]
    interior_slope: Array
    sizes: int
    budgets: int

    def consistent(self, observed: float) -> tuple[float, float] | None:
        """The range of true a under which this grid could return `observed`, at the largest noise level.

        None where no true a tried does. Between the values tried the intervals are interpolated.
        """
        fine = np.linspace(self.true_a[0], self.true_a[-1], 801)
        low = np.interp(fine, self.true_a, self.low[:, -1]) - 5e-3
        high = np.interp(fine, self.true_a, self.high[:, -1]) + 5e-3
        fits = fine[(low <= observed) & (observed <= high)]
        return (float(fits[0]), float(fits[-1])) if fits.size else None

    @property
    def ambiguity(self) -> float:
        """Width of the range of true a that a slope from this grid leaves open (median over the true a)."""
        ranges = [self.consistent(float(s)) for s in self.slope[:, -1]]
        return float(np.median([r[1] - r[0] if r else 0.0 for r in ranges]))

    @property
    def tells(self) -> bool:
        return self.ambiguity <= TELLS

    def verdict(self, observed: float | None = None) -> str:
        """One line for a report; with the slope `observed` on this grid, what it leaves open."""
        grid = f"{self.sizes} sizes x {self.budgets} budgets"
        span = f"{self.slope.min():.3f} to {self.slope.max():.3f}"
        truths = f"true a from {self.true_a[0]:.2f} to {self.true_a[-1]:.2f}"
        line = f"on this grid ({grid}) the {self.method} slope is {span} for {truths}"
        if observed is not None:
            left = self.consistent(observed)
            line += f"; {observed:.3f} " + (
                f"fits any true a from {left[0]:.2f} to {left[1]:.2f}" if left else "fits none of them"
            )
        return line + ("" if self.tells else ": the slope says more about the grid than about a")


def grid_bias(
    N_grid: ArrayLike,
    D_grid: ArrayLike,
    *,
    true_a: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise: Sequence[float] = (0.0, 0.005),
    law: Mapping[str, float] = EPOCH,
    flops_per_token: ArrayLike | None = None,
    method: str = "pareto",
    draws: int = 200,
    seed: int = 0,
) -> GridBias:
    """Frontier regression on simulated runs of every size of `N_grid` (parameters) at every D (tokens).

    Surfaces are L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, eq. 2). A true a = beta/(alpha+beta)
    keeps alpha + beta of `law` (a dict as `LawFit.params`) and the size of both terms at the grid's geometric
    centre, so that the law's own a gives the law's own surface. `noise` is the sd of log loss;
    `flops_per_token` has one value a size (default 6 N). Raises LawError for a true a outside (0, 1), or
    under two sizes or budgets.
    """
    (sizes, order), (tokens, _) = _axis("N_grid", N_grid), _axis("D_grid", D_grid)
    truths, noises = np.sort(np.asarray(true_a, dtype=float)), np.sort(np.asarray(noise, dtype=float))
    if truths.size == 0 or truths[0] <= 0 or truths[-1] >= 1:
        raise LawError(f"true_a = {tuple(true_a)}: every value must lie between 0 and 1")
    if noises.size == 0 or noises[0] < 0:
        raise LawError(f"noise = {tuple(noise)}: sd of log loss, zero or more")
    per_token = 6 * sizes
    if flops_per_token is not None:
        per_token = columns(1, N_grid=N_grid, flops_per_token=flops_per_token)[1][order]

    N, D = (axis.ravel() for axis in np.meshgrid(sizes, tokens, indexing="ij"))
    C = np.repeat(per_token, len(tokens)) * D
    log_n, log_c, budget = np.log(N), np.log(C), same_value(C)
    pick, rng = picker(method), np.random.default_rng(seed)

    def slopes(loss: Array, sd: float) -> Array:
        found = []
        for _ in range(draws if sd > 0 else 1):
            y = loss * np.exp(sd * rng.standard_normal(len(loss)))
            chosen = pick(log_c, budget, y)
            found.append(slope(log_c[chosen], log_n[chosen]))
        return np.array(found)

    surfaces = [surface(N, D, a, law) for a in truths]
    found = [[slopes(loss, float(sd)) for sd in noises] for loss in surfaces]
    exact = [frontier(N, D, C, y, method=method).regress() for y in surfaces]
    low, high = (np.array([[np.nanquantile(s, q) for s in row] for row in found]) for q in (0.025, 0.975))
    return GridBias(
        method=method,
        true_a=truths,
        noise=noises,
        slope=np.array([[np.nanmean(s) for s in row] for row in found]),
        sd=np.array([[np.nanstd(s) for s in row] for row in found]),
        low=low,
        high=high,
        interior_budgets=np.array([r.interior_budgets for r in exact]),
        interior_slope=np.array([r.interior.a if r.interior else np.nan for r in exact]),
        sizes=len(sizes),
        budgets=len(tokens),
    )


def surface(N: Array, D: Array, a: float, law: Mapping[str, float] = EPOCH) -> Array:
    """Loss of a law with exponent `a` whose two terms match those of `law` at the centre of (N, D)."""
    n0, d0 = np.exp(np.log(N).mean()), np.exp(np.log(D).mean())
    total = law["alpha"] + law["beta"]
    size_term = law["A"] * n0 ** -law["alpha"] * (N / n0) ** -((1 - a) * total)
    data_term = law["B"] * d0 ** -law["beta"] * (D / d0) ** -(a * total)
    return np.asarray(law["E"] + size_term + data_term)


def _axis(name: str, values: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """The different values in ascending order, and where each first stands."""
    (axis,) = columns(1, **{name: values})
    first = np.unique(same_value(axis), return_index=True)[1]
    if len(first) < 2:
        raise LawError(f"{name}: {len(first)} different value: a grid needs at least 2")
    return axis[first], first
