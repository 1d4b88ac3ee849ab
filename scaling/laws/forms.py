"""The laws: value, gradient and curvature of log loss, batched over parameter vectors.

Every law here is a sum of power terms, so its log is a log-sum-exp of terms that are linear in
theta = (logs of coefficients, exponents):  f(theta) = s * logsumexp_k(c_k + G_k theta),  s = 1 but for Kaplan.
Working on f keeps every coefficient positive without bounds and makes gradients O(1) whatever the units of
N and D.  Shapes below: B parameter vectors, n points, p parameters, K terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scaling.laws.errors import Array


@dataclass(frozen=True)
class Law:
    """A parametric law L(N, D).

    params: public names, in the order of theta. logs: those stored as logarithms. exponents: those that are
    searched in variable projection. tied: the pair that `tie=True` sets equal. ranges: where multi-start looks
    for the exponents, in the coordinates of theta.
    """

    name: str
    params: tuple[str, ...]
    logs: frozenset[str]
    exponents: tuple[str, ...]
    source: str
    tied: tuple[str, str] | None = None
    uses_D: bool = True
    uses_U: bool = False
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def terms(self, x: Array, y: Array) -> list[dict[str, Array | float]]:
        """Each term's coefficient on each parameter, given x = log N and y = log D; "" holds the constant c_k."""
        return _TERMS[self.name](x, y)

    def index(self, name: str) -> int:
        return self.params.index(name)

    def to_theta(self, params: Mapping[str, float]) -> Array:
        """Public parameters -> theta (p,). Zero coefficients become a very negative log."""
        raw = dict(params)
        if self.name == "kaplan":  # theta holds gamma = alpha_N / alpha_D and log of Nc ** gamma
            gamma = raw["alpha_N"] / raw["alpha_D"]
            raw["Nc"], raw["alpha_N"] = raw["Nc"] ** gamma, gamma
        with np.errstate(divide="ignore"):
            theta = [np.log(raw[p]) if p in self.logs else raw[p] for p in self.params]
        return np.maximum(np.asarray(theta, dtype=float), -700.0)

    def to_params(self, theta: Array) -> dict[str, Array]:
        """theta (..., p) -> public parameters, each of shape (...)."""
        with np.errstate(over="ignore"):
            out = {p: np.exp(theta[..., i]) if p in self.logs else theta[..., i] for i, p in enumerate(self.params)}
            if self.name == "kaplan":
                gamma = out["alpha_N"]
                out["Nc"] = np.exp(theta[..., self.index("Nc")] / gamma)
                out["alpha_N"] = gamma * out["alpha_D"]
        return out

    def on(self, N: Array, D: Array, U: Array | None = None) -> Surface:
        """The law on given points: log N, log D (and unique tokens U) are taken once."""
        if self.uses_U:
            return RepeatedData(self, N, D, D if U is None else U)
        return Surface(self, N, D)


