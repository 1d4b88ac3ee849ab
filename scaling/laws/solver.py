"""One objective family and one batched Newton solver for all laws, starts and bootstrap refits.

The family is rho(r) = max_{-lo <= u <= hi} (u r - delta u^2 / 2): quadratic near zero, slopes -lo and hi beyond.
It holds the Huber loss (divided by delta), squares (lo = hi = inf), absolute values (delta -> 0) and the
asymmetric absolute loss, and u is the dual variable that certifies an exact delta = 0 optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.errors import Array, LawError
from scaling.laws.forms import Surface

INF = float("inf")


@dataclass(frozen=True)
class Objective:
    """log: residual log L_hat - log L, else L_hat - L. `scale` turns the mean of rho into the published sum."""

    name: str
    log: bool
    lo: float
    hi: float
    delta: float
    scale: float

    @property
    def exact(self) -> bool:
        """True where the objective has a kink at zero (delta = 0)."""
        return self.delta == 0.0

    def residual(self, f: Array, log_loss: Array) -> tuple[Array, Array | float]:
        """Residuals r (B, n) and dr/df, from f = log L_hat."""
        if self.log:
            return f - log_loss, 1.0
        # exp overflows for hopeless starts only; the cap keeps their objective finite and huge
        pred = np.exp(np.minimum(f, 50.0))
        return pred - np.exp(log_loss), pred

    def total(self, r: Array, w: Array) -> Array:
        """The published sum over points: (B, n) -> (B,)."""
        u = np.clip(r / self.delta, -self.lo, self.hi) if self.delta else np.where(r > 0, self.hi, -self.lo)
        return self.scale * np.sum(w * (u * r - 0.5 * self.delta * u * u), axis=-1)


def objective(name: str, delta: float = 1e-3) -> Objective:
    """huber, lad, mse_log act on log loss; mse and asymmetric (over-prediction costs 10 x, mean absolute error of
    kyo-takano/chinchilla) on loss. Raises LawError for another name."""
    if not delta > 0:
        raise LawError(f"delta={delta}: must be positive")
    known = {
        "huber": Objective("huber", True, 1.0, 1.0, delta, delta),
        "lad": Objective("lad", True, 1.0, 1.0, 0.0, 1.0),
        "mse": Objective("mse", False, INF, INF, 1.0, 2.0),
        "mse_log": Objective("mse_log", True, INF, INF, 1.0, 2.0),
        "asymmetric": Objective("asymmetric", False, 1.0, 10.0, 0.0, 1.0),
    }
    if name not in known:
        raise LawError(f"objective={name!r}: allowed are {', '.join(known)}")
    return known[name]


@dataclass(frozen=True)
class Problem:
    """A law on points, with its objective and the directions T (p, q) in which theta may move.

    T's columns are orthonormal in the surface's metric: a step of length 1 moves the law's terms by one e-fold in
    root mean square, whatever the units of N and D, so damping and gradient norms mean the same on any data.
    """

    surface: Surface
    log_loss: Array
    objective: Objective
    T: Array

    @property
    def floor(self) -> float:
        """The smallest smoothing used for a kinked objective, in units of the residual."""
        return self.objective.delta if not self.objective.exact else 1e-8

    def assess(self, theta: Array, w: Array, delta: Array) -> tuple[Array, Array, Array, Array]:
        """Mean objective (B,), gradient (B, q), Hessian (B, q, q) along T, and the gradient's natural size (B,)."""
        o = self.objective
        f, J, aux = self.surface.evaluate(theta)
        r, m = o.residual(f, self.log_loss)
        d = delta[:, None]
        z = r / d
        u = np.clip(z, -o.lo, o.hi)
        value = np.einsum("bn,bn->b", w, u * (r - 0.5 * d * u))
        wu = w * u * m
        c = np.where(u == z, w * m * m / d, 0.0)
        if not o.log:
            c = c + wu  # d2 exp(f) = exp(f) (d2f + J J')
        g = np.matmul(J, wu[:, :, None])[:, :, 0]
        H = (J * c[:, None]) @ J.transpose(0, 2, 1) + self.surface.curvature(theta, J, aux, wu)
        size = np.einsum("bn,bn->b", w, np.abs(u) * m)
        return value, g @ self.T, self.T.T @ H @ self.T, size

    def minimise(
        self,
        start: Array,
        weights: Array | None = None,
        *,
        delta0: float | None = None,
        max_iter: int = 200,
        tol: float = 1e-9,
    ) -> Solution:
        """Minimise from each row of start (B, p), with weights (n,), (B, n) or None. Members are solved in chunks
        that fit the cache; no Python loop runs over members."""
        n, B = self.surface.n, len(start)
        w = np.ones((1, n)) if weights is None else np.atleast_2d(weights)
        w = w / w.sum(axis=1, keepdims=True)
        size = max(8, 2**15 // n)
        parts = []
        for i in range(0, B, size):
            block = start[i : i + size]
            rows = w[i : i + size] if len(w) == B and B > 1 else np.broadcast_to(w, (len(block), n))
            parts.append(self._newton(block, rows, delta0, max_iter, tol))
        return Solution(*(np.concatenate([getattr(s, k) for s in parts]) for k in Solution.__annotations__))

    def _newton(self, start: Array, w: Array, delta0: float | None, max_iter: int, tol: float) -> Solution:
        """Damped Newton (|eigenvalues| of the exact Hessian) with the smoothing delta shrunk as members settle."""
        B, q = len(start), self.T.shape[1]
        theta_out, grad_out, value_out = start.copy(), np.full(B, np.inf), np.full(B, np.inf)
        curved_out = np.zeros(B)
        live = np.arange(B)
        theta = start.copy()
        smooth = np.isfinite(self.objective.lo)  # squares need no continuation
        if smooth:
            r, _ = self.objective.residual(self.surface.evaluate(theta)[0], self.log_loss)
            first = np.median(np.abs(r), axis=1) if delta0 is None else np.full(B, delta0)
            delta = np.maximum(first, self.floor)
        else:
            delta = np.full(B, self.objective.delta)
        damp = np.full(B, 1e-2)
        value, g, H, size = self.assess(theta, w, delta)
        for it in range(max_iter + 1):
            norm = np.linalg.norm(g, axis=1)
            at_floor = delta <= self.floor if smooth else np.ones(len(live), bool)
            rounding = 1e-13 / delta if smooth else 1e-15 * np.ones(len(live))
            limit = np.where(at_floor, tol * size + rounding, 0.03 * size + rounding)
            settled = norm <= limit
            done = (settled & at_floor) | (damp > 1e14) | (it == max_iter)
            if done.any():
                k = live[done]
                theta_out[k], value_out[k] = theta[done], value[done]
                grad_out[k] = norm[done] / np.maximum(size[done], 1e-12)
                curved_out[k] = np.linalg.eigvalsh(H[done])[:, 0]
                keep = ~done
                if not keep.any():
                    break
                live, theta, delta, damp = live[keep], theta[keep], delta[keep], damp[keep]
                value, g, H, size, settled = value[keep], g[keep], H[keep], size[keep], settled[keep]
                at_floor, w = at_floor[keep], w[keep]
            shrink = settled & ~at_floor
            delta = np.where(shrink, np.maximum(delta / 5, self.floor), delta)
            lam, V = np.linalg.eigh(H)
            lam = np.abs(lam)
            top = lam[:, -1:]
            along = np.einsum("bij,bi->bj", V, g)
            step = -along / (lam + np.maximum(damp[:, None], 1e-13) * top + 1e-300)
            length = np.linalg.norm(step, axis=1, keepdims=True)
            step *= np.minimum(1.0, 2.0 / np.maximum(length, 1e-300))
            gain = -np.sum(along * step + 0.5 * lam * step**2, axis=1)
            step = np.einsum("bij,bj->bi", V, step)
            step[shrink] = 0.0  # a member whose smoothing just changed is only reassessed
            trial = theta + step @ self.T.T
            v, g1, H1, s1 = self.assess(trial, w, delta)
            ratio = (value - v) / np.maximum(gain, 1e-300)
            flat = np.abs(value - v) <= 1e-14 * np.abs(value)  # at rounding level the gradient decides
            better = np.where(flat, np.linalg.norm(g1, axis=1) < np.linalg.norm(g, axis=1), v < value)
            accept = shrink | better
            damp = np.where(
                accept, np.where(ratio > 0.75, damp / 10, np.where(ratio < 0.25, damp * 3, damp)), damp * 10
            )
            damp = np.where(shrink, 1e-3, np.maximum(damp, 1e-13))
            a = accept[:, None]
            theta = np.where(a, trial, theta)
            g, H = np.where(a, g1, g), np.where(a[:, :, None], H1, H)
            value, size = np.where(accept, v, value), np.where(accept, s1, size)
        return Solution(theta_out, value_out, grad_out, curved_out)


@dataclass
class Solution:
    """theta (B, p), mean objective (B,), gradient norm relative to its natural size (B,), least curvature (B,)."""

    theta: Array
    value: Array
    gradient: Array
    curvature: Array
