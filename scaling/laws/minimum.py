"""Where a sampled curve has its minimum: batched over curves that share their x."""

import numpy as np

from scaling.laws.errors import Array

METHODS = ("local", "akima", "parabola")
REACH = 2  # points of the local quadratic on either side of the lowest
FINER = 25  # steps of the Akima grid per point


def minimum(x: Array, y: Array, method: str) -> tuple[Array, Array]:
    """Position and height of the minimum of every row of y (curves x points) over ascending x (points).

    Both are nan where there is none inside: the lowest point is the first or the last (local, akima), the
    quadratic does not turn upwards, or its vertex is outside of the points it was fitted to.
    """
    if method == "parabola":
        return _vertex(x, y)
    if method == "akima":
        return _akima(x, y)
    lowest, at, height = np.argmin(y, axis=1), np.full(len(y), np.nan), np.full(len(y), np.nan)
    for i in np.unique(lowest):
        reach = min(REACH, i, len(x) - 1 - i)
        if reach > 0:  # as many points on either side: a lopsided window pulls the vertex
            rows, near = lowest == i, slice(i - reach, i + reach + 1)
            vertex, bottom = _vertex(x[near], y[rows, near])
            inside = (vertex > x[near][0]) & (vertex < x[near][-1])
            at[rows], height[rows] = np.where(inside, vertex, np.nan), np.where(inside, bottom, np.nan)
    return at, height


def _vertex(x: Array, y: Array) -> tuple[Array, Array]:
    """Vertex of the least-squares quadratic through each row; nan where it does not turn upwards."""
    centre, scale = x.mean(), np.ptp(x) / 2
    z = (x - centre) / scale
    c0, c1, c2 = np.linalg.lstsq(np.vander(z, 3, increasing=True), y.T, rcond=None)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(c2 > 0, -c1 / (2 * c2), np.nan)
    return centre + scale * vertex, c0 + c1 * vertex + c2 * vertex**2


def _akima(x: Array, y: Array) -> tuple[Array, Array]:
    from scipy.interpolate import Akima1DInterpolator

    fine = np.interp(np.linspace(0, len(x) - 1, FINER * (len(x) - 1) + 1), np.arange(len(x)), x)
    curve = Akima1DInterpolator(x, y, axis=1)(fine)
    lowest = np.argmin(curve, axis=1)
    inside = (lowest > 0) & (lowest < len(fine) - 1)
    rows = np.arange(len(y))
    return np.where(inside, fine[lowest], np.nan), np.where(inside, curve[rows, lowest], np.nan)
