"""`report.html`: one page that needs nothing but itself."""

import base64
from html import escape
from pathlib import Path

from scaling.records import atomic_write
from scaling.report.analysis import Analysis
from scaling.report.style import count, flops
from scaling.report.tables import frontier_table, number
from scaling.sources.select import summary

CAPTIONS = {
    "loss_vs_compute": "Final loss of every run over its compute, coloured by size. Faint lines: training loss along "
    "the way. Frontier: runs that no cheaper run equals; hollow where the grid had no runs on both sides.",
    "efficient_frontier": "Size and tokens of the frontier's runs over compute, with the regressions in log-log.",
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
.open { color: var(--warn); } ul { padding-left: 1.2rem; }
"""


def write(analysis: Analysis, name: str, figures: dict[str, Path], out: Path) -> Path:
    page = out / "report.html"
    atomic_write(page, render(analysis, name, figures))
    return page


def render(analysis: Analysis, name: str, figures: dict[str, Path]) -> str:
    chosen, primary = analysis.selection, analysis.selection.primary
    title = f"{name} · {chosen.label}" if chosen.label else name
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(summary(chosen))} from {escape(chosen.table.origin)}. "
        f"Figures: N = {escape(primary.n_label)}, C = {escape(primary.c_label)}. Loss in nats per token.</p>",
        *(f'<p class="muted">{escape(note)}</p>' for note in analysis.notes),
        *(_figure(key, path) for key, path in figures.items()),
        "<h2>Exponents</h2><p>N_opt ~ C<sup>a</sup>, D_opt ~ C<sup>b</sup>, with 95 % intervals.</p>",
        _estimates(analysis),
        *(f'<p class="muted">{escape(n)}</p>' for n in dict.fromkeys(e.note for e in analysis.estimates if e.note)),
        "<h2>Frontier</h2>",
        _frontier(analysis),
        "<h2>Runs that were not used</h2>",
        _dropped(analysis),
        "<h2>Runs</h2>",
        _runs(analysis),
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


def _estimates(analysis: Analysis) -> str:
    rows = [
        [
            escape(e.method),
            escape(e.counting.label),
            number(e),
            number(e, "b"),
            str(e.points or "-"),
            f"<span class={'ok' if e.identified else 'open'}>{escape(e.verdict)}</span>",
        ]
        for e in analysis.estimates
    ]
    return _table(["method", "N and C", "a", "b", "points", "verdict"], rows, frozenset({2, 3, 4}))


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
