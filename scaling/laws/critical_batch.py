"""Critical batch size (McCandlish et al. 2018; Kaplan et al. 2020, section 5.1).

To one loss, S steps of batch B (tokens) lie on a hyperbola, (S / S_min - 1)(E / E_min - 1) = 1 with E = B S
tokens, which is the line S = S_min + E_min / B. Its corner is B_crit = E_min / S_min = B_star L^(-1 /
alpha_B).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws.errors import Array, LawError, columns
from scaling.laws.regression import Regression, regress


@dataclass(frozen=True)
class TradeOff:
    """Steps against tokens to reach one loss (nats): the fewest of each, and the batch (tokens) at the
    corner.

    `ci` is the 95 % interval of B_crit: from 0 where more tokens were never needed, to inf where fewer steps
    never were; with two batch sizes it is (0, inf).
    """

    loss: float
    S_min: float
    E_min: float
    B_crit: float
    ci: tuple[float, float]
    batches: int


@dataclass(frozen=True)
class CriticalBatch:
    """B_crit = B_star L^(-1 / alpha_B): tokens, L in nats; `line` is the regression of B_crit on L.

    `line` is None, and B_star and alpha_B nan, where fewer than three losses have a trade-off. The losses are
    read off the same curves, so the errors of the line are a lower bound.
    """

    trade_offs: tuple[TradeOff, ...]
    B_star: float
    alpha_B: float
    line: Regression | None

    def at(self, loss: ArrayLike) -> Array:
        """B_crit in tokens at a loss in nats per token."""
        return np.asarray(self.B_star * np.asarray(loss, dtype=float) ** (-1 / self.alpha_B))

    def min_compute(self, C: ArrayLike, batch: ArrayLike, loss: ArrayLike) -> Array:
        """C_min = C / (1 + B / B_crit(L)): FLOPs that batches far below critical need (Kaplan et al., eq. 5.5)."""
        c, b, y = columns(1, C=C, batch=np.broadcast_to(batch, np.shape(C)), loss=loss)
        return np.asarray(c / (1 + b / self.at(y)))

    def min_steps(self, steps: ArrayLike, batch: ArrayLike, loss: ArrayLike) -> Array:
        """S_min = S / (1 + B_crit(L) / B): steps that batches far above critical need (eq. 5.4)."""
        s, b, y = columns(1, steps=steps, batch=np.broadcast_to(batch, np.shape(steps)), loss=loss)
        return np.asarray(s / (1 + self.at(y) / b))


# Kaplan et al. 2020, eq. 1.4: WebText2, nats per token of a BPE of 50,257. For comparison, not for other data.
KAPLAN = CriticalBatch((), 2e8, 0.21, None)


def trade_off(batch: ArrayLike, steps: ArrayLike, loss: float) -> TradeOff:
    """S = S_min + E_min / B through runs of one size that reached `loss`, in relative error of S.

    batch in tokens, steps to that loss. Raises LawError with fewer than two batch sizes, or where a larger
    batch never saved steps (or a smaller never tokens) and so the hyperbola has no corner.
    """
    b, s = columns(2, batch=batch, steps=steps)
    columns(1, loss=loss)
    different = len(np.unique(b))
    if different < 2:
        raise LawError(f"batch: every run has {b[0]:g} tokens a step: two batch sizes are needed")
    design = np.stack([1 / s, 1 / (b * s)], axis=1)
    scale = design.max(axis=0)
    found, *_ = np.linalg.lstsq(design / scale, np.ones(len(s)), rcond=None)
    S_min, E_min = (float(v) for v in found / scale)
    if S_min <= 0 or E_min <= 0:
        never = "saved steps" if E_min <= 0 else "cost tokens"
        raise LawError(f"loss = {loss:g}: a larger batch never {never}: the runs lie on one side of B_crit")
    low, high = 0.0, float("inf")
    if len(s) > 2:
        low, high = _ratio_interval(design / scale, found, scale)
    return TradeOff(float(loss), S_min, E_min, E_min / S_min, (low, high), different)


def critical_batch(
    batch: ArrayLike,
    steps: Sequence[ArrayLike],
    losses: Sequence[ArrayLike],
    *,
    targets: ArrayLike | None = None,
) -> CriticalBatch:
    """Critical batch size from training curves of one model size at several batch sizes.

    One entry a run: batch (tokens a step), steps and losses (nats per token) along its curve. Steps to each
    of `targets` are read off the running best of the curves in log-log; default: eight losses that every run
    reached. A target without a corner is left out. Raises LawError where no target has one.
    """
    (b,) = columns(2, batch=batch)
    if not len(b) == len(steps) == len(losses):
        raise LawError(f"batch has {len(b)} runs, steps {len(steps)}, losses {len(losses)}: one entry a run in each")
    curves = []
    for i, (s, y) in enumerate(zip(steps, losses, strict=True)):
        s_i, y_i = columns(2, **{f"steps[{i}]": s, f"losses[{i}]": y})
        order = np.argsort(s_i)
        best = np.minimum.accumulate(y_i[order])
        new = np.concatenate([[True], np.diff(best) < 0])
        curves.append((np.log(best[new]), np.log(s_i[order][new])))
    if targets is None:
        worst, best_all = min(y[0] for y, _ in curves), max(y[-1] for y, _ in curves)
        if worst <= best_all:
            raise LawError("no loss was reached by every run: the curves do not overlap")
        wanted = np.exp(np.linspace(worst, best_all, 10)[1:-1])
    else:
        (wanted,) = columns(1, targets=targets)
    found, problem = [], LawError("no target loss was reached by two batch sizes")
    for target in wanted:
        at = np.array([np.interp(-np.log(target), -y, s, np.nan, np.nan) for y, s in curves])
        reached = np.isfinite(at)
        try:
            found.append(trade_off(b[reached], np.exp(at[reached]), float(target)))
        except LawError as error:
            problem = error
    if not found:
        raise problem
    if len(found) < 3:
        return CriticalBatch(tuple(found), float("nan"), float("nan"), None)
    line = regress([t.loss for t in found], [t.B_crit for t in found], names="loss B_crit")
    return CriticalBatch(tuple(found), line.coefficient, -1 / line.slope, line)


def _ratio_interval(design: Array, found: Array, scale: Array) -> tuple[float, float]:
    """Fieller's interval of E_min / S_min: unbounded where S_min could be zero."""
    from scipy.special import stdtrit

    n = len(design)
    variance = np.sum((1 - design @ found) ** 2) / (n - 2)
    cov = variance * np.linalg.inv(design.T @ design) / np.outer(scale, scale)
    S, E = found / scale
    t2 = stdtrit(n - 2, 0.975) ** 2
    a, b, c = S**2 - t2 * cov[0, 0], -2 * (S * E - t2 * cov[0, 1]), E**2 - t2 * cov[1, 1]
    if a <= 0:
        return 0.0, float("inf")
    root = np.sqrt(max(0.0, b**2 - 4 * a * c))
    return max(0.0, float((-b - root) / (2 * a))), float((-b + root) / (2 * a))
