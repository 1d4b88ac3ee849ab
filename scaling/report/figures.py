"""Figures for print: the article's two (loss against compute, efficient frontier) here, the others in `diagnostics`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scaling.laws import Frontier
from scaling.report import diagnostics
from scaling.report.analysis import Analysis
from scaling.report.axes import log_axis, named_ticks, power
from scaling.report.estimate import Estimate
from scaling.report.methods import EVERY, INTERIOR
from scaling.report.series import NAMED_SIZES
from scaling.report.style import ACCENT, INK, MUTED, RC, TRUTH, VECTORS, colormap, colours, count, interval

DRAWN_CURVES = 200  # more curves than this hide each other
MANY = 40  # points from which markers shrink


def write(analysis: Analysis, name: str, out: Path) -> None:
    """One of FIGURES as .png and .svg, where there is something to draw for it."""
    mpl.use("Agg")
    with mpl.rc_context(RC):
        figure = FIGURES[name](analysis)
        if figure is None:  # nor from an earlier report
            for kind in ("png", "svg"):
                (out / f"{name}.{kind}").unlink(missing_ok=True)
            return
        figure.savefig(out / f"{name}.png", pil_kwargs={"compress_level": 3})
        with mpl.rc_context({"figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)  # laid out once is enough
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})


def loss_vs_compute(analysis: Analysis) -> Figure:
    """Final loss of every run over its compute, coloured by size, with the Pareto frontier and training curves."""
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    view, runs = analysis.frontiers[0], analysis.selection.used
    C, N = view.counting.C(runs), view.counting.N(runs)
    sizes = sorted(N.unique())
    if len(sizes) <= NAMED_SIZES:
        _by_size(axes, analysis, C, N, sizes)
    else:
        look: dict[str, Any] = {"cmap": colormap(), "norm": LogNorm(), "linewidths": 0, "rasterized": len(N) > VECTORS}
        shown = axes.scatter(C, runs["loss"], c=N, s=14, **look)
        bar = figure.colorbar(shown, ax=axes, label=f"N, parameters ({view.counting.n_label})", pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda value, _: count(value))
    axes.plot(view.frontier.C, view.frontier.loss, color=INK, lw=1.0, zorder=4)
    _frontier_points(axes, view.frontier, view.frontier.loss)
    low, high = float(runs["loss"].min()), float(runs["loss"].max())
    if analysis.entropy_rate:
        axes.axhline(analysis.entropy_rate, color=TRUTH, ls="--", lw=1.2, label="entropy rate of the source")
        low = min(low, analysis.entropy_rate)
    log_axis(axes, "x", C.min(), C.max(), power)
    log_axis(axes, "y", low, high, lambda value: f"{value:g}")
    axes.set(xlabel=f"training compute C, FLOPs ({view.counting.c_label})", ylabel="final loss, nats per token")
    axes.set_title("Loss against compute")
    if len(sizes) <= NAMED_SIZES:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handletextpad=0.3)
    else:
        axes.legend(loc="upper right")
    return figure


def _by_size(axes: Axes, analysis: Analysis, C: pd.Series, N: pd.Series, sizes: list[float]) -> None:
    """A line for each size through the mean of its seeds, its runs as points, their training curves behind."""
    runs = analysis.selection.used
    drawn = len(runs) <= DRAWN_CURVES and analysis.frontiers[0].counting.c == "flops"
    curves = analysis.curves if drawn else None
    for colour, size in zip(colours(len(sizes)), sizes, strict=True):
        of = runs[size == N]
        name = f"{of['model'].iloc[0]}: " if "model" in of and of["model"].nunique() == 1 else ""
        mean = of.assign(C=C[of.index]).groupby("tokens")[["C", "loss"]].mean()
        axes.plot(mean["C"], mean["loss"], color=colour, alpha=0.85)
        look: dict[str, Any] = {"label": f"{name}{count(size)} parameters", "rasterized": len(runs) > VECTORS}
        axes.scatter(C[of.index], of["loss"], color=colour, s=16, zorder=3, **look)
        if curves is not None:
            for _, curve in curves[curves["run"].isin(of["run"])].groupby("run"):
                warm = curve[curve["phase"] != "warmup"]
                axes.plot(warm["flops"], warm["loss_train"], color=colour, lw=0.6, alpha=0.28, zorder=1)


def _frontier_points(axes: Axes, front: Frontier, y: NDArray[np.float64]) -> None:
    """Filled: an optimum. Grey: inside the grid but above the hull. Hollow: the edge of the grid."""
    inside, size = front.interior, 30 if len(front.C) < MANY else 15
    kinds = (
        ("optimum", inside & front.supported, INK, INK),
        ("unrivalled, above the hull", inside & ~front.supported, MUTED, INK),
        ("edge of the grid", ~inside, "white", INK),
    )
    for label, of, face, edge in kinds:
        if of.any():
            axes.scatter(front.C[of], y[of], s=size, facecolors=face, edgecolors=edge, lw=1, zorder=5, label=label)


def efficient_frontier(analysis: Analysis) -> Figure:
    """Size and tokens of the frontier's runs over their compute, with the regression lines."""
    view = analysis.frontiers[0]
    front, line = view.frontier, view.regression
    figure = Figure(figsize=(9.4, 4.3))
    left, right = figure.subplots(1, 2)
    every, best = (line.all, line.interior) if line else (None, None)
    rows = {e.method: e for e in analysis.estimates if e.counting == view.counting}
    for axes, y, name in ((left, front.N, "a"), (right, front.D, "b")):
        grid = np.geomspace(front.C.min(), front.C.max(), 100)
        for found, method, style in ((every, EVERY, {"color": MUTED, "ls": "--"}), (best, INTERIOR, {"color": ACCENT})):
            if found is not None:
                through = found.N if name == "a" else found.D
                axes.plot(grid, through.predict(grid), label=_label(rows[method], name), **style)
                if found is best:
                    axes.fill_between(grid, *through.band(grid), color=ACCENT, alpha=0.13, lw=0)
        _finish(axes, front, y)
    left.set_ylabel(f"N of the best run, parameters ({view.counting.n_label})")
    right.set_ylabel("D of the best run, tokens")
    for axes in (left, right):
        axes.set_xlabel(f"training compute C, FLOPs ({view.counting.c_label})")
    title = "Efficient frontier" + ("" if best else ": the slope is not identified")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    kinds = {label: handle for handle, label in zip(*left.get_legend_handles_labels(), strict=True) if "=" not in label}
    figure.legend(kinds.values(), kinds.keys(), loc="outside lower center", ncols=3)
    return figure


def _finish(axes: Axes, front: Frontier, y: NDArray[np.float64]) -> None:
    _frontier_points(axes, front, y)
    log_axis(axes, "x", front.C.min(), front.C.max(), power)
    log_axis(axes, "y", y.min(), y.max(), count)
    if len(values := np.unique(y)) <= NAMED_SIZES:
        named_ticks(axes, "y", values.tolist(), count)
    if lines := [line for line in axes.lines if "=" in str(line.get_label())]:
        axes.legend(handles=lines, loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0)


def _label(estimate: Estimate, name: str) -> str:
    value, ci = (estimate.a, estimate.a_ci) if name == "a" else (estimate.b, estimate.b_ci)
    return f"{estimate.method}: {name} = {value:.3f} {interval(ci, 2)}"


FIGURES: dict[str, Callable[[Analysis], Figure | None]] = {
    "loss_vs_compute": loss_vs_compute,
    "efficient_frontier": efficient_frontier,
    "allocation": diagnostics.allocation,
    "isoflop_slices": diagnostics.isoflop_slices,
    "exponents": diagnostics.exponents,
    "residuals": diagnostics.residuals,
    "hold_out": diagnostics.hold_out,
    "grid_bias": diagnostics.grid_bias,
}
