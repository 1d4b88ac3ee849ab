"""The global search for a law's optimum: many starts by one route, variable projection by another.

Of many runs both look at a sample, and only the distinct optima that it has are followed on all of them: basins are
of the law and the design, and some hundred runs show each one that ten thousand have.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scaling.laws import projection
from scaling.laws.certificate import AGREE, by_projection, negligible
from scaling.laws.errors import Array
from scaling.laws.solver import Problem, Solution

MANY = 500  # runs above which the search is on a sample
SAMPLE = 250


def search(problem: Problem, weights: Array, fixed: Mapping[str, float], tied: bool) -> tuple[Solution, float]:
    """What every start ended in, and the excess of variable projection over the best of them, relative (nan where it
    does not apply)."""
    n = problem.surface.n
    if n <= MANY:
        return _both(problem, weights, fixed, tied, 6)
    some = np.linspace(0, n - 1, SAMPLE).round().astype(np.int64)  # runs are sorted: evenly over sizes and tokens
    seen, excess = _both(problem.at(some), weights[some], fixed, tied, 4)
    first, of = _distinct(seen)
    return problem.minimise(seen.theta[first], weights).at(of), excess


def _both(
    problem: Problem, weights: Array, fixed: Mapping[str, float], tied: bool, exponents: int
) -> tuple[Solution, float]:
    """From starts at so many values of each exponent, and by projection."""
    start = projection.starts(problem.surface, problem.log_loss, weights, dict(fixed), tied, exponents)
    found = problem.minimise(start, weights)
    value, theta = by_projection(problem, weights, fixed, tied)
    if theta is not None and value < found.value.min() * (1 - AGREE):  # the other route found a better basin
        found = found.joined(problem.minimise(theta[None], weights))
    best = float(found.value.min())
    return found, (value - best) / max(best, negligible(problem, weights))


def _distinct(found: Solution) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first member of each optimum, told apart by its objective, and for every member which one it is in."""
    order = np.argsort(found.value, kind="stable")
    steps = np.diff(found.value[order]) > AGREE * np.abs(found.value[order][:-1])
    label = np.empty(len(order), dtype=np.int64)
    label[order] = np.concatenate([[0], np.cumsum(steps)])
    return order[np.concatenate([[True], steps])], label
