"""Families side by side: the exponents of each, and the compute that one needs to match another's loss."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling.laws import LawError
from scaling.laws.multiplier import Multiplier, compute_multiplier
from scaling.records import atomic_write
from scaling.report.analysis import Analysis
from scaling.report.axes import log_axis, power
from scaling.report.methods import EVERY, INTERIOR
from scaling.report.style import INK, RC, colours, interval
from scaling.report.tables import number

COMPARABLE = ("family", "optim", "schedule")  # groups whose losses mean the same, if their data are the same
SAME = ("data_id", "tokenizer_id", "eval", "eval_tokens", "seq_len")
REFERENCE = "tiny"


@dataclass(frozen=True)
class Comparison:
    """Analyses by label, and each one's multiplier over the reference: None for itself, text where there is none."""

    reference: str
    analyses: dict[str, Analysis]
    multipliers: dict[str, Multiplier | str | None]


def comparable(analyses: list[Analysis], group_by: str | None) -> bool:
    """Whether these analyses are groups of one study whose losses can be held against each other."""
    if group_by not in COMPARABLE or len(analyses) < 2:
        return False
    runs = pd.concat([a.selection.used for a in analyses])
    return all(runs[key].nunique(dropna=False) == 1 for key in SAME if key in runs)


def compare(analyses: list[Analysis], draws: int, seed: int) -> Comparison:
    """The reference is `tiny` where it is among them, otherwise the first."""
    by_label = {a.selection.label: a for a in analyses}
    reference = REFERENCE if REFERENCE in by_label else next(iter(by_label))
    base = by_label[reference].frontiers[0].frontier
    found: dict[str, Multiplier | str | None] = {reference: None}
    for label, analysis in by_label.items():
        if label != reference:
            try:
                found[label] = compute_multiplier(base, analysis.frontiers[0].frontier, draws=draws, seed=seed)
            except LawError as error:
                found[label] = str(error)
    return Comparison(reference, by_label, found)


def write(comparison: Comparison, out: Path) -> str:
    """comparison.md, comparison.csv and figures/comparison.*; returns the table as markdown."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    text = "\n".join(table(comparison)) + "\n"
    atomic_write(out / "comparison.md", text)
    atomic_write(out / "comparison.csv", levels(comparison).to_csv(index=False))
    mpl.use("Agg")
    with mpl.rc_context(RC):
        figure = draw(comparison)
        figure.savefig(out / "figures" / "comparison.png")
        figure.savefig(out / "figures" / "comparison.svg", metadata={"Date": None})
    return text


def table(comparison: Comparison) -> list[str]:
    """Markdown: a row a family. Exponents are a of N_opt ~ C^a under the primary counting."""
    reference, some = comparison.reference, next(iter(comparison.analyses.values()))
    primary = some.selection.primary
    law = some.fits[0].name
    rows = [
        f"a of N_opt ~ C^a, N = {primary.n_label}, C = {primary.c_label}; C for equal loss relative to {reference}.",
        "",
        f"| | runs | best loss | a, {EVERY} | a, {INTERIOR} | a, {law} | answer | C for equal loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label, analysis in comparison.analyses.items():
        cells = []
        for method in (EVERY, INTERIOR, law):
            e = next((e for e in analysis.estimates if e.method == method and e.counting.n == primary.n), None)
            mark = "" if e is None or e.identified else " (not identified)"
            cells.append("-" if e is None else "not identified" if e.a is None else number(e) + mark)
        best = analysis.answer
        said = f"{best.a:.2f} {interval(best.a_ci, 2)} ({best.method})" if best else "not identified"
        used = analysis.selection.used
        rows.append(
            f"| {label} | {len(used)} | {used['loss'].min():.4f} | {' | '.join(cells)} | {said} "
            f"| {multiplier_text(comparison.multipliers[label])} |"
        )
    return rows


def multiplier_text(found: Multiplier | str | None) -> str:
    """`1.32 x [1.20, 1.45] (at losses 6.9 to 5.1)`, or why there is none."""
    if found is None:
        return "1"
    if isinstance(found, str):
        return found
    ci = f" {interval(found.mean_ci, 2)}" if np.isfinite(found.mean_ci[0]) else ""
    first, last = (f"{found.ratio[i]:.2f} x at {found.loss[i]:.2f}" for i in (0, -1))
    return f"{found.mean:.2f} x{ci} ({first}, {last} nats)"


def levels(comparison: Comparison) -> pd.DataFrame:
    """A row for each family and loss: C of the reference there, and the multiplier with its interval."""
    rows = [
        {"family": label, "reference": comparison.reference, "loss": loss, "C_reference": c, "ratio": ratio}
        | {"low": low, "high": high}
        for label, found in comparison.multipliers.items()
        if isinstance(found, Multiplier)
        for loss, c, ratio, (low, high) in zip(found.loss, found.C, found.ratio, found.ci, strict=True)
    ]
    return pd.DataFrame(rows, columns=["family", "reference", "loss", "C_reference", "ratio", "low", "high"])


def draw(comparison: Comparison) -> Figure:
    """Left, each family's runs and frontier; right, its compute for equal loss over the reference's."""
    figure = Figure(figsize=(9.4, 4.3))
    left, right = figure.subplots(1, 2)
    labels = list(comparison.analyses)
    C_all, losses = [], []
    for label, colour in zip(labels, colours(len(labels)), strict=True):
        analysis = comparison.analyses[label]
        view, runs = analysis.frontiers[0], analysis.selection.used
        C = view.counting.C(runs)
        C_all += [C.min(), C.max()]
        losses += [runs["loss"].min(), runs["loss"].max()]
        left.scatter(C, runs["loss"], color=colour, s=9, alpha=0.35, linewidths=0)
        left.plot(view.frontier.C, view.frontier.loss, color=colour, marker="o", ms=3.5, label=label)
        found = comparison.multipliers[label]
        if isinstance(found, Multiplier):
            right.plot(found.loss, found.ratio, color=colour, marker="o", ms=3.5, label=label)
            right.fill_between(found.loss, *found.ci.T, color=colour, alpha=0.13, lw=0)
    log_axis(left, "x", min(C_all), max(C_all), power)
    log_axis(left, "y", min(losses), max(losses), lambda value: f"{value:g}")
    primary = next(iter(comparison.analyses.values())).selection.primary
    left.set(xlabel=f"training compute C, FLOPs ({primary.c_label})", ylabel="final loss, nats per token")
    left.set_title("Loss against compute, and the frontier of each")
    left.legend()
    right.axhline(1, color=INK, lw=1, label=comparison.reference)
    right.invert_xaxis()
    right.set(xlabel="loss, nats per token", ylabel=f"C for this loss / C of {comparison.reference}")
    right.set_title("Compute for equal loss")
    right.legend()
    return figure