class Surface:
    """A law on n points."""

    def __init__(self, law: Law, N: Array, D: Array) -> None:
        self.law, self.n, self.p = law, len(N), len(law.params)
        self.x, self.y = np.log(N), np.log(D)
        self.outer = law.index("alpha_D") if law.name == "kaplan" else None
        self.G, self.const, self.columns = [], [], []
        for term in law.terms(self.x, self.y):
            cols = [law.index(name) for name in term if name]
            rows = [np.broadcast_to(np.asarray(term[name], float), (self.n,)) for name in term if name]
            self.G.append(np.array(rows))  # (own parameters, n)
            self.columns.append(cols)
            self.const.append(term.get("", 0.0))
        self._pairs = [np.einsum("in,jn->nij", g, g).reshape(self.n, -1) for g in self.G]

    def at(self, rows: NDArray[np.int64]) -> Surface:
        """The law on some of the points."""
        return self.law.on(np.exp(self.x[rows]), np.exp(self.y[rows]))

    def metric(self) -> Array:
        """(p, p): mean squared change of the terms per unit of theta; the yardstick for steps and gradients."""
        P = np.zeros((self.p, self.p))
        for g, cols in zip(self.G, self.columns, strict=True):
            P[np.ix_(cols, cols)] += g @ g.T / self.n
        if self.outer is not None:
            P[self.outer, self.outer] += 1.0
        return P

    def value(self, theta: Array) -> Array:
        """theta (B, p) -> f = log L (B, n)."""
        h, _ = self._terms(theta)
        return h if self.outer is None else theta[:, self.outer, None] * h

    def _terms(self, theta: Array) -> tuple[Array, list[Array]]:
        """log of the sum of the terms (B, n), and each one's share of it."""
        share = [theta[:, c] @ g for g, c in zip(self.G, self.columns, strict=True)]
        for s, k in zip(share, self.const, strict=True):
            if np.ndim(k):
                s += k
        top = share[0].copy()
        for s in share[1:]:
            np.maximum(top, s, out=top)
        for s in share:  # in place: at ten thousand points each pass over memory counts
            s -= top
            np.exp(s, out=s)
        total = share[0].copy()
        for s in share[1:]:
            total += s
        top += np.log(total)
        np.reciprocal(total, out=total)
        for s in share:
            s *= total
        return top, share

    def evaluate(self, theta: Array) -> tuple[Array, Array, list[Array]]:
        """theta (B, p) -> f = log L (B, n), its gradient J (B, p, n), and what `curvature` needs."""
        h, share = self._terms(theta)
        J = np.empty((len(theta), self.p, self.n))
        untouched = set(range(self.p))
        for s, g, cols in zip(share, self.G, self.columns, strict=True):
            for row, c in zip(g, cols, strict=True):
                if c in untouched:
                    np.multiply(s, row, out=J[:, c])
                    untouched.remove(c)
                else:
                    J[:, c] += s * row
        for c in untouched:
            J[:, c] = 0.0
        if self.outer is None:
            return h, J, share
        power = theta[:, self.outer, None]
        grad_h = J
        J = power[:, None] * grad_h
        J[:, self.outer] += h
        return power * h, J, [*share, grad_h, power]

    def curvature(self, theta: Array, J: Array, aux: list[Array], w: Array, c: Array | None = None) -> Array:
        """sum_i w_i d2f_i + c_i J_i J_i' (B, p, p), for weights w and c (B, n)."""
        H = np.zeros((len(theta), self.p, self.p))
        if self.outer is not None:
            H += 0.0 if c is None else _outer(J, c)
            c = None
            *aux, J, power = aux
            cross = np.einsum("bpn,bn->bp", J, w)
            H[:, self.outer] += cross
            H[:, :, self.outer] += cross
            w = w * power
        for s, pairs, cols in zip(aux, self._pairs, self.columns, strict=True):
            k = len(cols)
            H[:, np.array(cols)[:, None], cols] += ((w * s) @ pairs).reshape(-1, k, k)
        return H + _outer(J, -w if c is None else c - w)


def _outer(J: Array, c: Array) -> Array:
    """sum_i c_i J_i J_i' (B, p, p), for J (B, p, n) and c (B, n)."""
    return (J * c[:, None]) @ J.transpose(0, 2, 1)


class RepeatedData(Surface):
    """Muennighoff et al. 2023 (arXiv 2305.16264), eq. 5-7: D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)), and the same
    for parameters beyond U_N, the number that U unique tokens call for (alpha A U_N^-alpha = beta B U^-beta)."""

    def __init__(self, law: Law, N: Array, D: Array, U: Array) -> None:
        super().__init__(law, N, D)
        self.u = np.log(U)

    def at(self, rows: NDArray[np.int64]) -> Surface:
        return self.law.on(np.exp(self.x[rows]), np.exp(self.y[rows]), np.exp(self.u[rows]))

    def metric(self) -> Array:
        P = super().metric()
        for name in ("R_D", "R_N"):
            P[self.law.index(name), self.law.index(name)] += 1.0
        return P

    def value(self, theta: Array) -> Array:
        return self.evaluate(theta)[0]

    def evaluate(self, theta: Array) -> tuple[Array, Array, list[Array]]:
        f, J = repeated(self.law, theta, self.x, self.y, self.u)
        return f, J, []

    def curvature(self, theta: Array, J: Array, aux: list[Array], w: Array, c: Array | None = None) -> Array:
        # The repetition terms have long second derivatives; differences of the exact gradient are as good here.
        H, h = np.empty((len(theta), self.p, self.p)), 1e-6
        here = np.einsum("bpn,bn->bp", J, w)
        for j in range(self.p):
            moved = theta.copy()
            moved[:, j] += h
            H[:, j] = (np.einsum("bpn,bn->bp", self.evaluate(moved)[1], w) - here) / h
        H = (H + H.transpose(0, 2, 1)) / 2
        return H if c is None else H + _outer(J, c)


