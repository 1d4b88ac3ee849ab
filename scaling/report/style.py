"""The one look of all figures: sizes, fonts, colours, and how numbers are written on axes and in text."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

RC: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e7",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#71717a",
    "axes.labelcolor": "#27272a",
    "xtick.color": "#52525b",
    "ytick.color": "#52525b",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "scaling",  # the same runs give the same file
}
VECTORS = 2000  # points from which a cloud is drawn as pixels in vector files
INK, MUTED, ACCENT, TRUTH, VIOLET = "#18181b", "#a1a1aa", "#c2410c", "#0f766e", "#7c3aed"
# From small to large, lightness rising all the way, so that no colour vision is needed: on white, and on a dark page.
RAMP = ("#3b1f6b", "#3d4c97", "#2a7096", "#1f9186", "#5fb052", "#c9ab2a")
DARK_RAMP = ("#8674d8", "#6593e0", "#4bb0cf", "#4cc7a2", "#93d56c", "#f0de55")


def colours(n: int, ramp: Sequence[str] = RAMP) -> list[str]:
    """n colours of a ramp, in order."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in ramp])
    at = np.linspace(0, len(ramp) - 1, n) if n > 1 else np.array([1.0])
    mixed = np.array([np.interp(at, np.arange(len(ramp)), channel) for channel in stops.T]).round().astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in mixed.T]


def colormap() -> Any:
    """The ramp for matplotlib, where there are too many sizes to name."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sizes", list(RAMP))


def count(value: float) -> str:
    """135408 -> 135k, 2.98e9 -> 2.98G: three digits and a unit."""
    if not math.isfinite(value):
        return "?"
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g}{unit}" if value < 999.5 * scale else f"{value:.2e}"
    return f"{value:.3g}"


def flops(value: float) -> str:
    """4.21e10, as FLOPs are written."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def interval(ci: Sequence[float] | None, digits: int = 3) -> str:
    """[0.10, 0.18]; unbounded ends say so."""
    if ci is None:
        return ""
    low, high = (f"{v:.{digits}f}" if math.isfinite(v) else ("-inf" if v < 0 else "inf") for v in ci)
    return f"[{low}, {high}]"
