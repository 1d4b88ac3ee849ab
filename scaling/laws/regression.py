"""Straight lines in log-log: one power law, y = k x^slope, by least squares, with its intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scaling.laws.cells import SAME
from scaling.laws.errors import Array, LawError, columns

BY_CONSTRUCTION = "b = 1 - a by construction: C = k N D on these points, so b is no second piece of evidence"


@dataclass(frozen=True)
class Regression:
    """log y = intercept + slope log x (natural logs).

    `covariance` is that of (slope, intercept). With two points there is no residual to learn a spread from:
    errors are infinite, not zero. `chi2` (reduced) is set where the spread of y was given.
    """

    x: str
    y: str
    slope: float
    intercept: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    r2: float
    residual_sd: float
    points: int
    weighted: bool
    chi2: float | None = None

    @property
    def slope_se(self) -> float:
        return float(np.sqrt(self.covariance[0][0]))

    @property
    def intercept_se(self) -> float:
        return float(np.sqrt(self.covariance[1][1]))

    @property
    def coefficient(self) -> float:
        """k in y = k x^slope."""
        return float(np.exp(self.intercept))

    def ci(self, level: float = 0.95) -> tuple[float, float]:
        """Interval of the slope: Student's t with points - 2 degrees of freedom, normal where `std` was given."""
        half = self._quantile(level) * self.slope_se
        return float(self.slope - half), float(self.slope + half)

    def predict(self, x: ArrayLike) -> Array:
        """y on the line at x, in the units of y."""
        return np.asarray(np.exp(self.intercept + self.slope * np.log(np.asarray(x, dtype=float))))

    def band(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """Interval of the line (not of a new point) at x, in the units of y."""
        log_x = np.log(np.asarray(x, dtype=float))
        if self.points <= 2 and not self.weighted:
            return np.zeros_like(log_x), np.full_like(log_x, np.inf)
        (ss, si), (_, ii) = self.covariance
        half = self._quantile(level) * np.sqrt(np.maximum(ss * log_x**2 + 2 * si * log_x + ii, 0))
        centre = self.intercept + self.slope * log_x
        return np.asarray(np.exp(centre - half)), np.asarray(np.exp(centre + half))

    def _quantile(self, level: float) -> float:
        from scipy.special import ndtri, stdtrit

        if not 0 < level < 1:
            raise LawError(f"level = {level}: a number between 0 and 1, as .95")
        if self.weighted:
            return float(ndtri(0.5 + level / 2))
        return float(stdtrit(max(1, self.points - 2), 0.5 + level / 2))


@dataclass(frozen=True)
class Exponents:
    """N_opt = k_N C^a and D_opt = k_D C^b through the same points; `note` says when one implies the other."""

    N: Regression
    D: Regression
    note: str

    @property
    def a(self) -> float:
        return self.N.slope

    @property
    def b(self) -> float:
        return self.D.slope


def regress(x: ArrayLike, y: ArrayLike, *, std: ArrayLike | None = None, names: str = "x y") -> Regression:
    """Power law through (x, y), both in their own units.

    Without `std`: ordinary least squares. With `std`, the standard deviation of
    log y: each point weighs 1 / std^2, and errors are those that std implies, widened by sqrt(chi2) where the
    points scatter more than that (Birge). A square `std` is the covariance of log y between points, for
    points that share runs: same weights, errors by the sandwich. Raises LawError with fewer than two distinct
    x.
    """
    x_name, y_name = names.split()
    x_array, y_array = columns(2, **{x_name: x, y_name: y})
    log_x, log_y = np.log(x_array), np.log(y_array)
    if np.ptp(log_x) < SAME:
        raise LawError(f"{x_name}: every point has the same value {x_array[0]:g}: no slope can be drawn")
    if std is None:
        return _ordinary(log_x, log_y, x_name, y_name)
    given = np.asarray(std, dtype=float)
    variance = given if given.ndim == 2 else np.diag(np.atleast_1d(given) ** 2)
    if variance.shape != (len(log_x), len(log_x)):
        raise LawError(f"std: shape {given.shape} for {len(log_x)} points of {x_name}")
    columns(2, std=np.diag(variance))
    return _weighted(log_x, log_y, variance, x_name, y_name)


def exponents(C: ArrayLike, N: ArrayLike, D: ArrayLike, *, std: ArrayLike | None = None) -> Exponents:
    """a and b of N_opt ~ C^a, D_opt ~ C^b; `std` (or covariance) is that of log N_opt, and so of log D_opt."""
    c, n, d = columns(2, C=C, N=N, D=D)
    by_construction = np.ptp(np.log(c / (n * d))) < 1e-3
    return Exponents(
        regress(c, n, std=std, names="C N"),
        regress(c, d, std=std, names="C D"),
        BY_CONSTRUCTION if by_construction else "C is not proportional to N D here: a + b need not be 1",
    )


def _ordinary(log_x: Array, log_y: Array, x_name: str, y_name: str) -> Regression:
    n, centre = len(log_x), float(log_x.mean())
    spread = float(np.sum((log_x - centre) ** 2))
    slope = float((log_x - centre) @ log_y) / spread
    intercept = float(log_y.mean()) - slope * centre
    residual = log_y - intercept - slope * log_x
    if n == 2:
        covariance, sd = ((np.inf, np.nan), (np.nan, np.inf)), float("nan")
    else:
        sd = _sd(residual)
        ss = sd**2 / spread
        covariance = ((ss, -ss * centre), (-ss * centre, sd**2 / n + ss * centre**2))
    return Regression(x_name, y_name, slope, intercept, covariance, _r2(log_y, residual), sd, n, False)


def _weighted(log_x: Array, log_y: Array, variance: Array, x_name: str, y_name: str) -> Regression:
    n, weight = len(log_x), 1 / np.diag(variance)
    centre = weight @ log_x / weight.sum()
    # Rows of `solve` turn log y into (slope, level at the weighted centre).
    solve = np.stack([weight * (log_x - centre) / (weight @ (log_x - centre) ** 2), weight / weight.sum()])
    slope, level = solve @ log_y
    residual = log_y - level - slope * (log_x - centre)
    chi2 = float(weight @ residual**2 / (n - 2)) if n > 2 else float("nan")
    shift = np.array([[1.0, 0.0], [-centre, 1.0]])  # from the level at the centre to the intercept
    error = shift @ solve @ variance @ solve.T @ shift.T * (max(1.0, chi2) if n > 2 else 1.0)
    covariance = ((float(error[0, 0]), float(error[0, 1])), (float(error[1, 0]), float(error[1, 1])))
    sd, r2 = (_sd(residual) if n > 2 else float("nan")), _r2(log_y, residual, weight)
    return Regression(x_name, y_name, float(slope), float(level - slope * centre), covariance, r2, sd, n, True, chi2)


def _sd(residual: Array) -> float:
    return float(np.sqrt(residual @ residual / (len(residual) - 2)))


def _r2(log_y: Array, residual: Array, weight: Array | None = None) -> float:
    w = np.ones_like(log_y) if weight is None else weight
    total = w @ (log_y - w @ log_y / w.sum()) ** 2
    return float(1 - w @ residual**2 / total) if total > 0 else float("nan")