def repeated(law: Law, theta: Array, x: Array, y: Array, u: Array) -> tuple[Array, Array]:
    """f = log L (B, n) and its gradient (B, p, n) at x = log N, y = log D, u = log U, each (n,) or (B, n)."""
    i = law.index
    u = np.minimum(u, y)  # unique tokens seen cannot exceed tokens seen
    logE, logA, logB, alpha, beta, log_RD, log_RN = (theta[:, i(k), None] for k in law.params)
    with np.errstate(invalid="ignore", divide="ignore"):
        base = (np.log(alpha / beta) + logA - logB + beta * u) / alpha
    beyond = base < x  # False also where exponents are not positive
    un = np.where(beyond, base, x)
    gain_D, slope_RD, _ = _saturation(np.expm1(y - u), log_RD)
    gain_N, slope_RN, slope_r = _saturation(np.expm1(np.minimum(x - un, 300.0)), log_RN)
    log_N, log_D = un + gain_N, u + gain_D
    t = np.stack(np.broadcast_arrays(logE, logA - alpha * log_N, logB - beta * log_D))
    f = np.logaddexp.reduce(t, axis=0)
    sE, sA, sB = np.exp(t - f)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # d log N' / d log U_N, times the derivatives of log U_N, which itself depends on A, B, alpha and beta
        chain = np.where(beyond, slope_r * np.exp(np.minimum(x - un, 300.0)) - 1.0, 0.0) * sA
        by_beta = np.where(beyond, chain * (u - 1.0 / beta), 0.0)
    J = np.empty((len(theta), len(law.params), f.shape[1]))
    J[:, i("E")] = sE
    J[:, i("A")] = sA + chain
    J[:, i("B")] = sB - chain
    J[:, i("alpha")] = -sA * log_N + chain * (1.0 / alpha - un)
    J[:, i("beta")] = -sB * log_D + by_beta
    J[:, i("R_D")] = -beta * sB * slope_RD
    J[:, i("R_N")] = -alpha * sA * slope_RN
    return f, J


def _saturation(r: Array, log_R: Array) -> tuple[Array, Array, Array]:
    """g = log(1 + R (1 - exp(-r/R))) and its derivatives in log R and in r."""
    R = np.exp(np.clip(log_R, -30, 30))
    decay = np.exp(-r / R)
    gain = -R * np.expm1(-r / R)
    return np.log1p(gain), (gain - r * decay) / (1 + gain), decay / (1 + gain)


LOG6 = float(np.log(6.0))
_TERMS = {
    "chinchilla": lambda x, y: [{"E": 1.0}, {"A": 1.0, "alpha": -x}, {"B": 1.0, "beta": -y}],
    "data_constrained": lambda x, y: [{"E": 1.0}, {"A": 1.0, "alpha": -x}, {"B": 1.0, "beta": -y}],
    "kaplan": lambda x, y: [{"Nc": 1.0, "alpha_N": -x}, {"Dc": 1.0, "": -y}],
    "over_training": lambda x, y: [
        {"E": 1.0},
        {"a": 1.0, "eta": -(2 * x + LOG6)},
        {"b": 1.0, "eta": -(2 * y + LOG6)},
    ],
    "power": lambda x, y: [{"A": 1.0, "alpha": -x}],
    "saturating_power": lambda x, y: [{"E": 1.0}, {"A": 1.0, "alpha": -x}],
}
_EXPONENT = (0.05, 1.2)
LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "chinchilla",
            ("E", "A", "B", "alpha", "beta"),
            frozenset("EAB"),
            ("alpha", "beta"),
            "L = E + A/N^alpha + B/D^beta. Hoffmann et al. 2022, arXiv 2203.15556, eq. 2",
            tied=("alpha", "beta"),
            ranges={"alpha": _EXPONENT, "beta": _EXPONENT},
        ),
        Law(
            "kaplan",
            ("Nc", "Dc", "alpha_N", "alpha_D"),
            frozenset({"Nc", "Dc"}),
            ("alpha_N", "alpha_D"),
            "L = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D. Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
            ranges={"alpha_N": (0.2, 2.0), "alpha_D": (0.02, 0.8)},
        ),
        Law(
            "data_constrained",
            ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
            frozenset({"E", "A", "B", "R_D", "R_N"}),
            ("alpha", "beta", "R_D", "R_N"),
            "Chinchilla with effective D' and N' under repetition. Muennighoff et al. 2023, arXiv 2305.16264",
            tied=("alpha", "beta"),
            uses_U=True,
            ranges={"alpha": _EXPONENT, "beta": _EXPONENT, "R_D": (1.0, 4.0), "R_N": (1.0, 4.0)},
        ),
        Law(
            "over_training",
            ("E", "a", "b", "eta"),
            frozenset("Eab"),
            ("eta",),
            "L = E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6ND. Gadre et al. 2024, arXiv 2403.08540, eq. 4",
            ranges={"eta": (0.02, 0.6)},
        ),
        Law(
            "power",
            ("A", "alpha"),
            frozenset("A"),
            ("alpha",),
            "L = A/N^alpha",
            uses_D=False,
            ranges={"alpha": (0.01, 1.2)},
        ),
        Law(
            "saturating_power",
            ("E", "A", "alpha"),
            frozenset("EA"),
            ("alpha",),
            "L = E + A/N^alpha",
            uses_D=False,
            ranges={"alpha": (0.05, 1.5)},
        ),
    )
}
