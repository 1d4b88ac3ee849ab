"""One row of the table of exponents: a method under a counting, with its interval and its verdict."""

from dataclasses import dataclass, replace

from scaling.laws import Exponents, SlopeBootstrap
from scaling.sources.table import Counting

Interval = tuple[float, float]
VAGUE = "its interval is unbounded, or too wide to say anything"
STUDENT = "Student's t of the regression"
RESAMPLED = "bootstrap over runs"


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
    def none(method: str, counting: Counting, why: str) -> "Estimate":
        """A method that has nothing to say about these runs."""
        return Estimate(method, counting, None, None, None, None, 0, False, not_identified(why))

    @staticmethod
    def line(method: str, counting: Counting, found: Exponents, identified: bool, verdict: str) -> "Estimate":
        """A pair of regression lines; two points make a line but hold no interval."""
        a_ci, b_ci, points = found.N.ci(), found.D.ci(), found.N.points
        note = found.note if found.note.startswith("b = 1 - a") else ""
        row = Estimate(method, counting, found.a, found.b, a_ci, b_ci, points, identified, verdict, STUDENT, note)
        return row.unless_vague()

    def resampled(self, slopes: SlopeBootstrap) -> "Estimate":
        """The same with the interval of a from resampled runs; that of b only where it is 1 - a."""
        low, high = slopes.ci()
        b_ci = (1 - high, 1 - low) if self.note else self.b_ci
        return replace(self, a_ci=(low, high), b_ci=b_ci, interval=RESAMPLED).unless_vague()

    def unless_vague(self) -> "Estimate":
        """An exponent known no better than to the whole of [0, 1] is not identified, whatever its method says."""
        if not self.identified or self.a_ci is None or self.a_ci[1] - self.a_ci[0] < 1:
            return self
        return replace(self, identified=False, verdict=not_identified(VAGUE))


def not_identified(why: str) -> str:
    return why if why.startswith("not identified") else f"not identified: {why}"
