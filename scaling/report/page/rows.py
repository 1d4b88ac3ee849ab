"""Tables of the page, as plain text; the template escapes all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling.report import methods
from scaling.report.analysis import Analysis
from scaling.report.estimate import Estimate
from scaling.report.style import count, flops
from scaling.report.tables import frontier_table, number

LISTED = 1000  # runs in the page's table: more of them make it slow to open
NAMED = 12  # runs that are named beside the reason for which they were left out

Cell = str | tuple[str, float]


@dataclass(frozen=True)
class Table:
    """head: titles. rows: cells, each a text, or a text and the number that it is sorted by. numeric: columns of
    numbers. links: address for the first cell of a row, or ""."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    links: Sequence[str] = ()


def exponents(analysis: Analysis, primary: bool) -> list[dict[str, Any]]:
    """Estimates under the primary count of N, or under the others; `bar` is left and width, `at` the place of a, in
    percent of the axis from 0 to 1."""
    n = analysis.selection.primary.n
    return [_exponent(e, e == analysis.answer) for e in analysis.estimates if (e.counting.n == n) == primary]


def _exponent(e: Estimate, answer: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"method": e.method, "counting": e.counting.label, "known": e.identified}
    row |= {
        "verdict": e.verdict.replace("->", "→"),
        "answer": answer,
        "a": number(e),
        "b": number(e, "b"),
        "points": e.points,
        "interval": e.interval,
    }
    if e.a is not None:
        low, high = (min(max(v, 0.0), 1.0) for v in (e.a_ci or (e.a, e.a)))
        row |= {"left": 100 * low, "width": 100 * (high - low), "at": 100 * min(max(e.a, 0.0), 1.0)}
        row["outside"] = not 0 <= e.a <= 1
    return row


def hindrances(analysis: Analysis) -> list[tuple[str, str]]:
    """Why the frontier, the isoFLOP slices and the first law tell nothing: method and reason."""
    first = analysis.fits[0].name if analysis.fits else ""
    wanted = (methods.INTERIOR, methods.ISOFLOP.format("local"), first)
    rows = {e.method: e for e in reversed(analysis.estimates) if e.counting.n == analysis.selection.primary.n}
    open_ = [rows[name] for name in wanted if name in rows and not rows[name].identified]
    return [(e.method, e.verdict.replace("->", "→").removeprefix("not identified: ")) for e in open_]


def laws(analysis: Analysis) -> Table:
    """Parameters of every law, for N in parameters and D in tokens."""
    rows = []
    for fit in analysis.fits:
        if fit.found is None:
            rows.append([fit.name, fit.counting.n_label, fit.why, "", "", ""])
            continue
        known = fit.found.identified
        params = "\n".join(
            f"{key} = {value:.4g} {bounds(fit.ci.get(key))}{'' if known.get(key, True) else ' ?'}"
            for key, value in fit.found.params.items()
        )
        proof = fit.found.certificate
        seen = f"{proof.agree:.0%} of {proof.starts} starts agree, gradient {proof.gradient:.0e}"
        warnings = "; ".join(fit.found.warnings)
        rows.append([fit.name, fit.counting.n_label, params, f"{fit.residual_sd:.2%}", seen, warnings])
    head = ["law, objective", "N", "parameters (?: not identified)", "residual sd", "certificate", "warnings"]
    return Table(head, rows, frozenset({2, 3}))


def bounds(ci: tuple[float, float] | None) -> str:
    return f"[{ci[0]:.3g}, {ci[1]:.3g}]" if ci else ""


def hold_outs(analysis: Analysis) -> Table:
    rows = [
        [
            flops(h.below),
            str(h.fitted),
            str(len(h.C)),
            f"{h.scale_up.max():.3g}×",
            f"{h.are:.2%}",
            f"{h.bias:+.2%}",
            f"{h.naive:.2%}",
            f"{h.covered:.0%}" if h.covered == h.covered else "-",
        ]
        for h in analysis.hold_outs
    ]
    head = ["fitted below", "runs", "predicted", "up to", "mean |error|", "mean error", "nearest run's", "covered"]
    return Table(head, rows, frozenset(range(8)))


def kaplan(analysis: Analysis) -> Table:
    rows = [
        [
            str(r["quantity"]),
            f"{float(r['value']):.4g}",
            bounds((float(r["low"]), float(r["high"]))) if r["low"] == r["low"] else "",
            str(r["unit"]),
        ]
        for r in (analysis.kaplan.rows() if analysis.kaplan is not None else ())
    ]
    return Table(["quantity", "value", "95 %", "unit"], rows, frozenset({1, 2}))


def frontier(analysis: Analysis) -> Table:
    rows: list[list[Cell]] = [
        [
            str(r["run"]),
            (flops(r["C"]), r["C"]),
            (count(r["N"]), r["N"]),
            (count(r["D"]), r["D"]),
            (count(r["tokens_per_parameter"]), r["tokens_per_parameter"]),
            (f"{r['loss']:.4f}", r["loss"]),
            r["edge"] or ("optimum" if r["on_hull"] else "above the hull"),
        ]
        for r in frontier_table(analysis, analysis.frontiers[0]).to_dict("records")
    ]
    head = ["run", "C, FLOPs", "N", "D", "D / N", "loss", "lies at"]
    return Table(head, rows, frozenset(range(1, 6)), _links(analysis, [str(row[0]) for row in rows]))


def runs(analysis: Analysis) -> Table:
    """The runs in use, the best LISTED of them; the first column leads to W&B where the run is there."""
    primary, used = analysis.selection.primary, analysis.selection.used
    if len(used) > LISTED:
        used = used.loc[used["loss"].nsmallest(LISTED).index]
    columns = (used["run"].astype(str), primary.N(used), used["tokens"], primary.C(used), used["loss"], used["lr"])
    rows: list[list[Cell]] = [
        [
            run,
            (count(n), float(n)),
            (count(d), float(d)),
            (count(d / n), float(d / n)),
            (flops(c), float(c)),
            (f"{y:.4f}", float(y)),
            (f"{lr:.3g}", float(lr)) if lr == lr else "-",
        ]
        for run, n, d, c, y, lr in zip(*columns, strict=True)
    ]
    head = ["run", "N", "D", "D / N", "C, FLOPs", "loss", "learning rate"]
    return Table(head, rows, frozenset(range(1, 7)), _links(analysis, list(columns[0])))


def dropped(analysis: Analysis) -> Table:
    """Why runs are not used, with the names of the runs."""
    rows: list[list[Cell]] = []
    for why, of in analysis.selection.dropped.groupby("dropped", sort=False):
        names = of["run"].astype(str).tolist()
        more = f" and {len(names) - NAMED} more (runs.csv has all)" if len(names) > NAMED else ""
        rows.append([str(why), (str(len(names)), float(len(names))), ", ".join(names[:NAMED]) + more])
    return Table(["why", "runs", "names"], rows, frozenset({1}))


def _links(analysis: Analysis, names: list[str]) -> list[str]:
    return [analysis.selection.table.links.get(name, "") for name in names]
