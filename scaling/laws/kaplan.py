"""Kaplan et al. 2020 from a sweep: L(N), L(D), L(C), joint L(N, D), N_opt(C), and the same at C_min."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws.cells import cells, same_value
from scaling.laws.critical_batch import CriticalBatch
from scaling.laws.errors import Array, LawError
from scaling.laws.fit import fit_law
from scaling.laws.frontier import Index, frontier
from scaling.laws.regression import Exponents, Regression, exponents, regress

PF_DAY = 1e15 * 86400  # FLOPs


@dataclass(frozen=True)
class PowerLaw:
    """L = (scale / x)^exponent, in nats; `line` is the regression of log L on log x. Scale in the units of x."""

    exponent: float
    scale: float
    line: Regression

    def ci(self, level: float = 0.95) -> tuple[float, float]:
        """Interval of the exponent."""
        low, high = self.line.ci(level)
        return -high, -low


@dataclass(frozen=True)
class Kaplan:
    """What the paper reports, from runs of one sweep (non-embedding N, and C = 6 N D, in its own convention).

    L_N (eq. 1.1): each size at its best, L_D (1.2): each budget at its best, L_C (1.3): the compute frontier,
    C in FLOPs. `allocation`: N_opt and D_opt on that frontier. `joint` (1.5): alpha_N, alpha_D, Nc, Dc of one
    fit to all runs. L_C_min and allocation_min (1.3 and table 6, C_min): the same frontier in compute at
    batches far below critical; None without a critical batch size. `notes`: what the single-variable laws
    take for granted.
    """

    L_N: PowerLaw
    L_D: PowerLaw
    L_C: PowerLaw
    allocation: Exponents
    joint: dict[str, float]
    L_C_min: PowerLaw | None
    allocation_min: Exponents | None
    notes: tuple[str, ...]

    def rows(self, level: float = 0.95) -> list[dict[str, str | float]]:
        """One row a number: quantity, value, low, high (nan without interval) and unit, ready to print."""
        table: list[dict[str, str | float]] = []

        def add(quantity: str, value: float, ci: tuple[float, float] = (np.nan, np.nan), unit: str = "") -> None:
            table.append({"quantity": quantity, "value": value, "low": ci[0], "high": ci[1], "unit": unit})

        laws = [("N", self.L_N, "parameters"), ("D", self.L_D, "tokens"), ("C", self.L_C, "FLOPs")]
        if self.L_C_min is not None:
            laws.append(("C_min", self.L_C_min, "FLOPs"))
        for x, law, unit in laws:
            add(f"alpha_{x} of L({x})", law.exponent, law.ci(level))
            add(f"{x}_c of L({x})", law.scale, unit=unit)
            if unit == "FLOPs":
                add(f"{x}_c of L({x})", law.scale / PF_DAY, unit="PF-days")
        for name, unit in (("alpha_N", ""), ("alpha_D", ""), ("Nc", "parameters"), ("Dc", "tokens")):
            add(f"{name} of L(N, D)", self.joint[name], unit=unit)
        for x, both in (("C", self.allocation), ("C_min", self.allocation_min)):
            if both is not None:
                add(f"a of N_opt({x})", both.a, both.N.ci(level))
                add(f"b of D_opt({x})", both.b, both.D.ci(level))
        return table


def kaplan(
    N: ArrayLike,
    D: ArrayLike,
    C: ArrayLike,
    loss: ArrayLike,
    *,
    batch: ArrayLike | None = None,
    critical: CriticalBatch | None = None,
    method: str = "hull",
) -> Kaplan:
    """Kaplan's laws from final losses: N parameters, D tokens, C FLOPs, loss nats per token.

    With `batch` (tokens a step: one number or one per run) and `critical` (`critical_batch`, or `KAPLAN` for
    the paper's own) also in C_min. `method` is that of `frontier`. Several seeds of one (N, D) are one run.
    Raises LawError with fewer than two sizes, budgets or frontier points.
    """
    grid = cells(N, D, C, loss)
    by_size, by_budget = _best_of(same_value(grid.N), grid.loss), _best_of(same_value(grid.D), grid.loss)
    for name, best in (("N", by_size), ("D", by_budget)):
        if len(best) < 2:
            raise LawError(f"{name}: {len(best)} different value: a law in {name} needs at least 2")
    edge = frontier(grid.N, grid.D, grid.C, grid.loss, method=method)
    allocation = edge.regress()
    notes = [f"N_opt(C): {allocation.verdict}", f"N_opt(C): {allocation.all.note}", *_limits(grid.N, grid.D, grid.loss)]

    L_C_min, allocation_min = None, None
    if (batch is None) != (critical is None):
        raise LawError("C_min needs both batch and critical: one of them is missing")
    if batch is not None and critical is not None:
        tokens_a_step = np.broadcast_to(np.asarray(batch, dtype=float), grid.row_cell.shape)
        first = np.unique(grid.row_cell, return_index=True)[1]
        C_min = critical.min_compute(grid.C, tokens_a_step[first], grid.loss)
        lower = frontier(grid.N, grid.D, C_min, grid.loss, method=method)
        L_C_min, allocation_min = _power_law("C_min", lower.C, lower.loss), exponents(lower.C, lower.N, lower.D)
    return Kaplan(
        L_N=_power_law("N", grid.N[by_size], grid.loss[by_size]),
        L_D=_power_law("D", grid.D[by_budget], grid.loss[by_budget]),
        L_C=_power_law("C", edge.C, edge.loss),
        allocation=allocation.all,
        joint=dict(fit_law(grid.N, grid.D, grid.loss, law="kaplan").params),
        L_C_min=L_C_min,
        allocation_min=allocation_min,
        notes=tuple(notes),
    )


def _power_law(name: str, x: Array, loss: Array) -> PowerLaw:
    line = regress(x, loss, names=f"{name} loss")
    scale = float(np.exp(-line.intercept / line.slope)) if line.slope else float("nan")
    return PowerLaw(-line.slope, scale, line)


def _best_of(label: Index, loss: Array) -> Index:
    """The run of least loss of each label."""
    order = np.lexsort((loss, label))
    return np.asarray(order[np.unique(label[order], return_index=True)[1]])


def _limits(N: Array, D: Array, loss: Array) -> list[str]:
    """How much the other variable still held the loss back where a single-variable law was read."""
    notes = []
    for x, other, law, way in ((N, D, "L(N)", "tokens"), (D, N, "L(D)", "parameters")):
        label = same_value(x)
        order = np.lexsort((other, label))
        last = np.flatnonzero(np.diff(label[order], append=-1))
        last = last[(last > 0) & (label[order[last - 1]] == label[order[last]])]  # of labels with two runs
        if len(last):
            below, above = order[last - 1], order[last]
            falls = 1 - (loss[above] / loss[below]) ** (1 / np.log2(other[above] / other[below]))
            notes.append(
                f"{law} assumes {way} without limit: there the loss still fell {np.mean(falls):.1%} per doubling"
            )
    return notes
