"""What a budget buys by a fitted law: the best N and D for every C, and the price of another size.

A budget C (FLOPs) pays for training and, where inference is expected, for that too (Sardana et al. 2024, arXiv
2401.00448: 6 N D + 2 N D_inf, a token of inference costing a third of one of training). A size N then leaves

    D(N) = C / f(N) - D_inf / 3        f(N) FLOPs per token of training

tokens, and the law is read along that line, N by N. One route serves every law, with repetition and without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws import allocation
from scaling.laws.cells import same_value
from scaling.laws.errors import Array, columns
from scaling.laws.fit import LawFit

STEP = 0.05  # decades between the sizes tried; the optimum is read off a parabola through three of them
BELOW, ABOVE = 5.0, 3.0  # decades tried around the law's own optimum without inference
RATIOS = np.geomspace(0.1, 10, 41)  # N over the best N, of the regret curves
DEEPER = 6.0  # decades below a budget in which the loss of a bad choice is looked for


@dataclass(frozen=True)
class Cost:
    """What a size costs: `flops_per_token` (training) at sizes `N` in ascending order, log-log between them and
    proportional to N beyond; and how many tokens of inference a model will serve."""

    N: Array
    flops_per_token: Array
    inference_tokens: float = 0.0

    @classmethod
    def of_runs(cls, N: ArrayLike, D: ArrayLike, C: ArrayLike, inference_tokens: float = 0.0) -> Cost:
        """From runs: parameters, tokens, training FLOPs, each (n,); the median of each size."""
        n, d, c = columns(1, N=N, D=D, C=C)
        label = same_value(n)
        return cls(_medians(n, label), _medians(c / d, label), inference_tokens)

    def per_token(self, N: ArrayLike) -> Array:
        """FLOPs per token of training at N parameters."""
        x, known = np.log(np.asarray(N, dtype=float)), np.log(self.N)
        inside = np.interp(x, known, np.log(self.flops_per_token))
        return np.asarray(np.exp(inside + np.minimum(x - known[0], 0) + np.maximum(x - known[-1], 0)))

    def tokens(self, N: ArrayLike, C: ArrayLike) -> Array:
        """Training tokens that a budget of C FLOPs leaves a model of N parameters; zero or less where it has none."""
        return np.asarray(np.asarray(C, dtype=float) / self.per_token(N) - self.inference_tokens / 3)


def _medians(values: Array, label: NDArray[np.int64]) -> Array:
    """The median of every label's values, labels being 0, 1, …"""
    count = np.bincount(label)
    ordered, first = values[np.lexsort((values, label))], np.cumsum(count) - count
    return (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2


@dataclass(frozen=True)
class AnswerTable:
    """The answer for each of n budgets; every array is (n,) but `ratio` (m,), `extra_compute` and `loss_at` (n, m).

    C: FLOPs of training and expected inference together. N, D: best parameters and training tokens.
    tokens_per_parameter: D / N. loss: nats per token. *_low, *_high: 95 % intervals (nan without a bootstrap): of N
    and D those of the law; of the loss that in which a new run should end, the scatter of runs included.
    scale_up: C over the largest compute measured.
    ratio: N over the best N. extra_compute[i, j]: the share of C[i] that a size of ratio[j] * N[i] wastes: 0.2
    means that a fifth more is paid than its loss needs (nan where the budget does not even pay for its inference).
    loss_at[i, j]: the loss it ends at.
    """

    C: Array
    N: Array
    N_low: Array
    N_high: Array
    D: Array
    D_low: Array
    D_high: Array
    tokens_per_parameter: Array
    loss: Array
    loss_low: Array
    loss_high: Array
    scale_up: Array
    ratio: Array
    extra_compute: Array
    loss_at: Array


def budgets_of(C: ArrayLike, asked: float | None = None, *, count: int = 61, beyond: float = 100.0) -> Array:
    """Budgets for a table: log-spaced from the least C measured to `beyond` times the largest, and the one asked."""
    (c,) = columns(1, C=C)
    grid = np.geomspace(c.min(), beyond * c.max(), count)
    return grid if asked is None else np.unique(np.append(grid, asked))


def answer_table(
    fit: LawFit, budgets: ArrayLike, cost: Cost, *, largest: float, U: float | None = None, level: float = 0.95
) -> AnswerTable:
    """The best allocation of each budget (FLOPs) by a fitted law, with intervals and regret.

    cost: see `Cost`; largest: compute of the largest run measured; U: unique tokens that there are, for a law that
    knows of repetition. Raises LawError for budgets that are not positive, or laws of one variable.
    """
    (C,) = columns(1, budgets=budgets)
    best = np.array([_optimum(fit, fit.theta[None], c, cost, U)[:, 0] for c in C])  # (n, 3)
    log_N, D, loss = best[:, 0], np.exp(best[:, 1]), np.exp(best[:, 2])
    N = np.exp(log_N)
    ends = np.full((len(C), 6), np.nan)
    if fit.draws is not None:
        for i, c in enumerate(C):
            drawn = _optimum(fit, fit.draws, c, cost, U)
            ends[i, :2] = fit.interval(float(N[i]), np.exp(drawn[0]), level, "log")
            ends[i, 2:4] = fit.interval(float(D[i]), np.exp(drawn[1]), level, "log")
        ends[:, 4], ends[:, 5] = fit.predict_interval(N, D, None if U is None else np.minimum(U, D), noise=True)
    sizes = N[:, None] * RATIOS
    at = _log_loss(fit, fit.theta[None], sizes, cost.tokens(sizes, C[:, None]), U)[0]
    return AnswerTable(
        C=C,
        N=N,
        N_low=ends[:, 0],
        N_high=ends[:, 1],
        D=D,
        D_low=ends[:, 2],
        D_high=ends[:, 3],
        tokens_per_parameter=D / N,
        loss=loss,
        loss_low=ends[:, 4],
        loss_high=ends[:, 5],
        scale_up=C / largest,
        ratio=RATIOS,
        extra_compute=_wasted(fit, C, at, cost, U),
        loss_at=np.where(np.isfinite(at), np.exp(at), np.nan),
    )


def regret(fit: LawFit, N: float, C: float, cost: Cost, U: float | None = None) -> float:
    """Share of C that training N parameters, with all tokens it pays for, wastes; nan where it pays for none."""
    at = _log_loss(fit, fit.theta[None], np.array([N]), cost.tokens([N], C), U)
    return float(_wasted(fit, np.array([C]), at, cost, U)[0, 0])


def _wasted(fit: LawFit, C: Array, at: Array, cost: Cost, U: float | None) -> Array:
    """log losses (n, m) reached with budgets C (n,) -> the share of each budget that the best allocation would save,
    over what it needs."""
    low, high = np.log10(C.min()) - DEEPER, np.log10(C.max())
    grid = np.logspace(low, high, max(2, int(20 * (high - low))) + 1)
    best = np.array([_optimum(fit, fit.theta[None], c, cost, U)[2, 0] for c in grid])
    known = np.isfinite(best)
    best, log_c = np.minimum.accumulate(best[known]), np.log(grid[known])
    new = np.concatenate([[True], np.diff(best) < 0])
    need = np.interp(-at, -best[new], log_c[new])  # the least budget that ends at this loss
    out = np.maximum(np.expm1(np.log(C)[:, None] - need), 0.0)
    return np.where(np.isfinite(at), out, np.nan)


def _optimum(fit: LawFit, theta: Array, C: float, cost: Cost, U: float | None) -> Array:
    """theta (R, p) -> (3, R): log N, log D and log loss of the best size for C; inf loss where nothing is trained."""
    k = float(np.median(cost.flops_per_token / cost.N))  # of a middling size: where the search begins
    near = float(allocation.pair(fit.law, fit.theta[None]).log_N(np.log([C / k]))[0])
    log_N = near + np.log(10) * np.arange(-BELOW, ABOVE + STEP / 2, STEP)
    f = _log_loss(fit, theta, np.exp(log_N), cost.tokens(np.exp(log_N), C), U)
    i = np.clip(np.argmin(f, axis=1), 1, len(log_N) - 2)
    rows = np.arange(len(theta))
    left, middle, right = f[rows, i - 1], f[rows, i], f[rows, i + 1]
    with np.errstate(invalid="ignore"):
        bend = left - 2 * middle + right
        move = np.where(np.isfinite(bend) & (bend > 0), 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
        move = np.clip(move, -1, 1)
        lowest = np.where(np.isfinite(bend), middle - 0.25 * (left - right) * move, middle)
    best = log_N[i] + move * STEP * np.log(10)
    left_over = np.maximum(cost.tokens(np.exp(best), C), np.finfo(float).tiny)
    return np.stack([best, np.log(left_over), lowest])


def _log_loss(fit: LawFit, theta: Array, N: Array, D: Array, U: float | None) -> Array:
    """log loss (R, …) at sizes and tokens of one shape; inf where there are no tokens to train on."""
    trained = D > 0
    d = np.where(trained, D, 1.0).ravel()
    u = np.minimum(U, d) if U is not None and fit.law.uses_U else None
    f = fit.law.on(N.ravel(), d, u).value(theta).reshape(len(theta), *N.shape)
    return np.where(trained, f, np.inf)
