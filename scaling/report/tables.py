"""The same answer as text and as files: runs.csv, frontier.csv, fits.json, and a few lines for the terminal."""

import json
import math
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.records import atomic_write
from scaling.report.analysis import Analysis, FrontierView
from scaling.report.estimate import Estimate
from scaling.report.parametric import Fit
from scaling.report.style import count, flops, interval
from scaling.sources.select import summary


def write(analysis: Analysis, out: Path) -> None:
    atomic_write(out / "runs.csv", runs_table(analysis).to_csv(index=False))
    frontier = pd.concat([frontier_table(analysis, view) for view in analysis.frontiers])
    atomic_write(out / "frontier.csv", frontier.to_csv(index=False))
    atomic_write(out / "fits.json", json.dumps(plain(fits(analysis)), indent=1, allow_nan=False) + "\n")


def runs_table(analysis: Analysis) -> pd.DataFrame:
    """Every run of the source, with `dropped` = why it is not used."""
    runs = analysis.selection.runs
    first = ["run", "status", "dropped", *(c for c in runs.columns if c not in ("run", "status", "dropped", "reason"))]
    return runs[first]


def frontier_table(analysis: Analysis, view: FrontierView) -> pd.DataFrame:
    """Frontier points under one counting, in order of C, with the edge of the grid each lies on."""
    front, runs = view.frontier, analysis.selection.used
    _, first = np.unique(front.grid.row_cell, return_index=True)  # cells are in the order of their first runs
    return pd.DataFrame(
        {
            "counting": view.counting.key,
            "run": runs["run"].to_numpy()[first[front.cell]],
            "C": front.C,
            "N": front.N,
            "D": front.D,
            "tokens_per_parameter": front.D / front.N,
            "loss": front.loss,
            "edge": front.edge,
            "on_hull": front.supported,
        }
    )


def fits(analysis: Analysis) -> dict[str, Any]:
    """What `fits.json` holds; numbers that are not finite become null."""
    chosen, answer = analysis.selection, analysis.answer
    return {
        "source": chosen.table.origin,
        "group": chosen.label,
        "runs_used": len(chosen.used),
        "dropped": [{"run": r, "why": why} for r, why in chosen.dropped[["run", "dropped"]].itertuples(index=False)],
        "notes": analysis.notes,
        "noise": analysis.noise,
        "entropy_rate": analysis.entropy_rate,
        "countings": {c.key: asdict(c) for c in chosen.table.countings},
        "answer": _estimate(answer) if answer else None,
        "estimates": [_estimate(e) for e in analysis.estimates],
        "frontier": {
            view.counting.key: {
                "points": len(view.frontier.C),
                "edges": view.frontier.edge,
                "all": view.regression.all if view.regression else None,
                "interior": view.regression.interior if view.regression else None,
            }
            for view in analysis.frontiers
        },
        "fits": [_fit(fit) for fit in analysis.fits],
        "isoflop": [
            {
                key: getattr(found, key)
                for key in ("method", "C", "N", "D", "loss", "used", "note", "std", "noise_source")
            }
            for found in analysis.isoflops
        ],
        "grid_bias": analysis.grid_bias,
        "grid_bias_verdict": grid_verdict(analysis),
        "hold_out": analysis.hold_outs,
        "kaplan": {"counting": asdict(analysis.kaplan_counting), "rows": analysis.kaplan.rows()}
        if analysis.kaplan
        else None,
        "plan": analysis.plan,
        "critical_batch": analysis.critical_batch,
        "missing": analysis.missing,
    }


def _estimate(e: Estimate) -> dict[str, Any]:
    return asdict(e) | {"counting": e.counting.label, "n": e.counting.n}


def _fit(fit: Fit) -> dict[str, Any]:
    """A fitted law: parameters for unnormalised N and D, their intervals, and the evidence for them."""
    head: dict[str, Any] = {"law": fit.law, "objective": fit.objective, "n": fit.counting.n, "why": fit.why}
    if fit.found is None:
        return head
    return head | {
        "params": fit.found.params,
        "ci": fit.ci,
        "identified": fit.found.identified,
        "residual_sd": fit.residual_sd,
        "objective_value": fit.found.objective,
        "certificate": fit.found.certificate,
        "warnings": fit.found.warnings,
    }


def grid_verdict(analysis: Analysis) -> str:
    """What the grid itself would make of other exponents, in one line."""
    line = analysis.frontiers[0].regression
    if analysis.grid_bias is None:
        return analysis.missing.get("grid_bias", "")
    return analysis.grid_bias.verdict(line.all.a if line else None)


