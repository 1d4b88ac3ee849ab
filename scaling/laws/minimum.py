"""Where a sampled curve has its minimum: batched over curves that share their x."""

import numpy as np

from scaling.laws.errors import Array

METHODS = ("local", "akima", "parabola")
REACH = 2  # points of the local quadratic on either side of the lowest
FINER = 25  # steps of the Akima grid per point
WINDOW = 3  # points on either side of the lowest that a long Akima curve is drawn between


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

    last = len(x) - 1
    fine = np.interp(np.linspace(0, last, FINER * last + 1), np.arange(len(x)), x)
    lowest, at, height = np.argmin(y, axis=1), np.full(len(y), np.nan), np.full(len(y), np.nan)
    reach = WINDOW if last > 4 * WINDOW else last  # of a long curve only the part about its lowest point is needed
    for i in np.unique(lowest if reach < last else [0]):
        rows = np.flatnonzero(lowest == i) if reach < last else np.arange(len(y))
        begin, end = max(i - reach, 0), min(i + reach, last)
        near = slice(max(begin - 2, 0), end + 3)  # two points further make the curve what it is on the whole
        part = slice(FINER * begin, FINER * end + 1)
        curve = Akima1DInterpolator(x[near], y[rows, near], axis=1)(fine[part])
        k = np.argmin(curve, axis=1)
        inside = (k + part.start > 0) & (k + part.start < FINER * last)
        at[rows] = np.where(inside, fine[part][k], np.nan)
        height[rows] = np.where(inside, curve[np.arange(len(rows)), k], np.nan)
    return at, height
