"""One row of the table of exponents: a method under a counting, with its interval and its verdict."""

from dataclasses import dataclass

from scaling.sources.table import Counting

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """N_opt ~ C^a, D_opt ~ C^b. `a` and `b` are None where the method gives no slope; `verdict` says why.

    `interval` names where the 95 % intervals come from (infinite bounds: the data do not hold the slope at all).
    An estimate that is not `identified` is a number about the grid or the noise, never an answer.
    """

    method: str
    counting: Counting
    a: float | None
    b: float | None
    a_ci: Interval | None
    b_ci: Interval | None
    points: int
    identified: bool
    verdict: str
    interval: str = ""
    note: str = ""

    @staticmethod
    def none(method: str, counting: Counting, why: str, points: int = 0) -> "Estimate":
        """A method that has nothing to say about these runs."""
        verdict = why if why.startswith("not identified") else f"not identified: {why}"
        return Estimate(method, counting, None, None, None, None, points, False, verdict)
