"""`report.html`: one page that needs nothing but itself."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from scaling.records import atomic_write
from scaling.report.analysis import Analysis
from scaling.report.estimate import Estimate
from scaling.report.style import count, flops
from scaling.report.tables import answer_line, floor_line, frontier_table, grid_verdict, hold_out_line, number
from scaling.sources.select import summary

CAPTIONS = {
    "loss_vs_compute": "Final loss of every run over its compute, coloured by size; faint lines are training curves. "
    "The frontier holds the runs that no cheaper run equals. Hollow: the grid had no runs on both sides, so it is the "
    "edge of the grid that is seen, not an optimum. Grey: inside the grid but above the convex hull.",
    "efficient_frontier": "Size and tokens of the frontier's runs over compute, with the regressions in log-log.",
    "allocation": "The size that each method would train at a budget. A band is the 95 % interval.",
    "isoflop_slices": "Loss over size at fixed compute. An optimum at the end of a slice is no optimum and is dropped.",
    "exponents": "The exponent by every method, with 95 % intervals. Red: the answer above.",
    "residuals": "What the law leaves over. A pattern, rather than scatter, says that the law is wrong here.",
    "grid_bias": "Noise-free and noisy surfaces of known exponent, read by the same regression on the same grid.",
}
CSS = """
:root { color-scheme: light dark; --ink: #18181b; --muted: #71717a; --line: #e4e4e7; --paper: #fff; --warn: #b45309; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e7; --muted: #a1a1aa; --line: #3f3f46; --paper: #18181b; --warn: #fbbf24; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1080px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .muted, figcaption, th { color: var(--muted); }
figure { margin: 1rem 0; } figure img { width: 100%; background: #fff; border-radius: 6px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; } td.n { white-space: nowrap; font-variant-numeric: tabular-nums; }
.open { color: var(--warn); } .answer { font-size: 1.1rem; font-weight: 600; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--muted); } ul { padding-left: 1.2rem; }
"""


def write(analysis: Analysis, name: str, figures: dict[str, Path], out: Path) -> Path:
    page = out / "report.html"
    atomic_write(page, render(analysis, name, figures))
    return page


def render(analysis: Analysis, name: str, figures: dict[str, Path]) -> str:
    chosen, primary = analysis.selection, analysis.selection.primary
    title = f"{name} · {chosen.label}" if chosen.label else name
    drawn = {key: _figure(key, path) for key, path in figures.items()}
    primary_rows = [e for e in analysis.estimates if e.counting.n == primary.n]
    other_rows = [e for e in analysis.estimates if e.counting.n != primary.n]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="answer">{escape(answer_line(analysis))}</p>',
        f"<p>{escape(summary(chosen))} from {escape(chosen.table.origin)}. "
        f"Figures: N = {escape(primary.n_label)}, C = {escape(primary.c_label)}. Loss in nats per token.</p>",
        *(f'<p class="muted">{escape(note)}</p>' for note in analysis.notes),
        *(drawn.pop(key, "") for key in ("loss_vs_compute", "efficient_frontier", "allocation")),
        "<h2>Exponents</h2><p>N_opt ~ C<sup>a</sup>, D_opt ~ C<sup>b</sup>, with 95 % intervals.</p>",
        drawn.pop("exponents", ""),
        _estimates(primary_rows),
        *(f'<p class="muted">{escape(n)}</p>' for n in dict.fromkeys(e.note for e in analysis.estimates if e.note)),
        f"<details><summary>Other counts of N ({len(other_rows)} rows)</summary>{_estimates(other_rows)}</details>"
        if other_rows
        else "",
        "<h2>Parametric laws</h2>",
        f"<p>{escape(floor_line(analysis))}</p>",
        _fits(analysis),
        drawn.pop("residuals", ""),
        drawn.pop("isoflop_slices", ""),
        "<h2>Can this grid tell?</h2>",
        f"<p>{escape(grid_verdict(analysis))}</p>",
        drawn.pop("grid_bias", ""),
        "<h2>Hold-out</h2>",
        f"<p>{escape(hold_out_line(analysis) or analysis.missing.get('hold_out', ''))}</p>",
        _hold_outs(analysis),
        "<h2>Kaplan's laws</h2>",
        _kaplan(analysis),
        "<h2>Frontier</h2>",
        _frontier(analysis),
        "<h2>Runs that were not used</h2>",
        _dropped(analysis),
        f"<h2>Runs</h2><details><summary>{len(chosen.used)} runs</summary>{_runs(analysis)}</details>",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
    )
    return head + "\n".join(body) + "</body></html>\n"


def _figure(key: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = escape(CAPTIONS.get(key, ""))
    image = f'<img alt="{escape(key)}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(head: list[str], rows: list[list[str]], numeric: frozenset[int] = frozenset()) -> str:
    """Cells are HTML already; columns in `numeric` keep their digits in line."""
    if not rows:
        return '<p class="muted">none</p>'
    cells = [
        "".join(f"<td{' class=n' if i in numeric else ''}>{cell}</td>" for i, cell in enumerate(row)) for row in rows
    ]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    titles = "".join(f"<th>{escape(h)}</th>" for h in head)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _estimates(rows: Sequence[Estimate]) -> str:
    cells = [
        [
            escape(e.method),
            escape(e.counting.label),
            number(e),
            number(e, "b"),
            str(e.points or "-"),
            f"<span class={'ok' if e.identified else 'open'}>{escape(e.verdict)}</span>",
            escape(e.interval),
        ]
        for e in rows
    ]
    return _table(["method", "N, C", "a", "b", "points", "verdict", "interval"], cells, frozenset({2, 3, 4}))


def _fits(analysis: Analysis) -> str:
    """Parameters of every law, for N in parameters and D in tokens."""
    rows = []
    for fit in analysis.fits:
        if fit.found is None:
            rows.append([escape(fit.name), escape(fit.counting.n_label), escape(fit.why), "", "", ""])
            continue
        ci, known = fit.ci, fit.found.identified
        params = "<br>".join(
            f"{escape(key)} = {value:.4g} {escape(_bounds(ci.get(key)))}{'' if known.get(key, True) else ' ?'}"
            for key, value in fit.found.params.items()
        )
        proof = fit.found.certificate
        seen = f"{proof.agree:.0%} of {proof.starts} starts agree, gradient {proof.gradient:.0e}"
        warnings = "; ".join(fit.found.warnings)
        cells = [escape(fit.name), escape(fit.counting.n_label), params, f"{fit.residual_sd:.2%}", seen]
        rows.append([*cells, f"<span class=open>{escape(warnings)}</span>"])
    head = ["law, objective", "N", "parameters (? not identified)", "residual sd", "certificate", "warnings"]
    return _table(head, rows, frozenset({2, 3}))


def _bounds(ci: tuple[float, float] | None) -> str:
    return f"[{ci[0]:.3g}, {ci[1]:.3g}]" if ci else ""


def _hold_outs(analysis: Analysis) -> str:
    rows = [
        [
            flops(h.below),
            str(h.fitted),
            str(len(h.C)),
            f"{h.scale_up.max():.3g} x",
            f"{h.are:.2%}",
            f"{h.bias:+.2%}",
            f"{h.naive:.2%}",
            f"{h.covered:.0%}" if h.covered == h.covered else "-",
        ]
        for h in analysis.hold_outs
    ]
    head = [
        "fitted below (FLOPs)",
        "runs",
        "predicted",
        "up to",
        "mean |error|",
        "mean error",
        "nearest run's",
        "covered",
    ]
    return _table(head, rows, frozenset(range(8)))


def _kaplan(analysis: Analysis) -> str:
    if analysis.kaplan is None:
        return f'<p class="muted">{escape(analysis.missing.get("kaplan", ""))}</p>'
    rows = [
        [
            escape(str(r["quantity"])),
            f"{float(r['value']):.4g}",
            escape(_bounds((float(r["low"]), float(r["high"])))) if r["low"] == r["low"] else "",
            escape(str(r["unit"])),
        ]
        for r in analysis.kaplan.rows()
    ]
    notes = "".join(f'<p class="muted">{escape(note)}</p>' for note in analysis.kaplan.notes)
    about = f"<p>Kaplan et al. 2020, N: {escape(analysis.kaplan_counting.n_label)}, C = 6ND.</p>"
    return about + _table(["quantity", "value", "95 %", "unit"], rows, frozenset({1, 2})) + notes


def _frontier(analysis: Analysis) -> str:
    rows = [
        [
            flops(r["C"]),
            count(r["N"]),
            count(r["D"]),
            f"{r['tokens_per_parameter']:.3g}",
            f"{r['loss']:.4f}",
            r["edge"] or ("optimum" if r["on_hull"] else "above the hull"),
        ]
        for r in frontier_table(analysis, analysis.frontiers[0]).to_dict("records")
    ]
    head = ["C (FLOPs)", "N (parameters)", "D (tokens)", "tokens per parameter", "loss", "lies at"]
    return _table(head, rows, frozenset(range(5)))


def _dropped(analysis: Analysis) -> str:
    rows = [[escape(r["run"]), escape(r["dropped"])] for r in analysis.selection.dropped.to_dict("records")]
    return _table(["run", "why"], rows)


def _runs(analysis: Analysis) -> str:
    primary, used = analysis.selection.primary, analysis.selection.used
    rows = [
        [
            escape(r["run"]),
            count(r["N shown"]),
            count(r["tokens"]),
            flops(r["C shown"]),
            f"{r['loss']:.4f}",
            f"{r['lr']:.3g}" if r["lr"] == r["lr"] else "-",
        ]
        for r in used.assign(**{"N shown": primary.N(used), "C shown": primary.C(used)}).to_dict("records")
    ]
    head = ["run", "N (parameters)", "D (tokens)", "C (FLOPs)", "loss", "learning rate"]
    return _table(head, rows, frozenset(range(1, 6)))
