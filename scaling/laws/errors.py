"""The one exception of `scaling.laws`, and the check every public function makes of its columns."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class LawError(ValueError):
    """Input that no estimator here can use: one line that names the column, the value and what is allowed."""


def columns(minimum: int = 1, **named: ArrayLike) -> tuple[Array, ...]:
    """Named columns as 1-D float arrays of one length: finite, above zero, at least `minimum` rows.

    Raises LawError for a NaN, an infinity, a value <= 0, unequal lengths or too few rows.
    """
    arrays = []
    for name, column in named.items():
        try:
            array = np.atleast_1d(np.asarray(column, dtype=float))
        except (TypeError, ValueError) as error:
            raise LawError(f"{name}: not a column of numbers ({error})") from None
        if array.ndim != 1:
            raise LawError(f"{name}: a column of one dimension is needed, got shape {array.shape}")
        wrong = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if wrong.size:
            raise LawError(
                f"{name}[{wrong[0]}] = {array[wrong[0]]:g}: every {name} must be finite and above zero "
                f"({wrong.size} of {array.size} are not)"
            )
        arrays.append(array)
    lengths = {name: len(array) for name, array in zip(named, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise LawError("columns differ in length: " + ", ".join(f"{k} has {v}" for k, v in lengths.items()))
    if arrays and len(arrays[0]) < minimum:
        raise LawError(f"{len(arrays[0])} rows of ({', '.join(named)}): at least {minimum} are needed")
    return tuple(arrays)
