"""Pictures that say whether to believe the answer: isoFLOP slices, residuals, hold-out, and what the grid would say."""

from html import escape

import numpy as np

from scaling.report import series
from scaling.report.analysis import Analysis
from scaling.report.methods import columns, is_isoflop_design
from scaling.report.page.answers import run_texts
from scaling.report.page.look import (
    HUES,
    INK,
    MUTED,
    SOFT,
    Key,
    Panel,
    band,
    count_axis,
    dots,
    figure,
    line,
    loss_axis,
    size_colours,
    size_legend,
)
from scaling.report.style import count, flops
from scaling.report.tables import grid_verdict, hold_out_line

SHARES = ("law", "envelope", "isoflop")  # hues of the thresholds
ZERO = {"color": INK, "width": 1}


def isoflop_slices(analysis: Analysis) -> Panel:
    """Loss over size at several budgets, coloured by budget, with the optima that lie inside."""
    title = "isoFLOP slices"
    drawn = series.slices(analysis)
    if not drawn:
        rows = [e for e in analysis.estimates if e.method.startswith("isoFLOP")]
        return Panel("slices", title, "", why=rows[0].verdict if rows else "no budget has runs of enough sizes")
    found, counting = analysis.isoflops[0], analysis.selection.primary
    N = np.concatenate([one.N for one in drawn])
    loss = np.concatenate([one.loss for one in drawn])
    plot = figure(
        count_axis(N.min(), N.max(), f"N, parameters ({counting.n_label})"),
        loss_axis(loss.min(), loss.max()),
        "loss, nats per token",
    )
    hues, keys = size_colours(len(drawn)), []
    for i, (one, hue) in enumerate(zip(drawn, hues, strict=True)):
        hover = [
            f"C {flops(one.C)} FLOPs<br>N {count(n)}<br>loss {y:.4f}" for n, y in zip(one.N, one.loss, strict=True)
        ]
        plot.add_trace(line(one.N, one.loss, hue, f"slice{i}", width=1.4))
        plot.add_trace(dots(one.N, one.loss, hover, f"slice{i}", {"color": hue, "size": 5}))
        if one.best is not None:
            marker = {"color": hue, "size": 10, "symbol": "diamond", "line": {"color": INK, "width": 1.3}}
            hover = [f"optimum at {flops(one.C)} FLOPs: N {count(one.best[0])}"]
            plot.add_trace(dots([one.best[0]], [one.best[1]], hover, f"slice{i}", marker))
        keys.append(Key(flops(one.C), hue, "line", f"slice{i}"))
    N_all, _, C_all, _ = columns(analysis.selection, counting)
    what = "Runs of one budget." if is_isoflop_design(N_all, C_all) else "Each size is read between its own runs."
    text = (
        f"Loss over size at fixed compute. {what} A diamond is an optimum inside its slice, as at {found.used.sum()} "
        f"of {len(found.C)} budgets; one at the end of a slice is none."
    )
    return Panel("slices", title, text, [plot], keys, of="C, FLOPs")


def residuals(analysis: Analysis) -> Panel:
    """What the law leaves over, by tokens, coloured by size."""
    known = series.residuals(analysis)
    if known is None:
        return Panel("residuals", "Residuals", "", why=next((fit.why for fit in analysis.fits), "no law was fitted"))
    fit, off = known[0], 100 * known[1]
    counting = analysis.selection.primary
    D = columns(analysis.selection, counting)[1].to_numpy()
    found, words = series.sizes(counting.N(analysis.selection.used)), run_texts(analysis)
    plot = figure(count_axis(D.min(), D.max(), "D, tokens"), {}, "loss above the law, %")
    plot.add_hline(0, line=ZERO)
    for i, hue in enumerate(size_colours(len(found.N))):
        of = np.flatnonzero(found.of == i)
        of = of[np.argsort(D[of])]
        if found.named:
            plot.add_trace(line(D[of], off[of], hue, f"size{i}", width=1))
        hover = [f"{words[j]}<br>{off[j]:+.2f} % off the law" for j in of]
        plot.add_trace(dots(D[of], off[of], hover, f"size{i}", {"color": hue, "size": 6 if found.named else 5}))
    keys, ramp = size_legend(found, f"N, parameters ({counting.n_label})")
    text = (
        f"What {fit.name} leaves over: sd {fit.residual_sd:.2%} of the loss. A pattern, rather than scatter, says that "
        "the law is wrong here."
    )
    return Panel("residuals", "Residuals", text, [plot], keys, ramp, "N" if found.named else "")


