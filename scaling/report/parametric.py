"""Approach 3: parametric laws under several objectives and counts of N, what they say about a and E, and how well
they predict runs they have not seen."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.laws import GridBias, HoldOut, Kaplan, LawError, LawFit, fit_law, grid_bias, hold_out, kaplan
from scaling.report.estimate import RESAMPLED, VAGUE, Estimate, Interval, not_identified
from scaling.report.methods import columns
from scaling.sources.select import Selection
from scaling.sources.table import Counting

OBJECTIVES = ("huber", "lad", "mse", "mse_log")
FILLED = 0.6  # of the sizes x budgets that a study spans: fewer runs make no grid
MISFIT = 1.5  # times the scatter about the best law: then the law, not the noise, is what is seen
EXACT = 1e-4  # scatter of log loss below which a law describes the runs, whatever another does
ROUNDING = 1e-9  # scatter below this is that of a noise-free table
PROFILE = "profile likelihood"


@dataclass(frozen=True)
class Fit:
    """One law, one objective, one count of N. `found` is None, and `why` set, where it cannot be fitted."""

    counting: Counting
    law: str
    objective: str
    found: LawFit | None
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.law}, {self.objective}"

    @cached_property
    def ci(self) -> dict[str, Interval]:
        """95 % intervals of the parameters and of a and b, from the bootstrap or else the profile; may be empty."""
        try:
            found = self.found.ci() if self.found is not None else {}
        except LawError:  # a law without profiles
            return {}
        nothing = (float("-inf"), float("inf"))
        return {name: (low, high) if low < float("inf") else nothing for name, (low, high) in found.items()}

    @cached_property
    def residual_sd(self) -> float:
        """Sd of log loss about the law, by the median so that outliers do not hide it; inf where there is no fit."""
        if self.found is None or len(self.found.fitted) <= self.found.free:
            return float("inf")
        points = self.found.points
        off = np.abs(points.log_loss - np.log(self.found.predict(points.N, points.D, points.U)))
        return 1.4826 * float(np.median(off)) * (len(off) / (len(off) - self.found.free)) ** 0.5


@dataclass(frozen=True)
class Noise:
    """Sd of log loss of one run, and where it comes from."""

    sd: float
    source: str


def plans(selection: Selection) -> list[tuple[Counting, str, str]]:
    """Count of N, law and objective of every fit: Chinchilla's law under every objective for the primary count of N,
    under huber for the others; Kaplan's for all; with repetition that of Muennighoff et al. The first is the one that
    figures and answers use."""
    counts = _counts_of_n(selection)
    found = [(counts[0], "chinchilla", objective) for objective in OBJECTIVES]
    if repeated(selection):
        found.insert(0, (counts[0], "data_constrained", "huber"))
    found += [(counting, "chinchilla", "huber") for counting in counts[1:]]
    found += [(counting, "kaplan", "mse_log") for counting in counts]
    return found


def repeated(selection: Selection) -> bool:
    """Whether some runs are known to have seen tokens more than once."""
    runs = selection.used
    return bool((runs["tokens"] > 1.001 * runs["tokens_unique"].astype(float)).any())


def _counts_of_n(selection: Selection) -> list[Counting]:
    """A law is about N and D alone: one for each count of N, its exponents those of C = k N D."""
    label = {c.n: c.n_label for c in selection.table.countings}
    return [Counting(n, name, "kND", n, None) for n, name in label.items()]


def fit(selection: Selection, counting: Counting, law: str, objective: str, draws: int, seed: int) -> Fit:
    """One of them, with what tells whether it is identified."""
    N, D, _, loss = columns(selection, counting)
    U = selection.used["tokens_unique"].astype(float).fillna(D) if repeated(selection) else None
    try:
        found = fit_law(N, D, loss, law=law, objective=objective, U=U, bootstrap=draws, seed=seed)
    except LawError as error:
        return Fit(counting, law, objective, None, str(error))
    _ = found.identified  # kept with the fit, wherever that is made
    return Fit(counting, law, objective, found)


def as_estimate(fit: Fit, others: tuple[Fit, ...]) -> Estimate:
    """a and b of a fitted law as a row of the table; a law that misses the runs where another does not is no answer."""
    if fit.found is None:
        return Estimate.none(fit.name, fit.counting, fit.why)
    a, b = fit.found.exponents()
    known = fit.found.identified["a"]
    same_n = [f for f in others if f.counting == fit.counting]
    best = min(same_n, key=lambda f: f.residual_sd)
    own = min(f.residual_sd for f in same_n if f.law == fit.law)
    misses = own > max(MISFIT * best.residual_sd, EXACT)
    sure = known and fit.found.certificate.certified and not misses
    reasons = [*fit.found.warnings]
    if misses:
        reasons.append(f"misses the runs by {own:.2%}, {best.name} by {best.residual_sd:.2%}")
    elif not known:
        reasons.append(VAGUE)
    verdict = f"certified: {fit.found.certificate.agree:.0%} of {fit.found.certificate.starts} starts agree"
    if sure and fit.found.warnings:
        verdict += "; " + "; ".join(fit.found.warnings)
    where = RESAMPLED if fit.found.draws is not None else PROFILE
    points = len(fit.found.points.N)
    note = "b = 1 - a by construction in every parametric law"
    verdict = verdict if sure else not_identified("; ".join(reasons))
    if not 0 <= a <= 1:
        return Estimate.none(fit.name, fit.counting, verdict)
    return Estimate(fit.name, fit.counting, a, b, fit.ci.get("a"), fit.ci.get("b"), points, sure, verdict, where, note)


def noise_of(selection: Selection, fits: tuple[Fit, ...]) -> Noise | None:
    """From several seeds of one (N, D) where there are any, else the scatter about the first law that fits."""
    N, D, _, loss = columns(selection, selection.primary)
    cell = np.log(loss).groupby([N, D])
    several = cell.transform("size") > 1
    if several.any():
        spare = float(several.sum() - cell.ngroups + (cell.size() == 1).sum())
        centred = (np.log(loss) - cell.transform("mean"))[several]
        return Noise(float(np.sqrt((centred**2).sum() / spare)), "seeds of one (N, D)")
    for fit in fits:
        if np.isfinite(fit.residual_sd):
            sd = fit.residual_sd if fit.residual_sd > ROUNDING else 0.0
            return Noise(sd, f"scatter about the fit of {fit.name}")
    return None


def bias_of_grid(selection: Selection, noise: Noise | None) -> tuple[GridBias | None, str]:
    """Which slope this very grid of sizes and tokens returns for other true exponents; or why it cannot be asked."""
    counting = selection.primary
    N, D, C, _ = columns(selection, counting)
    sizes, tokens = np.unique(N), np.unique(D)
    filled = len({*zip(N, D, strict=True)}) / (len(sizes) * len(tokens))
    if filled < FILLED:
        return None, f"the runs are no grid: {filled:.0%} of {len(sizes)} sizes x {len(tokens)} token counts are there"
    per_token = (C / D).groupby(N).median().to_numpy()
    levels = (0.0, noise.sd) if noise is not None and noise.sd > 0 else (0.0,)
    try:
        return grid_bias(sizes, tokens, flops_per_token=per_token, noise=levels), ""
    except LawError as error:
        return None, str(error)


def held_out(selection: Selection, draws: int, seed: int) -> tuple[tuple[HoldOut, ...], str]:
    """Chinchilla's law fitted to the cheap runs, tried on the dear ones; or why it cannot be."""
    try:
        return tuple(hold_out(*columns(selection, selection.primary), bootstrap=draws, seed=seed)), ""
    except LawError as error:
        return (), str(error)


def kaplan_set(selection: Selection) -> tuple[Kaplan | None, Counting, str]:
    """All that Kaplan et al. 2020 print, under their own counting (non-embedding N, C = 6ND) where it is known."""
    theirs = [c for c in selection.table.countings if c.c is None]
    counting = (theirs or list(selection.table.countings))[-1]
    try:
        return kaplan(*columns(selection, counting)), counting, ""
    except LawError as error:
        return None, counting, str(error)
