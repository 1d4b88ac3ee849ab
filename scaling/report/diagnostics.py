"""Figures that say whether to believe it: all exponents side by side, isoFLOP slices, allocation, residuals,
hold-out, grid."""

import numpy as np
from matplotlib.figure import Figure

from scaling.report import series
from scaling.report.analysis import Analysis
from scaling.report.axes import log_axis, power
from scaling.report.methods import columns, is_isoflop_design
from scaling.report.style import ACCENT, INK, MUTED, TRUTH, VECTORS, VIOLET, colormap, colours, count, flops

INTERVALS = 400  # more of them hide each other
HUES = {"frontier": INK, "envelope": TRUTH, "isoflop": VIOLET, "law": ACCENT}


def exponents(analysis: Analysis) -> Figure | None:
    """a of every method under the primary count of N, with its interval; hollow where it is not identified."""
    rows = [e for e in analysis.estimates if e.counting.n == analysis.selection.primary.n and e.a is not None]
    if not rows:
        return None
    figure = Figure(figsize=(8.2, 1.2 + 0.27 * len(rows)))
    axes = figure.subplots()
    for y, e in enumerate(reversed(rows)):
        colour = ACCENT if e == analysis.answer else INK if e.identified else MUTED
        low, high = np.clip(e.a_ci or (np.nan, np.nan), -1, 2)
        axes.plot([low, high], [y, y], color=colour, lw=1.6)
        axes.scatter(
            [e.a or 0.0], [y], s=34, facecolors=colour if e.identified else "white", edgecolors=colour, zorder=3
        )
    axes.set_yticks(range(len(rows)), [f"{e.method}  ({e.counting.c_label})" for e in reversed(rows)])
    axes.set_xlim(-0.1, 1.1)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.axvline(0.5, color=MUTED, lw=0.8, ls=":")
    axes.set_xlabel("a in N_opt ~ C^a, with 95 % interval (hollow: not identified)")
    axes.set_title(f"Every method (count of N: {analysis.selection.primary.n_label})")
    return figure


