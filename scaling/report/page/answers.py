"""Pictures of the answer: loss against compute, and what every method would train at a budget."""

from html import escape
from typing import Any

import numpy as np
from plotly.graph_objects import Figure

from scaling.report import series
from scaling.report.analysis import Analysis
from scaling.report.methods import columns
from scaling.report.page.look import (
    HUES,
    INK,
    MUTED,
    PAPER,
    SOFT,
    Key,
    Panel,
    apart,
    band,
    count_axis,
    dots,
    figure,
    flops_axis,
    line,
    loss_axis,
    size_colours,
    size_legend,
)
from scaling.report.style import count, flops

CURVES_DRAWN = 1000  # runs; more curves than this hide each other
DASHES = ("solid", "dash", "dot", "dashdot")
SHAPES = {"solid": "line", "dash": "dash", "dot": "dots", "dashdot": "dashdot"}
MANY = 40  # points of a frontier from which they shrink


def loss_vs_compute(analysis: Analysis) -> Panel:
    """Every run and its training curve, coloured by size, with the Pareto frontier."""
    counting = analysis.selection.primary
    N, D, C, loss = (column.to_numpy() for column in columns(analysis.selection, counting))
    found = series.sizes(counting.N(analysis.selection.used))
    words = run_texts(analysis)
    floor = analysis.entropy_rate
    low = min(float(loss.min()), floor) if floor else float(loss.min())
    plot = figure(
        flops_axis(C.min(), C.max(), f"training compute C, FLOPs ({counting.c_label})"),
        loss_axis(low, float(loss.max())),
        "final loss, nats per token",
    )
    names = analysis.selection.used["run"].to_numpy()
    drawn = analysis.curves if counting.c is not None and len(names) <= CURVES_DRAWN else None
    curves = {} if drawn is None else dict(list(drawn[drawn["phase"] != "warmup"].groupby("run")))
    for i, hue in enumerate(size_colours(len(found.N))):
        of, group = np.flatnonzero(found.of == i), f"size{i}"
        if not len(of):
            continue
        own = [curves[name] for name in names[of] if name in curves]
        if own:
            x, y = apart([(one["flops"], one["loss_train"]) for one in own])
            plot.add_trace(line(x, y, hue, group, width=0.8, opacity=0.4))
        if found.named:  # through the mean of seeds
            tokens = np.unique(D[of])
            mean = np.array([(C[of][D[of] == d].mean(), loss[of][D[of] == d].mean()) for d in tokens])
            plot.add_trace(line(mean[:, 0], mean[:, 1], hue, group, width=1.6))
        marker = {"color": hue, "size": 7 if len(N) < 100 else 5}
        plot.add_trace(dots(C[of], loss[of], [words[j] for j in of], group, marker))
    keys, ramp = size_legend(found, f"N, parameters ({counting.n_label})")
    keys += _frontier(plot, analysis)
    if floor:
        ends = [10**v for v in plot.layout.xaxis.range]
        plot.add_trace(line(ends, [floor, floor], HUES["envelope"], "floor", dash="dash", width=1.5))
        keys.append(Key(f"entropy rate of the source, {floor:.4f}", HUES["envelope"], "dash", "floor"))
    text = (
        "Final loss of every run over its compute; faint lines are training curves. The frontier holds the runs that "
        "no cheaper run equals. A ring: the grid had no runs on one side, so what is seen is the edge of the grid, not "
        "an optimum."
    )
    return Panel(
        "loss", "Loss against compute", text, [plot], keys, ramp, "N" if found.named else "", budget=True, tall=True
    )


def _frontier(plot: Figure, analysis: Analysis) -> list[Key]:
    """The frontier's line and points; filled where an optimum, grey above the hull, a ring at the edge of the grid."""
    front = analysis.frontiers[0].frontier
    plot.add_trace(line(front.C, front.loss, INK, "frontier", width=1.2))
    keys = [Key("frontier", INK, "line", "frontier")]
    inside = front.interior
    kinds = (
        ("optimum", "diamond", inside & front.supported, INK, "optimum"),
        ("unrivalled, above the hull", "dot", inside & ~front.supported, MUTED, "above"),
        ("edge of the grid", "ring", ~inside, PAPER, "edge"),
    )
    for label, shape, of, fill, group in kinds:
        if of.any():
            look = {"color": fill, "size": 9 if len(front.C) < MANY else 5, "line": {"color": INK, "width": 1.2}}
            marker = look | {"symbol": "diamond" if shape == "diamond" else "circle"}
            plot.add_trace(dots(front.C[of], front.loss[of], None, group, marker))
            keys.append(Key(label, INK if fill == PAPER else fill, shape, group))
    return keys


