"""Runs -> cells: several seeds of one (N, D) are one observation with a spread."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.errors import Array, columns

SAME = 1e-6  # two sizes, budgets or C closer than this in log are one and the same


@dataclass(frozen=True)
class Cells:
    """One row per (N, D): mean loss over its seeds, and how the rows given map onto cells.

    N parameters, D tokens, C FLOPs, loss nats per token; sd is that of log loss over the seeds of the cell
    (nan where there is one); row_cell and row_loss keep the runs themselves for the bootstrap.
    """

    N: Array
    D: Array
    C: Array
    loss: Array
    count: NDArray[np.int64]
    sd: Array
    row_cell: NDArray[np.int64]
    row_loss: Array

    @property
    def noise(self) -> float:
        """Pooled sd of log loss between seeds of one cell; nan where no cell has two."""
        spare = self.count - 1
        if not np.any(spare > 0):
            return float("nan")
        several = spare > 0
        return float(np.sqrt(np.sum(spare[several] * self.sd[several] ** 2) / np.sum(spare[several])))

    def ordered(self, order: NDArray[np.int64]) -> "Cells":
        """The same cells in another order."""
        by_cell = {name: getattr(self, name)[order] for name in ("N", "D", "C", "loss", "count", "sd")}
        return replace(self, **by_cell, row_cell=np.argsort(order)[self.row_cell])

    def resample(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array]:
        """The cells that a resample of the rows hits, and their mean loss over the rows drawn."""
        count = np.bincount(self.row_cell[rows], minlength=len(self.N))
        total = np.bincount(self.row_cell[rows], weights=self.row_loss[rows], minlength=len(self.N))
        hit = np.flatnonzero(count)
        return hit, total[hit] / count[hit]


def same_value(values: Array) -> NDArray[np.int64]:
    """A label per entry: equal where the values differ by less than a millionth, ordered as the values."""
    order = np.argsort(values, kind="stable")
    labels = np.empty(len(values), dtype=np.int64)
    labels[order] = np.concatenate([[0], np.cumsum(np.diff(np.log(values[order])) > SAME)])
    return labels


def cells(N: ArrayLike, D: ArrayLike, C: ArrayLike, loss: ArrayLike) -> Cells:
    """Group runs by (N, D); the loss of a cell is the mean over its runs, never the best of them."""
    n, d, c, y = columns(1, N=N, D=D, C=C, loss=loss)
    key = same_value(n) * len(n) + same_value(d)
    _, first, row_cell, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(first))  # cells in the order in which the rows first name them
    row_cell, order = rank[row_cell.ravel()], np.argsort(first)
    first, count = first[order], count[order].astype(np.int64)
    log_y = np.log(y)
    mean_log = np.bincount(row_cell, weights=log_y) / count
    squares = np.bincount(row_cell, weights=(log_y - mean_log[row_cell]) ** 2)
    sd = np.full(len(count), np.nan)
    sd[count > 1] = np.sqrt(squares[count > 1] / (count[count > 1] - 1))
    mean = np.bincount(row_cell, weights=y) / count
    mean[count == 1] = y[first[count == 1]]
    return Cells(n[first], d[first], np.bincount(row_cell, weights=c) / count, mean, count, sd, row_cell, y)
