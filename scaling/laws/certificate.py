"""What was found, how sure the optimiser is of it, and why a fit may not be an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scaling.laws.errors import Array
from scaling.laws.projection import Projection, exponent_grid
from scaling.laws.solver import Problem, Solution

AGREE = 1e-6  # relative difference in objective below which two starts ended in the same optimum
VANISHED = 1e-3  # E below this share of the smallest loss is an E of zero
MOST_KINKS = 300  # points at a kink that `refine` solves for; more of them are data without noise, and a dense system
STEEP = 3.0  # exponents at or above are a term that one end of the grid alone carries


@dataclass(frozen=True)
class Certificate:
    """Evidence that the optimum is one.

    gradient: norm relative to the size of its summands (steps measured in e-folds of the law's terms).
    curvature: least eigenvalue of the Hessian of the mean objective there; negative means a saddle.
    starts, agree: how many starts, and the share that ended within 1e-6 of the best objective.
    second_basin: relative excess of the next best local optimum; inf where there was none.
    projection: relative excess of the optimum found by variable projection, an independent route: zero to rounding
    for squares, small and positive for the rest, negative if that route was better; nan where a coefficient is
    fixed or the law does not separate.
    boundary: parameters at the edge of their meaning (E -> 0, an exponent -> 0 or very steep).
    """

    gradient: float
    curvature: float
    starts: int
    agree: float
    second_basin: float
    projection: float
    boundary: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """A stationary point, no saddle, and nothing better found by either route."""
        return self.gradient < 1e-5 and self.curvature > -1e-6 and not self.projection < -1e-6

    @property
    def certified(self) -> bool:
        """Converged and inside the boundaries: fit to be presented as an answer."""
        return self.converged and not self.boundary

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not certified; empty where it is."""
        out = []
        if not self.converged:
            out.append(f"not converged: relative gradient {self.gradient:.1e}, least curvature {self.curvature:.1e}")
        if self.boundary:
            out.append(f"boundary solution, not an answer: {', '.join(self.boundary)}")
        return tuple(out)


def negligible(problem: Problem, weights: Array) -> float:
    """The objective of residuals of a millionth: on data without noise all below it are the same."""
    return float(problem.objective.total(np.full((1, len(weights)), 1e-6), weights)[0])


def certify(problem: Problem, found: Solution, best: int, weights: Array, projection: float) -> Certificate:
    """The certificate of `found.theta[best]` among all starts; `projection` is that route's excess."""
    value = float(found.value[best])
    tiny = negligible(problem, weights)
    excess = found.value - value
    same = excess <= AGREE * max(value, tiny)
    other = ~same & (found.gradient < 1e-5)
    return Certificate(
        gradient=float(found.gradient[best]),
        curvature=float(found.curvature[best]),
        starts=len(found.value),
        agree=float(np.mean(same)),
        second_basin=float(excess[other].min() / max(value, tiny)) if other.any() else float("inf"),
        projection=float(projection),
        boundary=boundaries(problem, found.theta[best]),
    )


def boundaries(problem: Problem, theta: Array) -> tuple[str, ...]:
    """Names of parameters that ended where the law loses its meaning."""
    law = problem.surface.law
    free = np.abs(problem.T).max(axis=1) > 0
    p = law.to_params(theta)
    out = []
    if "E" in law.params and free[law.index("E")] and p["E"] < VANISHED * np.exp(problem.log_loss.min()):
        out.append("E -> 0")
    for name in law.params:
        if not free[law.index(name)]:
            continue
        if name in ("R_D", "R_N") and p[name] > 1e4:
            out.append(f"{name} -> inf")
        if name in law.logs:
            continue
        if p[name] < 0.005:
            out.append(f"{name} -> 0")
        elif p[name] >= STEEP:
            out.append(f"{name} = {float(p[name]):.3g} (too steep)")
    return tuple(out)


def refine(problem: Problem, best: Array, weights: Array) -> Solution:
    """Exact finish from one theta (p,): for objectives with a kink, Newton on the optimality system in which the
    points of zero residual have free multipliers, so that no smoothing is left (a vertex, as in linear
    programming, where there are as many such points as free parameters)."""
    o, T = problem.objective, problem.T
    start = problem.minimise(best[None], weights)
    if not o.exact:
        return start
    theta, delta, w = start.theta[0], float(start.delta[0]), weights / weights.sum()
    f, J, aux = problem.surface.evaluate(theta[None])
    r, m = o.residual(f, problem.log_loss)
    active = (r[0] < o.hi * delta * 1.001) & (r[0] > -o.lo * delta * 1.001)
    dual = np.where(active, r[0] / delta, np.where(r[0] > 0, o.hi, -o.lo))
    q = T.shape[1]
    if active.sum() > MOST_KINKS:
        return start

    def bend() -> tuple[Array, Array]:
        """The Lagrangian's Hessian (q, q) and the residuals' gradients (n, q), along T."""
        wu = np.broadcast_to(w * dual * m, r.shape)[0]
        H = problem.surface.curvature(theta[None], J, aux, wu[None])[0]
        if not o.log:
            H = H + (J[0] * wu) @ J[0].T
        return T.T @ H @ T, (J[0] * m).T @ T

    H, G = bend()
    while active.sum() < q:  # where it bends down between the kinks, the optimum is at the next one
        free = np.linalg.svd(G[active])[2][active.sum() :]
        lam, V = np.linalg.eigh(free @ H @ free.T)
        if lam[0] > 0:
            break
        along = G @ (V[:, 0] @ free)
        fall = float(w * dual @ along)
        along = along if fall <= 0 else -along  # downhill, past every kink that does not stop it
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(~active & (r[0] * along < 0), -r[0] / along, np.inf)
        order = np.argsort(far)
        stop = int(np.argmax(np.cumsum(((o.hi + o.lo) * w * np.abs(along))[order]) >= abs(fall)))
        passed = order[:stop]
        dual[passed] = np.where(r[0, passed] > 0, -o.lo, o.hi)
        active[order[stop]] = True
    k = int(active.sum())
    for _ in range(6):
        H, G = bend()
        system = np.zeros((q + k, q + k))
        system[:q, :q] = H
        system[:q, q:] = (G[active] * w[active, None]).T
        system[q:, :q] = G[active]
        rhs = np.concatenate([-(G[~active].T @ (w * dual)[~active]), -r[0, active]])
        step = np.linalg.lstsq(system, rhs, rcond=1e-14)[0]
        theta = theta + T @ step[:q]
        dual = dual.copy()
        dual[active] = step[q:]
        f, J, aux = problem.surface.evaluate(theta[None])
        r, m = o.residual(f, problem.log_loss)
    slope = np.where(r[0] > 0, o.hi, -o.lo)
    feasible = (dual[active] <= o.hi * (1 + 1e-6)).all() and (dual[active] >= -o.lo * (1 + 1e-6)).all()
    steady = np.array_equal(slope[~active], dual[~active])
    value = o.total(r, weights[None])
    if not (feasible and steady and value[0] <= start.value[0] + 1e-12):
        return start
    wu = w * dual * np.broadcast_to(m, r.shape)[0]
    # between the kinks the Lagrangian bends; across them the objective does, at the floor's smoothing
    walls = (G[active] * w[active, None]).T @ G[active] / problem.floor
    curvature = np.linalg.eigvalsh(H + walls)[:1]
    exact_data = np.abs(r).max() < 1e-12  # any multipliers do where every residual is zero
    gradient = 0.0 if exact_data else np.linalg.norm(J[0] @ wu @ T) / max(float(np.sum(np.abs(wu))), 1e-300)
    return replace(start, theta=theta[None], value=value, gradient=np.array([gradient]), curvature=curvature)


def by_projection(
    problem: Problem, weights: Array, fixed: Mapping[str, float], tied: bool
) -> tuple[float, Array | None]:
    """Objective and theta by variable projection alone: a zooming grid over the exponents, with the coefficients
    of each grid point by (reweighted) non-negative least squares. nan and None where the law does not separate."""
    surface = problem.surface
    law = surface.law
    if law.uses_U or set(fixed) - set(law.exponents):
        return float("nan"), None
    project = Projection(surface, problem.log_loss)
    names = [k for k in law.exponents if k not in fixed]
    columns = [law.index(k) for k in law.exponents]
    theta, best_value = exponent_grid(surface, 9, dict(fixed), tied), np.inf
    spread = {k: np.log(law.ranges[k][1] / law.ranges[k][0]) / 8 for k in names}
    best = theta[0]
    for _ in range(12):
        inner = int(np.clip(2e6 / (surface.n * len(theta)), 8, 20)) if problem.objective.smoothed else 5
        trial, value = project.reweighted(problem.objective, theta, weights, inner)
        if value.min() < best_value:
            best_value, best = float(value.min()), trial[np.argmin(value)]
        axes = [
            best[law.index(k)] * np.exp(np.linspace(-1, 1, 5) * spread[k])
            if k in spread
            else np.array([best[law.index(k)]])
            for k in law.exponents
        ]
        mesh = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
        if tied and law.tied:
            i, j = (law.exponents.index(k) for k in law.tied)
            mesh = mesh[np.isclose(mesh[:, i], mesh[:, j])]
        theta = np.zeros((len(mesh), surface.p))
        theta[:, columns] = mesh
        spread = {k: v / 2.2 for k, v in spread.items()}
    return best_value, best
