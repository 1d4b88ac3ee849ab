"""From a law to decisions: the exponents, the best N and D for a budget C = k N D, and the price of another choice.

All functions take parameters as arrays (R,), one entry a bootstrap draw, so that intervals cost one call.
Closed forms are Hoffmann et al. 2022, eq. 4, generalised to every law that is a monotone function of
A N^-alpha + B D^-beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.laws.errors import Array, LawError
from scaling.laws.forms import LOG6, Law, repeated

Interval = tuple[float, float]


@dataclass(frozen=True)
class Allocation:
    """Best use of compute C (FLOPs, = k N D): N parameters, D tokens, loss in nats per token.

    Intervals are None without a bootstrap. `caveats` is empty only where the fit is certified and its exponent
    identified; otherwise the numbers are no answer and the caveats say why.
    """

    C: float
    N: float
    D: float
    loss: float
    N_ci: Interval | None = None
    D_ci: Interval | None = None
    loss_ci: Interval | None = None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """The reducible part A N^-alpha + B D^-beta of a law: arrays (R,) of log A, alpha, log B, beta."""

    logA: Array
    alpha: Array
    logB: Array
    beta: Array

    @property
    def a(self) -> Array:
        """Exponent of N_opt ~ C^a."""
        return self.beta / (self.alpha + self.beta)

    @property
    def logG(self) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.log(self.alpha / self.beta) + self.logA - self.logB) / (self.alpha + self.beta)

    def log_N(self, log_ND: Array) -> Array:
        """log N_opt for a given log(N D)."""
        return self.logG + self.a * log_ND

    def value(self, log_N: Array, log_D: Array) -> Array:
        """log of the reducible part."""
        return np.logaddexp(self.logA - self.alpha * log_N, self.logB - self.beta * log_D)

    def log_ND(self, log_value: Array) -> Array:
        """log(N D) at which the best allocation reaches a reducible part."""
        kappa = np.logaddexp(self.logA - self.alpha * self.logG, self.logB + self.beta * self.logG)
        return (kappa - log_value) * (self.alpha + self.beta) / (self.alpha * self.beta)


def pair(law: Law, theta: Array) -> Pair:
    """theta (R, p) -> the law's reducible part. Raises LawError for laws of one variable."""

    def at(name: str) -> Array:
        return theta[:, law.index(name)]

    if law.name in ("chinchilla", "data_constrained"):
        return Pair(at("A"), at("alpha"), at("B"), at("beta"))
    if law.name == "over_training":  # (a M^eta + b M^-eta) C^-eta = a (6 N^2)^-eta + b (6 D^2)^-eta
        eta = at("eta")
        return Pair(at("a") - eta * LOG6, 2 * eta, at("b") - eta * LOG6, 2 * eta)
    if law.name == "kaplan":
        return Pair(at("Nc"), at("alpha_N"), at("Dc"), np.ones(len(theta)))
    raise LawError(f"law={law.name!r} has one variable: it allocates nothing between N and D")


def optimum(law: Law, theta: Array, log_ND: Array, U: float | None = None) -> tuple[Array, Array]:
    """log N, log D (R,) of least loss at given log(N D) (R,); with `U` unique tokens for the data_constrained law."""
    if not law.uses_U or U is None:
        log_N = pair(law, theta).log_N(log_ND)
        return log_N, log_ND - log_N
    # no closed form under repetition: zoom on log N, which is unimodal between no repeats and U of one token
    centre, half = pair(law, theta).log_N(log_ND), np.full(len(theta), 8.0)
    for _ in range(10):
        grid = centre[:, None] + half[:, None] * np.linspace(-1, 1, 25)
        loss = repeated_loss(law, theta, grid, log_ND[:, None] - grid, U)
        centre = np.take_along_axis(grid, np.argmin(loss, axis=1)[:, None], axis=1)[:, 0]
        half = half / 6
    return centre, log_ND - centre


def log_loss(law: Law, theta: Array, log_N: Array, log_D: Array, U: float | None = None) -> Array:
    """log loss (R,), each entry under its own theta."""
    if law.uses_U:
        u = np.inf if U is None else U
        return repeated_loss(law, theta, log_N[:, None], log_D[:, None], u)[:, 0]
    value = pair(law, theta).value(log_N, log_D)
    if law.name == "kaplan":
        return theta[:, law.index("alpha_D")] * value
    return np.logaddexp(value, theta[:, law.index("E")])


def repeated_loss(law: Law, theta: Array, log_N: Array, log_D: Array, U: float) -> Array:
    """log loss (R, m) at log N, log D (R, m), each row under its own theta."""
    return repeated(law, theta, log_N, log_D, np.full_like(log_D, np.log(U)))[0]


def extra_compute(law: Law, theta: Array, N: float, D: float, U: float | None = None) -> Array:
    """Share (R,) of compute that (N, D) wastes: N D over the product that the best allocation needs for the same
    loss, minus one. 0.2 means that 20 % more was paid than needed. No unit of compute enters."""
    log_ND = np.full(len(theta), np.log(N) + np.log(D))
    if not law.uses_U or U is None:
        p = pair(law, theta)
        need = p.log_ND(p.value(np.full(len(theta), np.log(N)), np.full(len(theta), np.log(D))))
        return np.maximum(np.expm1(log_ND - need), 0.0)
    one = np.ones(len(theta))
    loss = log_loss(law, theta, np.log(N) * one, np.log(D) * one, U)
    low, high = log_ND - 20, log_ND.copy()
    for _ in range(40):  # the best loss falls with compute, so bisect
        mid = (low + high) / 2
        log_N, log_D = optimum(law, theta, mid, U)
        best = log_loss(law, theta, log_N, log_D, U)
        low, high = np.where(best > loss, mid, low), np.where(best > loss, high, mid)
    return np.maximum(np.expm1(log_ND - high), 0.0)


def derived(law: Law, theta: Array) -> Mapping[str, Array]:
    """Public parameters and the exponents a and b: name -> (R,). The over-training law has coefficients of those
    names, and exponents of one half by its form."""
    out = dict(law.to_params(theta))
    if law.uses_D and "a" not in law.params:
        a = pair(law, theta).a
        out["a"], out["b"] = a, 1 - a
    return out
