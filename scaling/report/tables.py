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
    chosen = analysis.selection
    return {
        "source": chosen.table.origin,
        "group": chosen.label,
        "runs_used": len(chosen.used),
        "dropped": [{"run": r, "why": why} for r, why in chosen.dropped[["run", "dropped"]].itertuples(index=False)],
        "notes": analysis.notes,
        "entropy_rate": analysis.entropy_rate,
        "countings": {c.key: asdict(c) for c in chosen.table.countings},
        "estimates": [asdict(e) | {"counting": e.counting.key} for e in analysis.estimates],
        "frontier": {
            view.counting.key: {
                "points": len(view.frontier.C),
                "edges": view.frontier.edge,
                "verdict": view.regression.verdict if view.regression else f"not identified: {view.why}",
                "all": view.regression.all if view.regression else None,
                "interior": view.regression.interior if view.regression else None,
            }
            for view in analysis.frontiers
        },
    }


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
    rows = [e for e in analysis.estimates if e.counting == primary]
    width = max(len(e.method) for e in rows)
    for e in rows:
        values = f"a = {number(e)}  b = {number(e, 'b')}  " if e.a is not None else ""
        lines.append(f"  {e.method:{width}}  {values}{e.verdict}")
    lines += [f"  {note}" for note in dict.fromkeys(e.note for e in rows if e.note)]
    return "\n".join(lines)