def isoflop_slices(analysis: Analysis) -> Figure | None:
    """Loss over size at several compute budgets, with the optima; between runs of a grid each size is interpolated."""
    drawn = series.slices(analysis)
    if not drawn:
        return None
    found = analysis.isoflops[0]
    N, _, C, loss = columns(analysis.selection, analysis.selection.primary)
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    for colour, one in zip(colours(len(drawn)), drawn, strict=True):
        axes.plot(one.N, one.loss, "o-", color=colour, ms=3.5, lw=1.1, label=flops(one.C))
        if one.best is not None:
            axes.scatter(*one.best, marker="D", s=36, color=colour, edgecolors=INK, zorder=5)
    log_axis(axes, "x", N.min(), N.max(), count)
    log_axis(axes, "y", float(loss.min()), float(loss.max()), lambda value: f"{value:g}")
    axes.set(xlabel=f"N, parameters ({analysis.selection.primary.n_label})", ylabel="loss, nats per token")
    what = "runs of one budget" if is_isoflop_design(N, C) else "each size between its own runs"
    inside = f"diamond: the optimum, inside the slice at {found.used.sum()} of {len(found.C)} budgets"
    axes.set_title(f"isoFLOP slices: {what}\n{inside}")
    axes.legend(title="C, FLOPs", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return figure


def allocation(analysis: Analysis) -> Figure | None:
    """N_opt and D_opt over C by every method that can tell, with its band. None where nothing is identified."""
    if analysis.answer is None:
        return None
    view = analysis.frontiers[0]
    N, D, C, _ = columns(analysis.selection, view.counting)
    figure = Figure(figsize=(9.4, 4.8))
    panels = figure.subplots(1, 2)
    inside = view.frontier.interior & view.frontier.supported
    for axes, which, runs in zip(panels, "ND", (N, D), strict=True):
        axes.scatter(C, runs, s=7, color="#d4d4d8", label="runs", zorder=1, rasterized=len(N) > VECTORS, lw=0)
        if inside.any():
            y = getattr(view.frontier, which)[inside]
            axes.scatter(view.frontier.C[inside], y, s=18, color=INK, label="frontier, interior", lw=0)
        for dots in series.optima(analysis):
            marker = "_" if dots.kind == "envelope" else "D"
            y = getattr(dots, which)
            axes.scatter(dots.C, y, s=12, marker=marker, color=HUES[dots.kind], alpha=0.5, lw=0.8)
            if dots.spread is not None:
                axes.vlines(dots.C, y / dots.spread, y * dots.spread, color=HUES[dots.kind], lw=0.7, alpha=0.5)
        styles = {kind: iter(("-", "--", ":", "-.")) for kind in HUES}
        for path in series.paths(analysis):
            if not path.identified:
                continue
            colour, band = HUES[path.kind], getattr(path, f"{which}_band")
            axes.plot(path.C, getattr(path, which), color=colour, ls=next(styles[path.kind], "-."), label=path.method)
            if band is not None:
                axes.fill_between(path.C, *band, color=colour, alpha=0.1, lw=0)
        log_axis(axes, "x", C.min(), C.max(), power)
        log_axis(axes, "y", runs.min(), runs.max(), count)
        axes.set_xlabel(f"training compute C, FLOPs ({view.counting.c_label})")
    panels[0].set_ylabel(f"N_opt, parameters ({view.counting.n_label})")
    panels[1].set_ylabel("D_opt, tokens")
    figure.suptitle("The best size and the best number of tokens for a budget", x=0.01, ha="left", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def residuals(analysis: Analysis) -> Figure | None:
    """What the law leaves unexplained, over tokens and coloured by size: a pattern means the law is wrong."""
    known = series.residuals(analysis)
    if known is None:
        return None
    fit, off = known[0], 100 * known[1]
    N, D, _, _ = columns(analysis.selection, analysis.selection.primary)
    figure = Figure(figsize=(8.2, 3.6))
    axes = figure.subplots()
    found = series.sizes(N)
    if found.named:
        for i, (colour, size) in enumerate(zip(colours(len(found.N)), found.N, strict=True)):
            rows = np.flatnonzero(found.of == i)
            rows = rows[np.argsort(D.to_numpy()[rows])]
            axes.plot(D.to_numpy()[rows], off[rows], "o-", color=colour, ms=4, lw=0.8, label=count(size))
        axes.legend(title="N", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    else:
        shown = axes.scatter(D, off, c=np.log10(N), s=12, cmap=colormap(), linewidths=0, rasterized=len(N) > VECTORS)
        bar = figure.colorbar(shown, ax=axes, label=f"N, parameters ({analysis.selection.primary.n_label})", pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda value, _: count(10**value))
    axes.axhline(0, color=INK, lw=0.8)
    log_axis(axes, "x", D.min(), D.max(), count)
    axes.set(xlabel="D, tokens", ylabel="loss above the law, %")
    axes.set_title(f"Residuals of {fit.name}: sd {100 * fit.residual_sd:.2g} %")
    return figure


def hold_out(analysis: Analysis) -> Figure | None:
    """Error of the law on runs dearer than those it was fitted to, with the interval promised for a new run."""
    if not analysis.hold_outs:
        return None
    figure = Figure(figsize=(8.2, 3.8))
    axes = figure.subplots()
    for colour, one in zip((ACCENT, TRUTH, VIOLET), analysis.hold_outs, strict=False):
        if len(one.low):
            ends = 100 * (np.array([one.low, one.high]) / one.loss - 1)
            some = slice(None, None, -(-len(one.loss) // INTERVALS))
            axes.vlines(one.scale_up[some], *ends[:, some], color=colour, lw=0.8, alpha=0.4)
        label = f"{one.fitted} runs below {flops(one.below)} FLOPs: {100 * one.are:.2g} % off on average"
        many = len(one.error) > VECTORS
        axes.scatter(one.scale_up, 100 * one.error, s=14, color=colour, label=label, lw=0, rasterized=many)
    axes.axhline(0, color=INK, lw=0.8)
    log_axis(axes, "x", 1.0, max(float(one.scale_up.max()) for one in analysis.hold_outs), lambda value: f"{value:g} x")
    axes.set(xlabel="compute, times the largest that was fitted", ylabel="predicted loss above the one seen, %")
    axes.set_title("Hold-out: laws of the cheap runs, tried on the dear ones")
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.2), borderaxespad=0, title="fitted to", alignment="left"
    )
    legend.get_title().set_fontsize(8.5)
    return figure


def grid_bias(analysis: Analysis) -> Figure | None:
    """The slope that this grid returns for each true exponent, and the slope that was found."""
    bias, line = analysis.grid_bias, analysis.frontiers[0].regression
    if bias is None or line is None:
        return None
    figure = Figure(figsize=(6.6, 4.2))
    axes = figure.subplots()
    for j, sd in enumerate(bias.noise):
        colour = (INK, ACCENT)[min(j, 1)]
        axes.plot(bias.true_a, bias.slope[:, j], color=colour, label=f"noise {100 * sd:.2g} % of the loss")
        axes.fill_between(bias.true_a, bias.low[:, j], bias.high[:, j], color=colour, alpha=0.15, lw=0)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=":", label="a grid without bias")
    axes.axhline(line.all.a, color=TRUTH, ls="--", label=f"slope found here: {line.all.a:.3f}")
    axes.set(xlim=(0, 1), xlabel="true a", ylabel=f"slope of the frontier, {bias.sizes} sizes x {bias.budgets} budgets")
    axes.set_title("What this grid would return")
    axes.legend(loc="best")
    return figure
