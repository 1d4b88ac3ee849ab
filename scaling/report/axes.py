"""Log axes with numbers that can be read, over half a decade or ten."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis

ROOM = 0.05  # of the axis, beyond the data on either side


def log_axis(axes: Axes, which: str, low: float, high: float, write: Callable[[float], str]) -> None:
    """`which` (x or y) from low to high with a little room, its ticks 1-2-5 or decades as there is space."""
    room = (high / low) ** ROOM if high > low else 1.3
    axis: Axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low / room, high * room)
    decades = np.log10(high * room**2 / low)
    subs = [1.0] if decades > 3.5 else [1.0, 3.0] if decades > 2 else [1.0, 2.0, 5.0] if decades > 0.8 else None
    if subs is None:
        axis.set_major_locator(ticker.FixedLocator(list(ticker.MaxNLocator(6).tick_values(low / room, high * room))))
    else:
        axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_locator(ticker.NullLocator())


def named_ticks(axes: Axes, which: str, values: Sequence[float], write: Callable[[float], str]) -> None:
    """Ticks at the few values that occur, as sizes and token budgets of a grid."""
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(ticker.FixedLocator(list(values)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: write(value)))


def power(value: float) -> str:
    """1e10 or 3e10, as FLOPs are read."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
