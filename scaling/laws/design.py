"""Where to put the runs of a sweep before it is paid for: isoFLOP slices around a prior optimum, held against a grid.

Candidates (how many slices and sizes, how far apart) are ranked by the error of a that they leave, linearised at the
prior law and at two laws whose a differs by .1, so that a prior that is off costs little. What the winner buys is then
simulated: runs are drawn from the law with noise and fitted as an analysis would fit them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from scaling.laws.errors import Array, LawError
from scaling.laws.fit import fit_law
from scaling.laws.forms import LAWS
from scaling.laws.plan import Cost

SLICES, SIZES = (3, 4, 5, 6), (4, 5, 6, 7)
DECADES, SPANS = (1.0, 1.5, 2.0, 3.0), (4.0, 8.0, 16.0, 32.0)  # of the budgets; largest size over smallest of a slice
DOUBT = 0.1  # in a: the prior may be off by this much
LEAST_SIZES = 3  # in a slice; with fewer it has no inside


@dataclass(frozen=True)
class Limits:
    """What can be trained: parameters and tokens from and to, and runs at most."""

    N_min: float
    N_max: float
    D_min: float
    D_max: float
    runs: int = 40


@dataclass(frozen=True)
class Sweep:
    """Runs: N parameters, D tokens, C FLOPs, each (n,), in order of C; `what` says how they are laid out."""

    what: str
    N: Array
    D: Array
    C: Array

    @property
    def total(self) -> float:
        return float(self.C.sum())


@dataclass(frozen=True)
class Expected:
    """What a sweep would say of a, over simulated studies: their middle 95 %, sd, and the truth."""

    a: float
    low: float
    high: float
    sd: float


def isoflop_sweep(law: Mapping[str, float], cost: Cost, total: float, noise: float, limits: Limits) -> Sweep:
    """The slices that leave the least error of a for `total` FLOPs under a prior `law` (as `LawFit.params`).

    noise: sd of log loss of a run. Raises LawError where no layout fits the limits.
    """
    best, least = None, float("inf")
    for one in _candidates(law, cost, total, limits):
        error = max(_error(at, one, noise) for at in _doubted(law, one))
        if error < least:
            best, least = one, error
    if best is None:
        raise LawError(
            f"budget = {total:.3g} FLOPs: no {SLICES[0]} slices of {LEAST_SIZES} sizes fit between "
            f"N = {limits.N_min:.3g} and {limits.N_max:.3g}, D = {limits.D_min:.3g} and {limits.D_max:.3g} "
            "around the prior's optimum"
        )
    return best


def rectangle(like: Sweep, law: Mapping[str, float], cost: Cost, limits: Limits) -> Sweep:
    """The naive grid of the same cost: about as many runs, the same spans of sizes and of tokens, every size on every
    token count, moved along the prior's optimum until it costs the same."""
    n_sizes = max(3, round(len(like.N) ** 0.5))
    n_tokens = max(3, round(len(like.N) / n_sizes))
    a = law["beta"] / (law["alpha"] + law["beta"])

    def moved(log_t: float) -> Sweep:
        t = np.exp(log_t)
        sizes = np.clip(np.geomspace(like.N.min(), like.N.max(), n_sizes) * t**a, limits.N_min, limits.N_max)
        tokens = np.clip(np.geomspace(like.D.min(), like.D.max(), n_tokens) * t ** (1 - a), limits.D_min, limits.D_max)
        return of_pairs(f"{n_sizes} sizes x {n_tokens} token counts", cost, *np.meshgrid(sizes, tokens))

    low, high = -12.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle).total < like.total else (low, middle)
    return moved(low)


def of_pairs(what: str, cost: Cost, N: Array, D: Array) -> Sweep:
    """A sweep of runs given as sizes and tokens, of any one shape."""
    n, d = np.ravel(N), np.ravel(D)
    c = cost.per_token(n) * d
    order = np.lexsort((n, c))
    return Sweep(what, n[order], d[order], c[order])


