"""The page out of an analysis: words, tables and pictures into one file that asks nothing of a network."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from plotly.offline import get_plotlyjs

from scaling.records import atomic_write
from scaling.report.analysis import Analysis
from scaling.report.page import answers, checks, rows
from scaling.report.page.look import count_axis, figure, ramp_css
from scaling.report.style import DARK_RAMP, RAMP, count, flops, interval
from scaling.report.tables import floor_line, grid_verdict, plain
from scaling.sources.select import summary

REGRET = (0.2, 5.0)  # of the best N: the sizes whose price is drawn
MOST = 60.0  # percent of compute wasted, at the top of that picture


def write(analysis: Analysis, name: str, out: Path) -> Path:
    page = out / "report.html"
    atomic_write(page, render(analysis, name))
    return page


def render(analysis: Analysis, name: str) -> str:
    chosen = analysis.selection
    panels = {
        "answer": [answers.loss_vs_compute(analysis), answers.allocation(analysis)],
        "checks": [
            checks.isoflop_slices(analysis),
            checks.residuals(analysis),
            checks.hold_out(analysis),
            checks.grid_bias(analysis),
        ],
    }
    drawn = [panel for group in panels.values() for panel in group]
    plots = {one: plot.to_plotly_json() for panel in drawn for one, plot in zip(panel.ids, panel.plots, strict=True)}
    data = {
        "plots": plots,
        "regret": _regret().to_plotly_json(),
        "budget": _budget(analysis),
        "on_budget": [one for panel in drawn if panel.budget for one in panel.ids],
    }
    payload = json.dumps(plain(data), allow_nan=False).replace("<", "\\u003c")
    about = {
        "title": f"{name} · {chosen.label}" if chosen.label else name,
        "analysis": analysis,
        "primary": chosen.primary,
        "summary": summary(chosen),
        "n_runs": len(chosen.used),
        "best": analysis.answer,
        "plan": analysis.plan,
        "panels": panels,
        "floor": floor_line(analysis),
        "grid_verdict": grid_verdict(analysis),
        "exponents": rows.exponents(analysis, True),
        "others": rows.exponents(analysis, False),
        "hindrances": rows.hindrances(analysis),
        "notes": list(dict.fromkeys(e.note for e in analysis.estimates if e.note)),
        "tables": {key: getattr(rows, key)(analysis) for key in TABLES},
        "design": _design(analysis, name),
        "interval": interval,
        "count": count,
        "flops": flops,
    }
    markup = _file("page.html")
    text = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(markup).render(about)
    ramps = {theme: ramp_css(payload + text, ramp) for theme, ramp in (("LIGHT", RAMP), ("DARK", DARK_RAMP))}
    css = _file("page.css").replace("/* LIGHT */", ramps["LIGHT"]).replace("/* DARK */", ramps["DARK"])
    # put in last: none of these is a template, and the scripts are long
    parts = {"CSS": css, "PLOTLY": get_plotlyjs(), "DATA": payload, "SCRIPT": _file("page.js")}
    for key, part in parts.items():
        text = text.replace(f"<!--{key}-->", part, 1)
    return text


TABLES = ("laws", "hold_outs", "kaplan", "frontier", "runs", "dropped")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _budget(analysis: Analysis) -> dict[str, Any]:
    """The table that the budget's slider reads: the plan of an identified law, else the best run seen."""
    plan = analysis.plan
    if plan is None:
        return {"kind": "none"}
    about = {"largest": plan.largest, "far": plan.far}
    if plan.table is None:
        seen = plain(plan.seen)
        at = len(seen["C"]) - 1 if plan.budget is None else None
        return about | {"kind": "seen", "start": plan.budget if at is None else seen["C"][at]} | seen
    return about | {"kind": "law", "start": plan.budget or plan.largest} | plain(plan.table)


def _design(analysis: Analysis, name: str) -> str:
    """The line that lays out the next sweep."""
    sweep = analysis.plan.next_sweep if analysis.plan is not None else None
    return f"python analyze.py --config-name=design study={name} budget={sweep.C:.2g}" if sweep and sweep.C else ""


def _regret() -> Any:
    """The frame of the regret curve; its data come with the budget."""
    plot = figure(count_axis(1, 10, "N, parameters"), {"range": [0, MOST], "ticksuffix": " %"}, "extra compute")
    plot.update_layout(meta={"ratio": list(REGRET), "most": MOST})
    return plot