def allocation(analysis: Analysis) -> Panel:
    """N_opt and D_opt over C by every method; those that are not identified are there to be asked for."""
    counting = analysis.selection.primary
    N, D, C, _ = (column.to_numpy() for column in columns(analysis.selection, counting))
    front = analysis.frontiers[0].frontier
    x = flops_axis(C.min(), C.max(), f"training compute C, FLOPs ({counting.c_label})")
    plots = [
        figure(x, count_axis(N.min(), N.max()), f"N_opt, parameters ({counting.n_label})"),
        figure(x, count_axis(D.min(), D.max()), "D_opt, tokens"),
    ]
    words, keys = run_texts(analysis), [Key("runs", "var(--faint)", "dot", "runs")]
    small = {"color": "var(--faint)", "size": 4}
    best: dict[str, Any] = {
        "color": [INK if inside else PAPER for inside in front.interior],
        "size": 7 if len(front.C) < MANY else 5,
    }
    best |= {"line": {"color": INK, "width": 1.2}}
    lines, points = list(series.paths(analysis)), list(series.optima(analysis))
    styles = {kind: iter(DASHES) for kind in HUES}
    styled = [(path, next(styles[path.kind], "dashdot")) for path in lines]
    for plot, which, runs in zip(plots, "ND", (N, D), strict=True):
        plot.add_trace(dots(C, runs, words, "runs", small))
        for path, dash in styled:
            shown = True if path.identified else "legendonly"
            ends = getattr(path, f"{which}_band")
            if ends is not None:
                plot.add_trace(band(path.C, ends, SOFT[path.kind], path.method, visible=shown))
            y = getattr(path, which)
            look = {"dash": dash, "visible": shown, "text": escape(path.method)}
            plot.add_trace(line(path.C, y, HUES[path.kind], path.method, width=1.8, **look))
        for found in points:
            y, group = getattr(found, which), f"{found.method} optima"
            marker = {"color": HUES[found.kind], "size": 7, "symbol": "diamond"}
            if found.kind == "envelope":
                marker |= {"size": 5, "symbol": "circle"}
            hover = [f"{escape(found.method)}: {count(v)} at {flops(c)} FLOPs" for c, v in zip(found.C, y, strict=True)]
            bars = {}
            if found.spread is not None:
                ends = {"array": y * (found.spread - 1), "arrayminus": y * (1 - 1 / found.spread)}
                bars = {"error_y": ends | {"color": HUES[found.kind], "thickness": 1, "width": 0}}
            plot.add_trace(dots(found.C, y, hover, group, marker, opacity=0.75, **bars))
        plot.add_trace(dots(front.C, getattr(front, which), None, "frontier points", best))
    keys.append(Key("best run at its compute", INK, "dot", "frontier points", note="ring: edge of the grid"))
    keys += [
        Key(f"{p.method}: optima", HUES[p.kind], "dot" if p.kind == "envelope" else "diamond", f"{p.method} optima")
        for p in points
    ]
    keys += [
        Key(p.method, HUES[p.kind], SHAPES[dash], p.method, p.identified, "" if p.identified else "not identified")
        for p, dash in styled
    ]
    text = (
        "The size and the number of tokens that each method would train at a budget; bands are 95 % intervals. Methods "
        "that are not identified are off: their lines are about the grid or the noise. Any entry can be switched."
    )
    return Panel("allocation", "Best size, best number of tokens", text, plots, keys, budget=True)


def run_texts(analysis: Analysis) -> list[str]:
    """What the pointer is told of each run in use."""
    used = analysis.selection.used
    N, D, C, loss = columns(analysis.selection, analysis.selection.primary)
    return [
        f"<b>{escape(str(run))}</b><br>N {count(n)} · D {count(d)}<br>C {flops(c)} FLOPs<br>loss {y:.4f}"
        for run, n, d, c, y in zip(used["run"], N, D, C, loss, strict=True)
    ]