def simulate(sweep: Sweep, law: Mapping[str, float], noise: float, *, draws: int = 200, seed: int = 0) -> Expected:
    """Studies drawn from the law with `noise` (sd of log loss), each fitted by Huber's objective."""
    truth = np.exp(_theta_loss(law, sweep.N, sweep.D)[0])
    fit = fit_law(sweep.N, sweep.D, truth)
    rng, start = np.random.default_rng(seed), LAWS["chinchilla"].to_theta(law)[None]
    found = []
    for _ in range(draws):
        y = np.log(_predict(law, fit.points.N, fit.points.D)) + noise * rng.standard_normal(len(truth))
        theta = replace(fit.problem, log_loss=y).minimise(start, max_iter=100, tol=1e-6).theta[0]
        alpha, beta = theta[fit.law.index("alpha")], theta[fit.law.index("beta")]
        found.append(beta / (alpha + beta))
    low, high = np.quantile(found, [0.025, 0.975])
    return Expected(law["beta"] / (law["alpha"] + law["beta"]), float(low), float(high), float(np.std(found)))


def _candidates(law: Mapping[str, float], cost: Cost, total: float, limits: Limits) -> Iterator[Sweep]:
    for slices, sizes, decades, span in product(SLICES, SIZES, DECADES, SPANS):
        if slices * sizes > limits.runs:
            continue
        shares = np.logspace(0, -decades, slices)
        budgets = total / (sizes * shares.sum()) * shares
        pairs = [_slice(law, cost, float(c), sizes, span, limits) for c in budgets]
        if min(len(n) for n, _ in pairs) < LEAST_SIZES:
            continue
        N, D = (np.concatenate(part) for part in zip(*pairs, strict=True))
        yield of_pairs(f"{slices} isoFLOP slices of {sizes} sizes, {decades:g} decades apart", cost, N, D)


def _slice(
    law: Mapping[str, float], cost: Cost, C: float, sizes: int, span: float, limits: Limits
) -> tuple[Array, Array]:
    """Sizes around the best one for C, with their tokens; those outside the limits are left out."""
    grid = np.geomspace(limits.N_min, limits.N_max, 400)
    centre = grid[np.argmin(_predict(law, grid, C / cost.per_token(grid)))]
    N = centre * span ** np.linspace(-0.5, 0.5, sizes)
    D = C / cost.per_token(N)
    inside = (limits.N_min <= N) & (limits.N_max >= N) & (limits.D_min <= D) & (limits.D_max >= D)
    # an optimum with nothing on one side of it is the edge of what can be trained, not an optimum
    around = (N[inside] < centre * 0.99).any() and (N[inside] > centre * 1.01).any()
    return (N[inside], D[inside]) if around else (N[:0], D[:0])


def _doubted(law: Mapping[str, float], sweep: Sweep) -> Iterator[Mapping[str, float]]:
    """The law, and two of another a that agree with it at the middle of the sweep."""
    total = law["alpha"] + law["beta"]
    n0, d0 = np.exp(np.log(sweep.N).mean()), np.exp(np.log(sweep.D).mean())
    for off in (0.0, -DOUBT, DOUBT):
        a = float(np.clip(law["beta"] / total + off, 0.05, 0.95))
        alpha, beta = (1 - a) * total, a * total
        A, B = law["A"] * n0 ** (alpha - law["alpha"]), law["B"] * d0 ** (beta - law["beta"])
        yield {"E": law["E"], "A": A, "B": B, "alpha": alpha, "beta": beta}


def _error(law: Mapping[str, float], sweep: Sweep, noise: float) -> float:
    """Standard error of a, linearised at the law."""
    form = LAWS["chinchilla"]
    _, J = _theta_loss(law, sweep.N, sweep.D)
    alpha, beta = law["alpha"], law["beta"]
    slope = np.zeros(len(form.params))
    slope[form.index("alpha")], slope[form.index("beta")] = -beta / (alpha + beta) ** 2, alpha / (alpha + beta) ** 2
    spread = np.linalg.pinv(J @ J.T, rcond=1e-13)
    return float(noise * np.sqrt(slope @ spread @ slope))


def _theta_loss(law: Mapping[str, float], N: Array, D: Array) -> tuple[Array, Array]:
    """log loss (n,) and its gradient (p, n) in the law's parameters."""
    form = LAWS["chinchilla"]
    f, J, _ = form.on(N, D).evaluate(form.to_theta(law)[None])
    return f[0], J[0]


def _predict(law: Mapping[str, float], N: Array, D: Array) -> Array:
    return np.asarray(law["E"] + law["A"] * N ** -law["alpha"] + law["B"] * D ** -law["beta"])
