"""What the data can tell: profile-likelihood intervals.

A quantity is held at values further and further from its estimate, everything else is fitted again, and the rise of
the objective is read as a likelihood ratio. Where it never rises enough on one side, the data do not bound the
quantity: it is not identified. A bootstrap cannot see this, for its refits stay near one optimum of a flat valley.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scaling.laws.errors import Array
from scaling.laws.forms import Law
from scaling.laws.solver import Problem

OFFSETS = np.geomspace(2e-3, 1.0, 18)  # of the reach; geometric, since widths span decades
REACH_LOG, REACH_EXPONENT, REACH_A = 14.0, 2.5, 6.0  # e-folds, exponents as they are, a in log odds
WIDEST_ODDS = 9.0  # of a / (1 - a), high over low: an interval as wide as (.25, .75) says nothing of use

Interval = tuple[float, float]


def smooth_enough(problem: Problem, residuals: Array) -> Problem:
    """The same problem with any kink rounded to a twentieth of the noise: too little to move an interval, enough for
    Newton to walk along a profile."""
    return widened(problem, residuals, 0.05) if problem.objective.exact else problem


def widened(problem: Problem, residuals: Array, share: float) -> Problem:
    """The same problem, smooth over at least this share of the noise's robust sd."""
    o = problem.objective
    sd = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    return replace(problem, objective=replace(o, delta=max(o.delta, share * sd, 1e-9)))


def deviance_scale(problem: Problem, residuals: Array, p: int) -> float:
    """c such that 2 c (Q - Q_min) is about chi-squared with one degree of freedom, Q the sum of rho:
    E psi' / E psi^2 (Huber & Ronchetti 2009, sec. 7.10). The density at the kink is taken from a normal of robust
    scale, since too few points lie there to be counted."""
    from scipy.special import ndtr

    o, n = problem.objective, len(residuals)
    inflate = n / max(n - p, 1)
    if not o.smoothed:
        return 1.0 / max(float(np.mean(residuals**2)) * inflate, 1e-30)
    middle = float(np.median(residuals))
    sd = max(1.4826 * float(np.median(np.abs(residuals - middle))) * inflate**0.5, 1e-14)
    u = np.clip(residuals / o.delta, -o.lo, o.hi)
    slope = float(ndtr((o.hi * o.delta - middle) / sd) - ndtr((-o.lo * o.delta - middle) / sd)) / o.delta
    return slope / max(float(np.mean(u * u)) * inflate, 1e-30)


def profiles(
    problem: Problem, best: Array, weights: Array, scale: float, names: list[str], threshold: float
) -> dict[str, Interval]:
    """Profile intervals of free quantities: coordinates of theta by their law's names, and the exponent "a".

    scale: from `deviance_scale`; threshold: in standard deviations. An end is infinite (zero for coefficients, 0 or
    1 for a) where the objective does not rise by that much within reach. All quantities and both sides walk
    outwards together, each step started from the one before.
    """
    law, T = problem.surface.law, problem.T
    wanted, names = names, [k for k in names if np.isfinite(_coordinate(law, best, k))]
    side = np.tile([-1.0, 1.0], len(names))
    rows = np.repeat(names, 2)
    centre = np.array([_coordinate(law, best, name) for name in rows])
    kinds = [REACH_LOG if k in law.logs else REACH_EXPONENT if k in law.params else REACH_A for k in rows]
    reach = np.array(kinds)
    theta = np.repeat(best[None], len(rows), axis=0)
    base = problem.minimise(best[None], weights).value[0]
    last, end = np.zeros(len(rows)), np.full(len(rows), np.nan)
    last_at = centre.copy()
    for offset in OFFSETS:
        k = np.flatnonzero(np.isnan(end))
        if not len(k):
            break
        at = centre[k] + side[k] * offset * reach[k]
        constraint, target = _constraints(law, rows[k], at)
        # the least move, in the metric, that meets the constraint: an exponent takes its coefficient along
        c = constraint @ T
        move = (target - np.einsum("bp,bp->b", constraint, theta[k])) / np.sum(c * c, axis=1)
        along = T @ np.swapaxes(np.linalg.svd(c[:, None, :])[2][:, 1:], 1, 2)
        found = problem.minimise(
            theta[k] + (c * move[:, None]) @ T.T, weights, along=along, delta0=problem.floor, max_iter=80, tol=1e-6
        )
        root = np.sqrt(2 * scale * np.maximum(found.value - base, 0.0) / problem.objective.scale)
        share = (threshold - last[k]) / np.maximum(root - last[k], 1e-300)
        end[k] = np.where(root >= threshold, last_at[k] + share * (at - last_at[k]), np.nan)
        theta[k], last[k], last_at[k] = found.theta, root, at
    end = np.where(np.isnan(end), side * np.inf, end)
    out = {name: _natural(law, name, end[2 * i], end[2 * i + 1]) for i, name in enumerate(names)}
    return {name: out.get(name, (0.0, 1.0)) for name in wanted}  # a of exponents that are not positive may be anything


def _coordinate(law: Law, theta: Array, name: str) -> float:
    if name in law.params:
        return float(theta[law.index(name)])
    if law.name == "kaplan":  # a = 1 / (1 + gamma)
        alpha, beta = theta[law.index("alpha_N")], 1.0
    else:
        alpha, beta = theta[law.index("alpha")], theta[law.index("beta")]
    return float(np.log(beta / alpha)) if alpha > 0 and beta > 0 else float("nan")


def _constraints(law: Law, names: Array, at: Array) -> tuple[Array, Array]:
    """Rows c and targets t of c . theta = t that hold each quantity at its value; a is linear once it is fixed."""
    c, t = np.zeros((len(names), len(law.params))), at.copy()
    for i, name in enumerate(names):
        if name in law.params:
            c[i, law.index(name)] = 1.0
        elif law.name == "kaplan":
            c[i, law.index("alpha_N")], t[i] = 1.0, np.exp(-at[i])
        else:  # beta / alpha = exp(log odds of a), scaled to stay O(1) at both ends
            odds = np.exp(at[i])
            c[i, law.index("beta")], c[i, law.index("alpha")], t[i] = 1 / (1 + odds), -odds / (1 + odds), 0.0
    return c, t


def _natural(law: Law, name: str, low: float, high: float) -> Interval:
    with np.errstate(over="ignore"):
        if name not in law.params:
            return float(1 / (1 + np.exp(-low))), float(1 / (1 + np.exp(-high)))
        if name in law.logs:
            return float(np.exp(low)), float(np.exp(high))
    return float(low), float(high)


def verdict(law: Law, name: str, interval: Interval) -> bool:
    """Whether an interval identifies its quantity: bounded on both sides, away from zero, and for a narrower than
    (.25, .75), on the scale of odds."""
    low, high = interval
    if name not in law.params:
        return low > 0 and high < 1 and high * (1 - low) < WIDEST_ODDS * low * (1 - high)
    return low > 0 and bool(np.isfinite(high))