def floor_line(analysis: Analysis) -> str:
    """The fitted irreducible loss E, beside the true one where the source of the text has one."""
    first = analysis.fits[0] if analysis.fits else None
    truth = f"the entropy rate of the source is {analysis.entropy_rate:.4f}" if analysis.entropy_rate else ""
    if first is None or first.found is None or "E" not in first.found.params:
        return truth
    ci, known = first.ci.get("E"), first.found.identified.get("E") and first.found.certificate.certified
    if not known or ci is None:
        return f"E is not identified ({first.name})" + (f"; {truth}" if truth else "")
    fitted = f"E = {first.found.params['E']:.4f} {interval(ci)} nats per token ({first.name})"
    if analysis.entropy_rate:
        inside = "inside" if ci[0] <= analysis.entropy_rate <= ci[1] else "outside"
        return f"{fitted}; {truth}, {inside} the interval"
    return fitted


def hold_out_line(analysis: Analysis) -> str:
    """How well the cheap half of the runs foretold the rest."""
    if not analysis.hold_outs:
        return ""
    first = analysis.hold_outs[0]
    return (
        f"hold-out: fitted to {first.fitted} runs below {flops(first.below)} FLOPs, the other {len(first.C)} "
        f"(up to {first.scale_up.max():.3g} x) are missed by {first.are:.2%} on average "
        f"(the nearest run: {first.naive:.2%})"
    )


def batch_line(analysis: Analysis) -> str:
    """The critical batch size at the lowest loss that several batch sizes reached."""
    found = analysis.critical_batch
    if found is None:
        why = analysis.missing.get("critical_batch", "")
        return f"critical batch: not identified: {why}" if why else ""
    last = min(found.trade_offs, key=lambda t: t.loss)
    return (
        f"critical batch: {count(last.B_crit)} tokens [{count(last.ci[0])}, {count(last.ci[1])}] "
        f"at loss {last.loss:.3f}, from {last.batches} batch sizes"
    )


def answer_line(analysis: Analysis) -> str:
    """The answer, or that there is none."""
    best = analysis.answer
    if best is None:
        return (
            "answer: not identified: no method can tell from these runs how N_opt grows with C; "
            "the best run at each budget is in the report"
        )
    return (
        f"answer: N_opt ~ C^{best.a:.2f} {interval(best.a_ci, 2)}, D_opt ~ C^{best.b:.2f} {interval(best.b_ci, 2)} "
        f"({best.method}; N = {best.counting.n_label}, C = {best.counting.c_label})"
    )


def plain(value: Any) -> Any:
    """Dataclasses, arrays and tuples as what JSON has; what is not finite is not known."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(estimate: Estimate, which: str = "a") -> str:
    """`0.514 [0.47, 0.55]`, or a dash."""
    value, ci = (estimate.a, estimate.a_ci) if which == "a" else (estimate.b, estimate.b_ci)
    return "-" if value is None else f"{value:.3f} {interval(ci, 2)}".rstrip()


def answer(analysis: Analysis, name: str) -> str:
    """A few lines for the terminal: what was used, what it says, what it does not."""
    primary, runs = analysis.selection.primary, analysis.selection.used
    head = f"{name}{f' ({analysis.selection.label})' if analysis.selection.label else ''}"
    best = runs.sort_values("loss").index[0]
    N, C = primary.N(runs), primary.C(runs)
    lines = [
        f"{head}: {summary(analysis.selection)}; N = {primary.n_label}, C = {primary.c_label}",
        *(f"  note: {note}" for note in analysis.notes),
        f"  best run: {runs['run'][best]}: loss {runs['loss'][best]:.4f} at N = {count(N[best])}, "
        f"D = {count(runs['tokens'][best])}, C = {flops(C[best])} FLOPs",
    ]
    rows = [e for e in analysis.estimates if e.counting == primary or (e.counting.key == primary.n)]
    width = max(len(e.method) for e in rows)
    for e in rows:
        values = f"a = {number(e):22} " if e.a is not None else ""
        lines.append(f"  {e.method:{width}}  {values}{_short(e.verdict)}")
    more = (floor_line(analysis), hold_out_line(analysis), grid_verdict(analysis))
    lines += [f"  {line}" for line in (*more, batch_line(analysis)) if line]
    lines += [f"  {note}" for note in dict.fromkeys(e.note for e in rows[:1] if e.note)]
    return "\n".join([*lines, answer_line(analysis)])


def _short(verdict: str, length: int = 110) -> str:
    return verdict if len(verdict) <= length else verdict[: length - 1].rsplit(" ", 1)[0] + " …"
