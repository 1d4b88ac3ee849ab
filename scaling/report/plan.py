"""What the analysis says to do with a budget, as plain data: for the terminal, the page and `fits.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.laws import Frontier, LawFit
from scaling.laws.plan import AnswerTable, Cost, answer_table, budgets_of, regret
from scaling.report.estimate import Estimate
from scaling.report.methods import columns
from scaling.report.parametric import Fit, repeated
from scaling.report.plan_run import PlannedRun, planned_run
from scaling.sources.select import Selection

FAR = 100.0  # times the largest compute measured: what lies beyond is not vouched for
NEXT = 7.2  # five sizes at each of C, C / sqrt(10) and C / 10, in units of C
SURE = 1.25  # factor of N_opt within which nothing more needs to be known


@dataclass(frozen=True)
class Ask:
    """A budget in FLOPs (None: the tables alone), tokens of inference expected, and where the runs' own settings lie
    (None where they were not made here)."""

    budget: float | None = None
    inference_tokens: float = 0.0
    runs_dir: Path | None = None


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

    def within(self, budget: float) -> int | None:
        """The best run that a budget pays for, or None."""
        paid = [i for i, c in enumerate(self.C) if c <= budget * (1 + 1e-9)]
        return paid[-1] if paid else None


@dataclass(frozen=True)
class Choice:
    """A round size beside the best one, with the tokens that the budget leaves it and the share that it wastes."""

    N: float
    D: float
    loss: float
    extra_compute: float


@dataclass(frozen=True)
class NextSweep:
    """What to measure next: FLOPs of a sweep (`analyze.py --config-name=design` lays it out); why, or why none."""

    C: float | None
    why: str


@dataclass(frozen=True)
class Plan:
    """What a budget buys, by these runs.

    law: the fit that the table is made of ("chinchilla, huber"), or None where no law is identified; `why` then says
    so, and `seen` is all there is. n_label, c_label: which N and which C all numbers are about.
    largest: FLOPs of the largest run measured; beyond `far` times it nothing is vouched for.
    unique_tokens: different tokens that the corpus has, where the runs tell (None otherwise).
    inference_tokens: tokens that the model is expected to serve; budgets then pay for these too.
    table: `laws.plan.AnswerTable`, one row a budget, from the least compute measured to 100 times the largest, and
    the budget asked for; None without a law.
    For a budget that was asked for: `asked` its row in the table, `choices` round sizes around its N, `run` the
    closest run of the family. Otherwise None or empty.
    next_sweep: what to measure next, for a budget that was asked for, and where no law is identified.
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
    choices: tuple[Choice, ...] = ()
    run: PlannedRun | None = None
    next_sweep: NextSweep | None = None
    params: dict[str, float] | None = None  # of that law, for N in parameters and D in tokens


def make_plan(
    selection: Selection, fits: Sequence[Fit], best: Frontier, answer: Estimate | None, ask: Ask | None = None
) -> Plan:
    """The plan of an analysis; `answer` is the estimate that it goes by, `best` the primary frontier."""
    ask, counting = ask or Ask(), selection.primary
    N, D, C, _ = columns(selection, counting)
    known = [f for f in fits if f.found is not None and f.counting.n == counting.n]
    fit = next((f for f in known if answer is not None and f.name == answer.method), None)
    unique = float(selection.used["tokens_unique"].max()) if repeated(selection) else None
    largest, seen = float(C.max()), _seen(selection, best)
    table, asked, why, run, sweep = None, None, "", None, None
    choices: tuple[Choice, ...] = ()
    if fit is None or fit.found is None:
        why = "no law is identified by these runs" if answer is None else f"only {answer.method} is identified: no loss"
        sweep = NextSweep(NEXT * largest, _missing(seen))
    else:
        cost = Cost.of_runs(N, D, C, ask.inference_tokens)
        table = answer_table(fit.found, budgets_of(C, ask.budget), cost, largest=largest, U=unique)
        if ask.budget is not None:
            asked = int(np.flatnonzero(table.C == ask.budget)[0])
            choices = _choices(fit.found, float(table.N[asked]), ask.budget, cost, unique)
            run = planned_run(selection, fit.found, float(table.N[asked]), ask.budget, cost, unique, ask.runs_dir)
            sweep = _next(table, asked)
    return Plan(
        law=fit.name if fit is not None else None,
        why=why,
        n_label=counting.n_label,
        c_label=counting.c_label,
        largest=largest,
        far=FAR,
        unique_tokens=unique,
        inference_tokens=ask.inference_tokens,
        table=table,
        asked=asked,
        budget=ask.budget,
        seen=seen,
        choices=choices,
        run=run,
        next_sweep=sweep,
        params=dict(fit.found.params) if fit is not None and fit.found is not None else None,
    )


def _seen(selection: Selection, best: Frontier) -> Seen:
    _, first = np.unique(best.grid.row_cell, return_index=True)  # cells are in the order of their first runs
    runs = selection.used["run"].to_numpy()[first[best.cell]]
    numbers = (best.C.tolist(), best.N.tolist(), best.D.tolist(), best.loss.tolist())
    return Seen(*numbers, runs.tolist(), list(best.edge))


def _choices(fit: LawFit, N: float, C: float, cost: Cost, U: float | None) -> tuple[Choice, ...]:
    """Sizes of one digit, two on either side."""
    power = 10.0 ** np.floor(np.log10(N))
    round_ones = np.outer([power / 10, power, power * 10], [1, 2, 3, 5, 7]).ravel()
    below, above = round_ones[round_ones <= N][-2:], round_ones[round_ones > N][:2]
    found = []
    for n in [*below, *above]:
        d = float(cost.tokens(n, C))
        if d > 0:
            loss = float(fit.predict(n, d, None if U is None else min(U, d)))
            found.append(Choice(float(n), d, loss, regret(fit, float(n), C, cost, U)))
    return tuple(found)


def _next(table: AnswerTable, asked: int) -> NextSweep:
    """Slices towards the budget, for a quarter of it at most; none where N is known."""
    C, reach = float(table.C[asked]), float(table.scale_up[asked])
    largest, known = C / reach, float(table.N_high[asked] / table.N[asked])
    if reach <= 1 and known < SURE:
        return NextSweep(None, f"none is needed: the budget lies within the runs, and N is known to {known - 1:.0%}")
    if reach <= 1:
        return NextSweep(NEXT * C, "slices at the budget itself: N is not known well enough there")
    top = min(max(C / 10, largest), 10 * largest, C / NEXT / 4)  # a quarter of the budget at most
    return NextSweep(
        NEXT * top, f"slices at up to {top / largest:.3g} x the largest run, before {reach:.3g} x is spent"
    )


def _missing(seen: Seen) -> str:
    """What the best runs lack around them."""
    lacking = {
        "N min": "smaller sizes",
        "N max": "larger sizes",
        "D min": "fewer tokens",
        "D max": "more tokens",
    }
    counts = {what: sum(edge in at.split(" and ") for at in seen.edge) for edge, what in lacking.items()}
    said = [f"{what} at {n} of {len(seen.edge)} best runs" for what, n in counts.items() if n]
    return "missing: " + (", ".join(said) if said else "more sizes and token counts around the best runs")
