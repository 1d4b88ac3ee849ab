"""What the analysis says to do with a budget, as plain data: for the terminal, the page and `fits.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws import Frontier
from scaling.laws.plan import AnswerTable, Cost, answer_table, budgets_of
from scaling.report.estimate import Estimate
from scaling.report.methods import columns
from scaling.report.parametric import Fit, repeated
from scaling.sources.select import Selection

FAR = 100.0  # times the largest compute measured: what lies beyond is not vouched for


@dataclass(frozen=True)
class Seen:
    """The best run at each compute seen, in order of C (the frontier under the primary counting); lists of one
    length. edge: "" where the grid had runs on both sides, else the edge of the grid that it lies on."""

    C: list[float]
    N: list[float]
    D: list[float]
    loss: list[float]
    run: list[str]
    edge: list[str]


@dataclass(frozen=True)
class Plan:
    """What a budget buys, by these runs.

    law: the fit that the table is made of ("chinchilla, huber"), or None where no law is identified; `why` then says
    so, and `seen` is all there is. n_label, c_label: which N and which C all numbers are about.
    largest: FLOPs of the largest run measured; beyond `far` times it nothing is vouched for.
    unique_tokens: different tokens that the corpus has, where the runs tell (None otherwise).
    inference_tokens: tokens that the model is expected to serve; budgets then pay for these too.
    table: `laws.plan.AnswerTable`, one row a budget, from the least compute measured to 100 times the largest, and
    the budget asked for; None without a law. asked: the row of that budget in the table, None where none was asked.
    """

    law: str | None
    why: str
    n_label: str
    c_label: str
    largest: float
    far: float
    unique_tokens: float | None
    inference_tokens: float
    table: AnswerTable | None
    asked: int | None
    budget: float | None
    seen: Seen


def make_plan(
    selection: Selection,
    fits: Sequence[Fit],
    best: Frontier,
    answer: Estimate | None,
    *,
    budget: float | None = None,
    inference_tokens: float = 0.0,
) -> Plan:
    """The plan of an analysis; `answer` is the estimate that it goes by, `best` the primary frontier."""
    counting = selection.primary
    N, D, C, _ = columns(selection, counting)
    known = [f for f in fits if f.found is not None and f.counting.n == counting.n]
    fit = next((f for f in known if answer is not None and f.name == answer.method), None)
    unique = float(selection.used["tokens_unique"].max()) if repeated(selection) else None
    table, asked, why = None, None, ""
    if fit is not None and fit.found is not None:
        budgets = budgets_of(C, budget)
        cost = Cost.of_runs(N, D, C, inference_tokens)
        table = answer_table(fit.found, budgets, cost, largest=float(C.max()), U=unique)
        asked = None if budget is None else int(np.flatnonzero(budgets == budget)[0])
    else:
        why = "no law is identified by these runs" if answer is None else f"only {answer.method} is identified: no loss"
    return Plan(
        law=fit.name if fit is not None else None,
        why=why,
        n_label=counting.n_label,
        c_label=counting.c_label,
        largest=float(C.max()),
        far=FAR,
        unique_tokens=unique,
        inference_tokens=inference_tokens,
        table=table,
        asked=asked,
        budget=budget,
        seen=_seen(selection, best),
    )


def _seen(selection: Selection, best: Frontier) -> Seen:
    _, first = np.unique(best.grid.row_cell, return_index=True)  # cells are in the order of their first runs
    runs = selection.used["run"].to_numpy()[first[best.cell]]
    numbers = (best.C.tolist(), best.N.tolist(), best.D.tolist(), best.loss.tolist())
    return Seen(*numbers, runs.tolist(), list(best.edge))
