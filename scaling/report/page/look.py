"""The look of the page's plots. Colours are names of CSS variables, which `page.js` reads off the page as it is shown:
one picture serves light and dark."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from scaling.report.series import Sizes
from scaling.report.style import colours, count

INK, MUTED, PAPER = "var(--ink)", "var(--muted)", "var(--paper)"
HUES = {kind: f"var(--{kind})" for kind in ("frontier", "envelope", "isoflop", "law")}
SOFT = {kind: f"var(--{kind}-soft)" for kind in HUES}
ROOM = 0.04  # of an axis, beyond the data on either side
DECADES, MANY_DECADES = 30, 3e3  # spans of an axis from which ticks are decades: of FLOPs, of parameters and tokens
LABEL = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "showarrow": False}
AXIS = {
    "gridcolor": "var(--line)",
    "linecolor": "var(--rule)",
    "zeroline": False,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": "var(--rule)",
    "tickfont": {"color": "var(--muted)"},
    "title": {"font": {"color": "var(--muted)", "size": 12}, "standoff": 8},
    "minor": {"ticks": ""},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "var(--sans)", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": AXIS | {"showline": True, "showgrid": False},
        "yaxis": AXIS | {"automargin": True, "ticks": ""},
        "margin": {"l": 44, "r": 10, "t": 30, "b": 46},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--rule)", "font": {"color": INK}, "align": "left"},
        "showlegend": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": INK},
    }
)


@dataclass(frozen=True)
class Key:
    """An entry of a legend, which shows and hides the traces of its group. shape: line, dash, dots, dashdot, dot, ring,
    diamond; `note` is set apart."""

    label: str
    colour: str
    shape: str
    group: str
    on: bool = True
    note: str = ""


@dataclass(frozen=True)
class Ramp:
    """A legend of colours in order, from `low` to `high`."""

    title: str
    low: str
    high: str
    colours: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """One picture with its words, or the reason (`why`) for which there is none. plots: figures side by side, which
    share the legend, headed by `of`; budget: whether the chosen budget is a place on their x axis."""

    name: str
    title: str
    text: str
    plots: Sequence[go.Figure] = ()
    keys: Sequence[Key] = ()
    ramp: Ramp | None = None
    of: str = ""
    why: str = ""
    budget: bool = False
    tall: bool = False

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}-{i}" for i in range(len(self.plots))]


def size_colours(n: int) -> list[str]:
    """n names of colours, from small to large."""
    return [f"var(--of{n}-{i})" for i in range(n)]


def ramp_css(css: str, ramp: Sequence[str]) -> str:
    """CSS of all colours of `size_colours` that a text asks for, on one theme."""
    asked = sorted({int(n) for n in re.findall(r"var\(--of(\d+)-0\)", css)})
    return "".join(f"--of{n}-{i}:{c};" for n in asked for i, c in enumerate(colours(n, ramp)))


def size_legend(found: Sizes, title: str) -> tuple[list[Key], Ramp | None]:
    """A key for each size, or a ramp where sizes are too many."""
    hues = size_colours(len(found.N))
    if found.named:
        return [
            Key(count(n), hue, "dot", f"size{i}") for i, (n, hue) in enumerate(zip(found.N, hues, strict=True))
        ], None
    return [], Ramp(title, count(found.N[0]), count(found.N[-1]), hues)


def flops_axis(low: float, high: float, title: str = "training compute C, FLOPs") -> dict[str, Any]:
    """Powers of ten, which plotly.js writes a quarter larger than other ticks."""
    ticks = {"dtick": 1, "tickfont": {"size": 9.6, "color": MUTED}} if high > DECADES * low else {"dtick": "D2"}
    return _log(low, high) | ticks | {"exponentformat": "power", "title": {"text": escape(title)}}


def count_axis(low: float, high: float, title: str = "") -> dict[str, Any]:
    """Parameters or tokens, at 1, 2, 5 or, over many decades, at 1."""
    ticks = {"dtick": 1} if high > MANY_DECADES * low else {"dtick": "D2"}
    return _log(low, high) | ticks | {"tickformat": "~s", "title": {"text": escape(title)}}


def loss_axis(low: float, high: float) -> dict[str, Any]:
    return _log(low, high) | {"tickformat": "~g"}


def _log(low: float, high: float) -> dict[str, Any]:
    ends = math.log10(low), math.log10(high)
    room = ROOM * (ends[1] - ends[0]) if high > low else 0.1
    return {"type": "log", "range": [ends[0] - room, ends[1] + room]}


def figure(x: dict[str, Any], y: dict[str, Any], label: str) -> go.Figure:
    """An empty plot; `label` says what goes up, with its unit, level above the axis."""
    words = LABEL | {"text": escape(label), "xshift": -40, "yshift": 8, "font": {"color": MUTED}}
    return go.Figure(layout=go.Layout(template=TEMPLATE, xaxis=x, yaxis=y, annotations=[words]))


def line(x: ArrayLike, y: ArrayLike, colour: str, group: str, **other: Any) -> go.Scatter:
    """A line; options: width, dash, opacity, visible, text (what it says under the pointer)."""
    style = {"color": colour, "width": other.pop("width", 2), "dash": other.pop("dash", "solid")}
    text = other.pop("text", None)
    hover = {"hoverinfo": "skip"} if text is None else {"hovertemplate": f"{text}<extra></extra>"}
    return go.Scatter(x=x, y=y, mode="lines", line=style, legendgroup=group, **hover, **other)


def band(x: ArrayLike, ends: tuple[ArrayLike, ArrayLike], colour: str, group: str, **other: Any) -> go.Scatter:
    """The area between two lines over x."""
    x, low, high = (np.asarray(v, dtype=float) for v in (x, *ends))
    around, up = np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]])
    area: dict[str, Any] = {"fill": "toself", "fillcolor": colour, "hoverinfo": "skip"}
    return go.Scatter(x=around, y=up, mode="lines", line={"width": 0}, legendgroup=group, **area, **other)


def dots(
    x: ArrayLike, y: ArrayLike, text: Sequence[str] | None, group: str, marker: dict[str, Any], **other: Any
) -> Any:
    """Points, each with a text of its own under the pointer (plain text: whoever wrote it)."""
    hover: dict[str, Any] = {"hoverinfo": "skip"}
    if text is not None:
        hover = {"text": list(text), "hovertemplate": "%{text}<extra></extra>"}
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, legendgroup=group, **hover, **other)


def apart(rows: Sequence[tuple[ArrayLike, ArrayLike]]) -> Iterator[NDArray[np.float64]]:
    """Several lines as the x and the y of one trace, with gaps (nan) between them."""
    for i in (0, 1):
        yield np.concatenate([np.append(np.asarray(row[i], dtype=float), np.nan) for row in rows])