def hold_out(analysis: Analysis) -> Panel:
    """Error of laws of the cheap runs on the dear ones, with the interval that they promise for a new run."""
    title = "Hold-out"
    if not analysis.hold_outs:
        return Panel("holdout", title, "", why=analysis.missing.get("hold_out", ""))
    largest = max(float(one.scale_up.max()) for one in analysis.hold_outs)
    x = count_axis(1.0, max(largest, 2.0), "compute, times the largest that was fitted") | {"tickformat": "~g"}
    plot = figure(x | {"ticksuffix": "×"}, {"ticksuffix": " %"}, "predicted loss above the one seen")
    plot.add_hline(0, line=ZERO)
    keys = []
    for i, (one, kind) in enumerate(zip(analysis.hold_outs, SHARES, strict=False)):
        bars = {}
        if len(one.low):
            above, below = 100 * (one.high - one.predicted) / one.loss, 100 * (one.predicted - one.low) / one.loss
            ends = {"array": np.maximum(above, 0), "arrayminus": np.maximum(below, 0)}
            bars = {"error_y": ends | {"color": SOFT[kind], "thickness": 1.5, "width": 0}}
        hover = [
            f"C {flops(c)} FLOPs, {up:.3g}×<br>seen {y:.4f}, predicted {p:.4f}<br>{100 * e:+.2f} %"
            for c, up, y, p, e in zip(one.C, one.scale_up, one.loss, one.predicted, one.error, strict=True)
        ]
        marker = {"color": HUES[kind], "size": 6}
        plot.add_trace(dots(one.scale_up, 100 * one.error, hover, f"below{i}", marker, **bars))
        label = f"{one.fitted} runs below {flops(one.below)}"
        keys.append(Key(label, HUES[kind], "dot", f"below{i}", note=f"mean |error| {one.are:.2%}"))
    words = hold_out_line(analysis).removeprefix("hold-out: ")
    text = f"{words[:1].upper()}{words[1:]}. Bars: the 95 % interval promised for a new run."
    return Panel("holdout", title, text, [plot], keys, of="fitted to")


def grid_bias(analysis: Analysis) -> Panel:
    """The slope that this grid returns for each true exponent, and the slope that was found."""
    title, verdict = "Can this grid tell?", grid_verdict(analysis)
    bias, found = analysis.grid_bias, analysis.frontiers[0].regression
    if bias is None or found is None:
        return Panel("grid", title, "", why=analysis.missing.get("grid_bias", "") or "no slope can be drawn")
    plot = figure(
        {"range": [0, 1], "title": {"text": "true a"}, "tickformat": ".1f"},
        {"tickformat": ".2~f"},
        f"slope of the frontier ({bias.sizes} sizes × {bias.budgets} budgets)",
    )
    keys = []
    for j, (sd, kind) in enumerate(zip(bias.noise, ("frontier", "law"), strict=False)):
        if sd > 0:
            plot.add_trace(band(bias.true_a, (bias.low[:, j], bias.high[:, j]), SOFT[kind], f"noise{j}"))
        text = f"true a %{{x:.2f}}: slope %{{y:.3f}}, noise {sd:.2%}"
        plot.add_trace(line(bias.true_a, bias.slope[:, j], HUES[kind], f"noise{j}", text=text))
        keys.append(Key(f"noise {sd:.2%} of the loss" if sd else "no noise", HUES[kind], "line", f"noise{j}"))
    plot.add_trace(line([0, 1], [0, 1], MUTED, "right", dash="dot", width=1.2))
    seen = f"slope found here: {found.all.a:.3f}"
    plot.add_trace(line([0, 1], [found.all.a] * 2, HUES["envelope"], "seen", dash="dash", text=escape(seen)))
    keys += [Key("a grid without bias", MUTED, "dots", "right"), Key(seen, HUES["envelope"], "dash", "seen")]
    return Panel("grid", title, f"{verdict[:1].upper()}{verdict[1:]}.", [plot], keys)
