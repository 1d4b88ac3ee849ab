"""`fit_law`: one law, one named objective, one certified optimum, and what can be read off it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws import allocation, identify
from scaling.laws import bootstrap as resampling
from scaling.laws import certificate as certificates
from scaling.laws.allocation import Allocation, Interval
from scaling.laws.certificate import Certificate
from scaling.laws.errors import Array, LawError
from scaling.laws.forms import LAWS, Law
from scaling.laws.points import Points, directions, read_points
from scaling.laws.search import search
from scaling.laws.solver import Problem
from scaling.laws.solver import objective as make_objective

FLOPS_PER_PARAMETER_TOKEN = 6.0


@dataclass(frozen=True)
class LawFit:
    """A fitted law.

    params: by the law's names, for unnormalised N (parameters) and D (tokens), loss in nats per token.
    objective: summed over points as published codes print it (huber: sum of Huber(delta); lad: sum |log residual|;
    mse: residual sum of squares). warnings: what the reader must know, among them why a fit is no answer.
    draws: bootstrap refits, theta (R, p), or None.
    """

    law: Law
    objective_name: str
    params: dict[str, float]
    objective: float
    certificate: Certificate
    warnings: tuple[str, ...]
    points: Points = field(repr=False)
    problem: Problem = field(repr=False)
    theta: Array = field(repr=False)
    draws: Array | None = field(default=None, repr=False)

    @property
    def fitted(self) -> Array:
        """Predicted loss (n,) in the order in which the points were given."""
        return self.predict(self.points.N, self.points.D, self.points.U)[self.points.order]

    def exponents(self) -> tuple[float, float]:
        """(a, b) of N_opt ~ C^a and D_opt ~ C^b; b = 1 - a by construction. LawError for laws of one variable."""
        a = float(allocation.pair(self.law, self.theta[None]).a[0])
        return a, 1 - a

    def predict(self, N: ArrayLike, D: ArrayLike | None = None, U: ArrayLike | None = None) -> Array:
        """Loss in nats per token at N parameters and D tokens, U of them unique; shapes broadcast."""
        shape, f = self._log_loss(self.theta[None], N, D, U)
        return np.exp(f[0]).reshape(shape)

    def predict_interval(
        self,
        N: ArrayLike,
        D: ArrayLike | None = None,
        U: ArrayLike | None = None,
        *,
        level: float = 0.95,
        noise: bool = False,
        seed: int = 0,
    ) -> tuple[Array, Array]:
        """Bootstrap interval (low, high) of the predicted loss; with `noise`, of a new run there, by adding the
        fit's own log residuals, inflated to the noise they estimate."""
        shape, f = self._log_loss(self._bootstrapped(), N, D, U)
        if noise:
            r = (
                self.points.log_loss
                - self._log_loss(self.theta[None], self.points.N, self.points.D, self.points.U)[1][0]
            )
            r = r * np.sqrt(len(r) / max(len(r) - self.free, 1))
            f = f + np.random.default_rng(seed).choice(r, size=f.shape)
            low, high = np.exp(np.quantile(f, [(1 - level) / 2, (1 + level) / 2], axis=0))
        else:
            best = self._log_loss(self.theta[None], N, D, U)[1][0]
            low, high = np.exp([self.interval(e, v, level) for e, v in zip(best, f.T, strict=True)]).T
        return low.reshape(shape), high.reshape(shape)

    def optimal(
        self, C: float, *, k: float = FLOPS_PER_PARAMETER_TOKEN, U: float | None = None, level: float = 0.95
    ) -> Allocation:
        """The N and D of least loss for compute C = k N D (FLOPs), with intervals where there is a bootstrap."""
        log_ND = np.log(C / k)
        N, D, loss = self._allocate(self.theta[None], log_ND, U)
        point = (C, float(N[0]), float(D[0]), float(loss[0]))
        caveats = self.certificate.reasons
        if self.points.structural or not self.identified.get("a", True):
            caveats = (*caveats, "exponent a not identified")
        if self.draws is None:
            return Allocation(*point, caveats=caveats)
        drawn = self._allocate(self.draws, log_ND, U)
        ends = [self.interval(e, v, level, "log") for e, v in zip(point[1:], drawn, strict=True)]
        return Allocation(*point, N_ci=ends[0], D_ci=ends[1], loss_ci=ends[2], caveats=caveats)

    def regret(self, N: float, D: float, U: float | None = None) -> float:
        """Extra compute of training N parameters on D tokens: 0.2 means 20 % more FLOPs than the best allocation
        needs for the same loss. The same for every k in C = k N D."""
        return float(allocation.extra_compute(self.law, self.theta[None], N, D, U)[0])

    def regret_interval(self, N: float, D: float, U: float | None = None, *, level: float = 0.95) -> Interval:
        """Percentile interval of `regret` over the bootstrap; it has a floor at zero, so no t interval."""
        draws = allocation.extra_compute(self.law, self._bootstrapped(), N, D, U)
        # some refits cost infinitely much: no interpolation between them
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        return float(low), float(high)

    @cached_property
    def se(self) -> dict[str, float]:
        """Bootstrap standard errors of the parameters and of a and b."""
        return {k: float(np.std(v, ddof=1)) for k, v in allocation.derived(self.law, self._bootstrapped()).items()}

    def ci(self, level: float = 0.95, *, method: str | None = None) -> dict[str, Interval]:
        """Intervals of the parameters and of a and b. method: "bootstrap" (default where there is one) or
        "profile"; profile ends are infinite (0 and 1 for a) where the data set no bound."""
        method = method or ("profile" if self.draws is None else "bootstrap")
        if method == "bootstrap":
            draws = allocation.derived(self.law, self._bootstrapped())
            best = allocation.derived(self.law, self.theta[None])
            return {k: self.interval(float(best[k][0]), v, level, self._scale(k)) for k, v in draws.items()}
        if method != "profile":
            raise LawError(f"method={method!r}: allowed are bootstrap, profile")
        if self.law.name == "kaplan":
            raise LawError("law='kaplan': profiles are of its internal coordinates; use bootstrap=… for intervals")
        out = self._profiles(level)
        if "a" in out:
            out["b"] = (1 - out["a"][1], 1 - out["a"][0])
        return out

    @cached_property
    def identified(self) -> dict[str, bool]:
        """Per free parameter and for a: whether the data bound it (95 % profile interval finite, away from zero, and
        for a narrower than (.25, .75) on the scale of odds) and the grid can tell (three sizes and three token
        counts at least)."""
        known = {k: identify.verdict(self.law, k, v) for k, v in self._profiles(0.95).items()}
        if self.points.structural:
            known = dict.fromkeys(known, False)
        if not self.certificate.converged:
            known = dict.fromkeys(known, False)
        if "a" in known and "a" not in self.law.params and known["a"] and self.draws is not None:
            known["a"] = identify.verdict(self.law, "a", self.ci()["a"])
        return known

    @property
    def free(self) -> int:
        """Number of free parameters."""
        return int(self.problem.T.shape[1])

    def _profiles(self, level: float) -> dict[str, Interval]:
        from scipy.special import stdtrit

        if self.points.units <= self.free:
            return {k: (0.0, float("inf")) for k in self.points.free_names}
        f = self._log_loss(self.theta[None], self.points.N, self.points.D, self.points.U)[1]
        r, _ = self.problem.objective.residual(f, self.points.log_loss)
        problem = identify.smooth_enough(self.problem, r[0])
        scale = identify.deviance_scale(problem, r[0], self.free)
        threshold = float(stdtrit(self.points.units - self.free, (1 + level) / 2))
        weights = self.points.weights / self.points.weights.mean()
        return identify.profiles(problem, self.theta, weights, scale, list(self.points.free_names), threshold)

    def _bootstrapped(self) -> Array:
        if self.draws is None:
            raise LawError("no bootstrap: call fit_law(..., bootstrap=1000) for standard errors and intervals")
        return self.draws

    def interval(self, estimate: float, draws: Array, level: float, scale: str = "plain") -> Interval:
        """Of a quantity by its bootstrap draws; `scale` (plain, log, odds) is where it is nearest to normal."""
        units, smooth = self.points.units, self.points.smooth
        return resampling.interval(estimate, draws, level, units, self.free, scale=scale, smooth=smooth)

    def _scale(self, name: str) -> str:
        if name not in self.law.params:
            return "odds"
        return "log" if name in self.law.logs and name != "E" else "plain"

    def _log_loss(
        self, theta: Array, N: ArrayLike, D: ArrayLike | None, U: ArrayLike | None
    ) -> tuple[tuple[int, ...], Array]:
        if D is None and self.law.uses_D:
            raise LawError(f"D: the {self.law.name} law needs tokens")
        n, d, u = np.broadcast_arrays(N, 1.0 if D is None else D, 1.0 if U is None else U)
        n, d, u = (np.asarray(v, float) for v in (n, d, u))
        surface = self.law.on(n.ravel(), d.ravel(), None if U is None else u.ravel())
        return n.shape, surface.value(theta)

    def _allocate(self, theta: Array, log_ND: float, U: float | None) -> tuple[Array, Array, Array]:
        log_N, log_D = allocation.optimum(self.law, theta, np.full(len(theta), log_ND), U)
        return np.exp(log_N), np.exp(log_D), np.exp(allocation.log_loss(self.law, theta, log_N, log_D, U))


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
    """Fit a law to exactly the points given, and certify the optimum.

    N parameters, D tokens (None for a law of one variable), loss in nats per token, U unique tokens, weights: each
    (n,). law: chinchilla, kaplan, data_constrained, over_training, power, saturating_power. objective: huber (with
    delta) and lad on log loss in log-sum-exp form, mse on loss, mse_log on log loss, asymmetric on loss
    (over-prediction costs ten times). weights multiply each point's term: heavier counts more, 1/variance for
    squares. tie: alpha = beta. fix: parameters held at given values. groups: labels of independent units for the
    bootstrap; by default every (N, D, U) is one. bootstrap: number of refits. The order of rows changes nothing.

    Raises LawError for input no law can be fitted to; what can be fitted but not trusted is in `LawFit.warnings`.
    Laws and sources are in `forms.LAWS`.
    """
    if law not in LAWS:
        raise LawError(f"law={law!r}: allowed are {', '.join(LAWS)}")
    form, rule = LAWS[law], make_objective(objective, delta)
    points = read_points(form, N, D, loss, U, weights, groups, tie, dict(fix or {}))
    surface = form.on(points.N, points.D, points.U)
    problem = Problem(surface, points.log_loss, rule, directions(surface, points.fixed, tie))
    w = points.weights

    found, projected = search(problem, w, points.fixed, tie)
    best = int(np.argmin(found.value))
    found = found.replaced(best, certificates.refine(problem, found.theta[best], w))
    proof = certificates.certify(problem, found, best, w, projected)
    theta = found.theta[best]

    r, _ = rule.residual(surface.value(theta[None]), points.log_loss)
    points.smooth = float(np.mean((r <= rule.hi * rule.delta) & (r >= -rule.lo * rule.delta))) if rule.smoothed else 1.0
    draws = None
    if bootstrap:
        if points.units < 2:
            raise LawError(f"bootstrap={bootstrap}: one independent unit cannot be resampled")
        counts = resampling.units(points.groups, bootstrap, seed)
        draws = resampling.refit(problem, theta, w, counts, points.groups)
    return LawFit(
        form,
        objective,
        {k: float(v) for k, v in form.to_params(theta).items()},
        float(found.value[best]),
        proof,
        (*points.warnings, *proof.reasons),
        points,
        problem,
        theta,
        draws,
    )
