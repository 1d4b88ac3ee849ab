"""`fit_law`: one law, one named objective, one certified optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws import projection
from scaling.laws.errors import Array, LawError, columns
from scaling.laws.forms import LAWS, Law, Surface
from scaling.laws.solver import Problem, objective


@dataclass
class LawFit:
    law: Law
    params: dict[str, float]
    objective: float
    warnings: tuple[str, ...] = ()
    theta: Array = field(default_factory=lambda: np.empty(0), repr=False)

    def exponents(self) -> tuple[float, float]:
        """(a, b) of N_opt ~ C^a, D_opt ~ C^b; b = 1 - a by construction."""
        p = self.params
        a = p["beta"] / (p["alpha"] + p["beta"])
        return a, 1 - a

    def predict(self, N: ArrayLike, D: ArrayLike | None = None, U: ArrayLike | None = None) -> Array:
        """Loss in nats per token at N parameters, D tokens (U unique)."""
        n, d = np.broadcast_arrays(np.asarray(N, float), np.asarray(D if D is not None else 1.0, float))
        u = None if U is None else np.broadcast_to(np.asarray(U, float), n.shape).ravel()
        f = self.law.on(n.ravel(), d.ravel(), u).evaluate(self.theta[None])[0]
        return np.exp(f[0]).reshape(n.shape)


def directions(surface: Surface, fixed: Mapping[str, float], tied: bool) -> Array:
    """T (p, q): free directions of theta, orthonormal in the surface's metric."""
    law = surface.law
    basis = np.eye(law.params.__len__())
    keep = [i for i, p in enumerate(law.params) if p not in fixed]
    if tied and law.tied:
        first, second = (law.index(k) for k in law.tied)
        basis[:, first] += basis[:, second]
        keep.remove(second)
    basis = basis[:, keep]
    lam, V = np.linalg.eigh(basis.T @ surface.metric() @ basis)
    return basis @ V / np.sqrt(np.maximum(lam, 1e-10 * lam[-1]))


def fit_law(
    N: ArrayLike,
    D: ArrayLike | None,
    loss: ArrayLike,
    *,
    law: str = "chinchilla",
    objective: str = "huber",
    delta: float = 1e-3,
    U: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    tie: bool = False,
    fix: Mapping[str, float] | None = None,
    groups: ArrayLike | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> LawFit:
    """First cut."""
    if law not in LAWS:
        raise LawError(f"law={law!r}: allowed are {', '.join(LAWS)}")
    form = LAWS[law]
    n, d, y = columns(1, N=N, D=N if D is None else D, loss=loss)
    w = np.ones(len(n)) if weights is None else columns(1, weights=weights)[0]
    surface = form.on(n, d, None if U is None else columns(1, U=U)[0])
    fixed = dict(fix or {})
    start = projection.starts(surface, np.log(y), w, fixed, tie)
    problem = Problem(surface, np.log(y), _objective(objective, delta), directions(surface, fixed, tie))
    found = problem.minimise(start, w)
    theta = found.theta[np.argmin(found.value)]
    r, _ = problem.objective.residual(surface.evaluate(theta[None])[0], np.log(y))
    params = {k: float(v) for k, v in form.to_params(theta).items()}
    return LawFit(form, params, float(problem.objective.total(r, w)[0]), (), theta)


_objective = objective
