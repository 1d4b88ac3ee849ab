"""Variable projection: for given exponents every law is linear in its coefficients, so only the exponents are
searched and the rest is non-negative least squares (Golub & Pereyra 1973). It gives the starts of the Newton
solver and, as a second and independent route to the optimum, the cross-check of the certificate.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from scaling.laws.errors import Array
from scaling.laws.forms import Surface
from scaling.laws.solver import Objective


def exponent_grid(surface: Surface, points: int, fixed: dict[str, float], tied: bool) -> Array:
    """Exponent combinations over the law's ranges (S, p) in theta coordinates; coefficients stay at log 1 = 0."""
    law = surface.law
    axes = []
    for name in law.exponents:
        low, high = law.ranges[name]
        count = points if not law.uses_U else 4 if name in ("alpha", "beta") else 2
        # logarithmic: exponents of .1 and .2 differ as much as .5 and 1
        axis = np.geomspace(low, high, count)
        axes.append(np.array([fixed[name]]) if name in fixed else axis)
    mesh = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    if tied and law.tied:
        first, second = (law.exponents.index(k) for k in law.tied)
        mesh[:, second] = mesh[:, first]
        mesh = np.unique(mesh, axis=0)
    theta = np.zeros((len(mesh), surface.p))
    theta[:, [law.index(k) for k in law.exponents]] = mesh
    return theta


def nnls(Phi: Array, y: Array, w: Array) -> tuple[Array, Array]:
    """Weighted non-negative least squares for many small problems at once: Phi (S, K, n), y and w (S, n) ->
    coefficients (S, K) and weighted residual sum of squares (S,). Where the free solution has a negative
    entry every support is solved and the best feasible one kept: exact and, with K <= 3 columns, cheap."""
    K = Phi.shape[1]
    scale = np.sqrt(np.einsum("skn,sn->sk", Phi**2, w))
    scale[scale == 0] = 1.0
    X = Phi / scale[:, :, None]
    gram = (X * w[:, None]) @ X.transpose(0, 2, 1)
    moment = np.einsum("skn,sn->sk", X, w * y)
    energy = np.einsum("sn,sn->s", w * y, y)
    # the ridge only keeps collinear columns (equal exponents) solvable; it moves nothing else
    coef = np.linalg.solve(gram + 1e-13 * np.eye(K), moment[:, :, None])[..., 0]
    best = energy - np.einsum("sk,sk->s", coef, moment)
    rest = np.flatnonzero((coef < 0).any(axis=1))
    if len(rest):
        best[rest], coef[rest] = np.inf, 0.0
    for k in range(1, K if len(rest) else 1):
        for support in map(list, combinations(range(K), k)):
            G = gram[rest][:, support][:, :, support]
            c = np.linalg.solve(G + 1e-13 * np.eye(k), moment[rest][:, support, None])[..., 0]
            rss = energy[rest] - np.einsum("sk,sk->s", c, moment[rest][:, support])
            take = (c >= 0).all(axis=1) & (rss < best[rest])
            best[rest[take]], coef[rest[take]] = rss[take], 0.0
            coef[np.ix_(rest[take], support)] = c[take]
    return coef / scale, np.maximum(best, 0.0)


class Projection:
    """The separable least-squares problem of a law on data: terms of f at given exponents, as linear columns."""

    def __init__(self, surface: Surface, log_loss: Array) -> None:
        self.surface, self.log_loss = surface, log_loss

    def columns(self, theta: Array) -> tuple[Array, Array, Array]:
        """theta (S, p) with coefficients at zero -> Phi (S, K, n), log scale of each column (S, K), target (S, n)."""
        s = self.surface
        t = np.stack([theta[:, c] @ g + k for g, c, k in zip(s.G, s.columns, s.const, strict=True)], axis=1)
        shift = t.max(axis=2)
        power = theta[:, s.outer] if s.outer is not None else np.ones(len(theta))
        return np.exp(t - shift[:, :, None]), shift, np.exp(self.log_loss / power[:, None])

    def solve(self, theta: Array, weights: Array) -> tuple[Array, Array]:
        """Coefficients by relative least squares at the exponents of theta (S, p); returns theta with their logs,
        absent terms set to a thousandth of the loss so that a descent can bring them back, and the fit's error."""
        Phi, shift, target = self.columns(theta)
        w = weights / target**2
        coef, rss = nnls(Phi, target, w)
        small = 1e-3 * np.median(target, axis=1, keepdims=True)
        out = theta.copy()
        intercepts = [c[0] for c in self.surface.columns]
        out[:, intercepts] = np.log(np.maximum(coef, small)) - shift
        return out, rss

    def reweighted(self, objective: Objective, theta: Array, weights: Array, iterations: int) -> tuple[Array, Array]:
        """Coefficients that minimise the objective itself at the exponents of theta (S, p), by least squares with
        weights psi(r)/r; returns theta and the objective (S,). Only for checking: its convergence is linear."""
        Phi, shift, target = self.columns(theta)
        o, delta = objective, max(objective.delta, 1e-6)
        power = theta[:, self.surface.outer, None] if self.surface.outer is not None else 1.0
        coef, _ = nnls(Phi, target, weights / target**2)
        best, best_coef = np.full(len(theta), np.inf), coef
        for _ in range(iterations):
            base = np.maximum(np.einsum("sk,skn->sn", coef, Phi), 1e-300)
            r, m = o.residual(power * np.log(base), self.log_loss)
            value = o.total(r, weights)
            better = value < best
            best, best_coef = np.where(better, value, best), np.where(better[:, None], coef, best_coef)
            u = np.clip(r / delta, -o.lo, o.hi)
            curve = np.where(np.abs(r) > 1e-300, u / np.where(r == 0, 1.0, r), 1.0 / delta)
            slope = m * power / base  # dr / d base
            coef, _ = nnls(Phi, base - r / slope, weights * curve * slope**2)
        out = theta.copy()
        with np.errstate(divide="ignore"):
            out[:, [c[0] for c in self.surface.columns]] = np.maximum(np.log(best_coef) - shift, -700.0)
        return out, best


def starts(
    surface: Surface, log_loss: Array, weights: Array, fixed: dict[str, float], tied: bool, exponents: int
) -> Array:
    """Starts (S, p) from the data's own scales: so many values of each exponent, with their least-squares coefficients,
    and again with E at half and at nine tenths of the smallest loss, so that basins with another E are visited."""
    theta, _ = Projection(surface, log_loss).solve(exponent_grid(surface, exponents, fixed, tied), weights)
    law = surface.law
    if "E" in law.params and "E" not in fixed and not law.uses_U:
        extra = []
        for share in (0.5, 0.9):
            moved = theta.copy()
            moved[:, law.index("E")] = log_loss.min() + np.log(share)
            extra.append(moved)
        theta = np.concatenate([theta, *extra])
    for name, value in fixed.items():
        theta[:, law.index(name)] = value
    return theta
