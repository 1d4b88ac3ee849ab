"""Figures that say whether to believe it: all exponents side by side, isoFLOP slices, allocation, residuals, grid."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scaling.report.analysis import Analysis
from scaling.report.axes import log_axis, named_ticks, power
from scaling.report.methods import SLICE, columns, is_isoflop_design
from scaling.report.style import ACCENT, INK, MUTED, TRUTH, VECTORS, colours, count, flops

SLICES_DRAWN = 9
NAMED_SIZES = 12
VIOLET = "#7c3aed"


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
    if not analysis.isoflops:
        return None
    found = analysis.isoflops[0]
    N, _, C, loss = columns(analysis.selection, analysis.selection.primary)
    own = is_isoflop_design(N, C)
    some = np.flatnonzero(found.used) if found.used.any() else np.arange(len(found.C))
    some = some[np.unique(np.linspace(0, len(some) - 1, SLICES_DRAWN).round().astype(int))]
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    for colour, i in zip(colours(len(some)), some, strict=True):
        n, y = _slice(N, C, loss, float(found.C[i]), own)
        axes.plot(n, y, "o-", color=colour, ms=3.5, lw=1.1, label=f"{flops(found.C[i])} FLOPs")
        if found.used[i]:
            axes.scatter(found.N[i], found.loss[i], marker="D", s=36, color=colour, edgecolors=INK, zorder=5)
    log_axis(axes, "x", N.min(), N.max(), count)
    low, high = (float(v) for v in np.quantile(loss, [0, 1]))
    log_axis(axes, "y", low, high, lambda value: f"{value:g}")
    axes.set(xlabel=f"N, parameters ({analysis.selection.primary.n_label})", ylabel="loss, nats per token")
    what = "runs of one budget" if own else "each size between its own runs"
    inside = f"diamond: the optimum, inside the slice at {found.used.sum()} of {len(found.C)} budgets"
    axes.set_title(f"isoFLOP slices: {what}\n{inside}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return figure


def _slice(
    N: pd.Series, C: pd.Series, loss: pd.Series, budget: float, own: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sizes and their loss at one budget (FLOPs): the runs there, or between the runs of each size."""
    if own:
        near = np.abs(np.log(C / budget)) < SLICE
        at = loss[near].groupby(N[near]).mean()
        return at.index.to_numpy(dtype=float), at.to_numpy(dtype=float)
    points = []
    for size, rows in loss.groupby(N):
        order = np.argsort(C[rows.index].to_numpy())
        c, y = C[rows.index].to_numpy()[order], rows.to_numpy()[order]
        if c[0] <= budget * 1.001 and budget <= c[-1] * 1.001:
            points.append((float(size), float(np.exp(np.interp(np.log(budget), np.log(c), np.log(y))))))
    return tuple(np.array(points).reshape(-1, 2).T)  # type: ignore[return-value]


def allocation(analysis: Analysis) -> Figure | None:
    """N_opt over C by every method that names one: what each would have you train. None where nothing is identified."""
    if analysis.answer is None:
        return None
    view, fit = analysis.frontiers[0], analysis.fits[0].found if analysis.fits else None
    N, D, C, _ = columns(analysis.selection, view.counting)
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    axes.scatter(C, N, s=9, color="#d4d4d8", label="runs", zorder=1, rasterized=len(N) > VECTORS)
    inside = view.frontier.interior & view.frontier.supported
    if inside.any():
        axes.scatter(view.frontier.C[inside], view.frontier.N[inside], s=30, color=INK, label="frontier, interior")
    if analysis.envelope is not None and analysis.envelope.interior.any():
        lower = analysis.envelope
        at, best = lower.C[lower.interior], lower.N[lower.interior]
        axes.scatter(at, best, s=14, marker="_", color=TRUTH, label="envelope of curves")
    for one, marker in zip(analysis.isoflops, "Ds", strict=False):
        if one.used.any():
            at, best = one.C[one.used], one.N[one.used]
            low, high = best * np.exp(np.multiply.outer([-2, 2], one.std[one.used]))
            axes.vlines(at, low, high, color=VIOLET, lw=0.9, alpha=0.6)
            axes.scatter(at, best, marker=marker, s=22, color=VIOLET, label=f"isoFLOP, {one.method} (2 sd)")
    if fit is not None and fit.identified["a"]:
        k = float(np.median(C / (N * D)))
        grid = np.geomspace(C.min(), C.max(), 40)
        found = [fit.optimal(float(c), k=k) for c in grid]
        axes.plot(grid, [one.N for one in found], color=ACCENT, label=f"{analysis.fits[0].name} (C = {k:.3g} N D)")
        if all(one.N_ci is not None for one in found):
            axes.fill_between(grid, *np.array([one.N_ci for one in found]).T, color=ACCENT, alpha=0.15, lw=0)
    log_axis(axes, "x", C.min(), C.max(), power)
    log_axis(axes, "y", N.min(), N.max(), count)
    axes.set(
        xlabel=f"training compute C, FLOPs ({view.counting.c_label})",
        ylabel=f"N_opt, parameters ({view.counting.n_label})",
    )
    if len(sizes := N.unique()) <= NAMED_SIZES:
        named_ticks(axes, "y", sizes.tolist(), count)
    axes.set_title("The best size for a budget")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return figure


def residuals(analysis: Analysis) -> Figure | None:
    """What the law leaves unexplained, over tokens and coloured by size: a pattern means the law is wrong."""
    fit = analysis.fits[0] if analysis.fits else None
    if fit is None or fit.found is None:
        return None
    N, D, _, loss = columns(analysis.selection, analysis.selection.primary)
    off = 100 * (np.log(loss.to_numpy()) - np.log(fit.found.fitted))
    figure = Figure(figsize=(8.2, 3.6))
    axes = figure.subplots()
    sizes = sorted(N.unique())
    if len(sizes) <= NAMED_SIZES:
        for colour, size in zip(colours(len(sizes)), sizes, strict=True):
            rows = (size == N).to_numpy()
            order = np.argsort(D.to_numpy()[rows])
            axes.plot(D.to_numpy()[rows][order], off[rows][order], "o-", color=colour, ms=4, lw=0.8, label=count(size))
        axes.legend(title="N", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    else:
        shown = axes.scatter(D, off, c=np.log10(N), s=12, cmap="viridis", linewidths=0, rasterized=len(N) > VECTORS)
        bar = figure.colorbar(shown, ax=axes, label=f"N, parameters ({analysis.selection.primary.n_label})", pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda value, _: count(10**value))
    axes.axhline(0, color=INK, lw=0.8)
    log_axis(axes, "x", D.min(), D.max(), count)
    axes.set(xlabel="D, tokens", ylabel="loss above the law, %")
    axes.set_title(f"Residuals of {fit.name}: sd {100 * fit.residual_sd:.2g} %")
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
