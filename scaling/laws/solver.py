"""One objective family and one batched Newton solver for all laws, starts and bootstrap refits.

The family is rho(r) = max_{-lo <= u <= hi} (u r - delta u^2 / 2): quadratic near zero, slopes -lo and hi beyond.
It holds the Huber loss (divided by delta), squares (lo = hi = inf), absolute values (delta -> 0) and the
asymmetric absolute loss, and u is the dual variable that certifies an exact delta = 0 optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaling.laws.errors import Array, LawError
from scaling.laws.forms import Surface

INF = float("inf")
ROUNDING = 1e-14  # a residual is known to this or so, a gradient to this over delta


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

    @property
    def smoothed(self) -> bool:
        """False for squares, which need no smoothing."""
        return bool(np.isfinite(self.lo))

    def residual(self, f: Array, log_loss: Array) -> tuple[Array, Array | float]:
        """Residuals r (B, n) and dr/df, from f = log L_hat."""
        if self.log:
            return f - log_loss, 1.0
        # exp overflows for hopeless starts only; the cap keeps their objective finite and huge
        pred = np.exp(np.minimum(f, 50.0))
        return pred - np.exp(log_loss), pred

    def slope(self, r: Array) -> Array:
        """rho'(r), the dual variable u."""
        return np.clip(r / self.delta, -self.lo, self.hi) if self.delta else np.where(r > 0, self.hi, -self.lo)

    def curve(self, r: Array) -> Array:
        """rho''(r), for delta above zero."""
        return ((r <= self.hi * self.delta) & (r >= -self.lo * self.delta)) / self.delta

    def total(self, r: Array, w: Array) -> Array:
        """The published sum over points: (B, n) -> (B,)."""
        u = self.slope(r)
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

    def at(self, rows: NDArray[np.int64]) -> Problem:
        """The same on some of the points."""
        return replace(self, surface=self.surface.at(rows), log_loss=self.log_loss[rows])

    def assess(self, theta: Array, w: Array, delta: Array, held: Array, T: Array) -> tuple[Array, Array, Array, Array]:
        """Mean objective (B,), gradient (B, q), Hessian (B, q, q) along T, and the gradient's natural size (B,).

        `held` (B,) >= delta: points within it count as smooth. It exceeds delta only in the predictor step after
        delta was reduced, when the points whose dual variables were free are expected to stay so.
        """
        o = self.objective
        f, J, aux = self.surface.evaluate(theta)
        r, m = o.residual(f, self.log_loss)
        d, reach = delta[:, None], held[:, None]
        u = r / d
        if o.smoothed:
            inside = (r <= o.hi * reach) & (r >= -o.lo * reach)
            if np.array_equal(held, delta):
                np.clip(u, -o.lo, o.hi, out=u)
            else:
                u = np.where(inside, u, np.where(r > 0, o.hi, -o.lo))
        value = np.einsum("bn,bn->b", w, u * (r - 0.5 * d * u))
        wu = w * u * m
        c = inside * (w * m * m / d) if o.smoothed else w * m * m / d
        if not o.log:
            c = c + wu  # d2 exp(f) = exp(f) (d2f + J J')
        g = np.matmul(J, wu[:, :, None])[:, :, 0]
        H = self.surface.curvature(theta, J, aux, wu, c)
        size = np.einsum("bn,bn->b", w, np.abs(u) * m)
        return value, np.matmul(g[:, None], T)[:, 0], np.swapaxes(T, -1, -2) @ H @ T, size

    def minimise(
        self,
        start: Array,
        weights: Array | None = None,
        *,
        delta0: float | None = None,
        max_iter: int = 200,
        tol: float = 1e-9,
        along: Array | None = None,
    ) -> Solution:
        """Minimise from each row of start (B, p), with weights (n,), (B, n) or None, moving along T or, where each
        member has directions of its own, `along` (B, p, q). Members are solved in chunks that fit the cache; no
        Python loop runs over members."""
        n, B = self.surface.n, len(start)
        w = np.broadcast_to(np.ones(n) if weights is None else weights, (B, n))
        total = w.sum(axis=1)
        size = max(1, 2**15 // n)
        parts = []
        for i in range(0, B, size):
            k = slice(i, i + size)
            T = self.T if along is None else along[k]
            parts.append(self._newton(start[k], w[k] / total[k, None], T, delta0, max_iter, tol))
        found = parts[0]
        for part in parts[1:]:
            found = found.joined(part)
        found.value *= total
        return found

    def _newton(self, start: Array, w: Array, T: Array, delta0: float | None, max_iter: int, tol: float) -> Solution:
        """Trust-region Newton on the exact Hessian. For objectives with kinks the smoothing delta is shrunk as each
        member settles (finite continuation, Madsen & Nielsen 1993), down to the objective's own."""
        B, smoothed = len(start), self.objective.smoothed
        out = Solution(start.copy(), np.full(B, np.inf), np.full(B, np.inf), np.zeros(B), np.zeros(B))
        live, theta, radius = np.arange(B), start.copy(), np.full(B, 1.0)
        delta = np.full(B, self.floor)
        if smoothed:
            r, _ = self.objective.residual(self.surface.value(theta), self.log_loss)
            first = np.median(np.abs(r), axis=1) if delta0 is None else np.full(B, delta0)
            delta = np.maximum(first, self.floor)
        full = w
        value, g, H, size = self.assess(theta, w, delta, delta, T)
        lost = ~(np.isfinite(value) & np.isfinite(H).all(axis=(1, 2)))  # starts beyond floating point end here
        radius[lost], value[lost], g[lost], H[lost] = 0.0, np.inf, np.inf, 0.0
        for it in range(max_iter + 1):
            norm = np.linalg.norm(g, axis=1)
            last = delta <= self.floor
            settled = norm <= np.where(last, tol, 1e-5) * size + ROUNDING / delta
            done = (settled & last) | (radius < 1e-13) | (it == max_iter)
            if done.any():
                k = live[done]
                out.theta[k], out.delta[k] = theta[done], delta[done]
                beyond = np.maximum(norm[done] - ROUNDING / delta[done], 0.0)
                out.gradient[k] = beyond / np.maximum(size[done], 1e-300)
                out.curvature[k] = np.linalg.eigvalsh(H[done])[:, 0]
                keep = ~done
                if not keep.any():
                    break
                live, theta, delta, radius, w = live[keep], theta[keep], delta[keep], radius[keep], w[keep]
                value, g, H, size = value[keep], g[keep], H[keep], size[keep]
                settled, last = settled[keep], last[keep]
                T = T[keep] if T.ndim == 3 else T
            shrink = settled & ~last
            held = delta
            delta = np.where(shrink, np.maximum(delta / 5, self.floor), delta)
            step, gain = _trust_step(H, g, radius)
            length = np.linalg.norm(step, axis=1)
            step[shrink] = 0.0  # a member whose smoothing just changed is only reassessed
            trial = theta + np.matmul(T, step[:, :, None])[:, :, 0]
            v, g1, H1, s1 = self.assess(trial, w, delta, held, T)
            ratio = (value - v) / np.maximum(gain, 1e-300)
            flat = np.abs(value - v) <= 1e-13 * np.abs(value)  # at rounding level the gradient decides
            better = np.where(flat, np.linalg.norm(g1, axis=1) < np.linalg.norm(g, axis=1), v < value)
            accept = shrink | better
            radius = np.where(ratio > 0.75, np.minimum(np.maximum(radius, 2.5 * length), 3.0), radius)
            radius = np.where(accept & (ratio > 0.25), radius, 0.3 * length)
            radius = np.where(shrink, 1.0, np.where(accept & flat, 1.0, radius))
            a = accept[:, None]
            theta = np.where(a, trial, theta)
            g, H = np.where(a, g1, g), np.where(a[:, :, None], H1, H)
            value, size = np.where(accept, v, value), np.where(accept, s1, size)
        # always the objective asked for, also where a member stopped at a larger smoothing
        r, _ = self.objective.residual(self.surface.value(out.theta), self.log_loss)
        out.value = self.objective.total(r, full)
        return out


def _trust_step(H: Array, g: Array, radius: Array) -> tuple[Array, Array]:
    """Step (B, q) inside the radius and the gain its quadratic model predicts (B,): Newton's where the Hessian is
    positive definite and the step short enough, else the trust-region step on |eigenvalues|."""
    step, positive = solve(H, -g)
    with np.errstate(invalid="ignore", over="ignore"):
        newton = positive & (np.sum(step * step, axis=1) <= radius * radius)
        gain = -0.5 * np.sum(g * step, axis=1)
    rest = np.flatnonzero(~newton)
    if len(rest):
        step[rest], gain[rest] = _eigen_step(H[rest], g[rest], radius[rest])
    return step, gain


def solve(H: Array, b: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Solutions x (B, q) of H x = b and whether every pivot is positive. A loop over q x q entries, each an
    operation on all B members: several times faster than one LAPACK call a member."""
    q = H.shape[1]
    low = [[H[:, i, j] for j in range(q)] for i in range(q)]
    pivot: list[Array] = []
    x = [b[:, i] for i in range(q)]
    with np.errstate(all="ignore"):  # indefinite members are told by their pivots and redone by the caller
        for j in range(q):
            pivot.append(low[j][j])
            for i in range(j + 1, q):
                ratio = low[i][j] / pivot[j]
                for k in range(j + 1, i + 1):
                    low[i][k] = low[i][k] - ratio * low[k][j]
                x[i] = x[i] - ratio * x[j]
        for j in reversed(range(q)):
            for i in range(j + 1, q):
                x[j] = x[j] - low[i][j] * x[i]
            x[j] = x[j] / pivot[j]
        largest = np.max(pivot, axis=0)
        positive = np.min(pivot, axis=0) > 1e-14 * largest
    return np.stack(x, axis=1), positive


def _eigen_step(H: Array, g: Array, radius: Array) -> tuple[Array, Array]:
    lam, V = np.linalg.eigh(H)
    lam = np.maximum(np.abs(lam), 1e-15 * np.abs(lam).max(axis=1, keepdims=True) + 1e-300)
    along = np.einsum("bij,bi->bj", V, g)
    shift = np.zeros(len(g))
    for _ in range(12):  # Newton on 1/|s(shift)| - 1/radius, which is nearly linear in shift and monotone
        s = along / (lam + shift[:, None])
        length = np.sqrt(np.sum(s * s, axis=1))
        slope = np.sum(s * s / (lam + shift[:, None]), axis=1)
        long = length > radius * 1.01
        if not long.any():
            break
        shift = np.where(long, shift + (length / radius - 1) * length**2 / np.maximum(slope, 1e-300), shift)
    step = -along / (lam + shift[:, None])
    gain = -np.sum(along * step + 0.5 * lam * step**2, axis=1)
    return np.einsum("bij,bj->bi", V, step), gain


@dataclass
class Solution:
    """theta (B, p), objective summed over points (B,), gradient norm relative to the size of its summands (B,),
    least eigenvalue of the mean objective's Hessian (B,), and the smoothing reached (B,)."""

    theta: Array
    value: Array
    gradient: Array
    curvature: Array
    delta: Array

    def at(self, members: NDArray[np.int64]) -> Solution:
        """These members, in this order."""
        return Solution(*(getattr(self, k)[members] for k in Solution.__annotations__))

    def joined(self, other: Solution) -> Solution:
        return Solution(*(np.concatenate([getattr(self, k), getattr(other, k)]) for k in Solution.__annotations__))

    def replaced(self, member: int, one: Solution) -> Solution:
        """This, with one member replaced by a solution of one."""
        for k in Solution.__annotations__:
            getattr(self, k)[member] = getattr(one, k)[0]
        return self
