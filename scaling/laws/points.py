"""The points of one fit: checked, and put in an order of their own so that the order of rows changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.laws.errors import Array, LawError, columns
from scaling.laws.forms import Law, Surface


@dataclass
class Points:
    """Columns (n,) sorted by (N, D, U, loss), the way back to the caller's order, and what is known of the design.

    groups: independent units as 0..units-1. structural: why no grid like this identifies the law, or "".
    smooth: share of residuals in the quadratic part of the objective, set by the fit.
    """

    N: Array
    D: Array
    U: Array | None
    log_loss: Array
    weights: Array
    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    fixed: dict[str, float]
    free_names: tuple[str, ...]
    structural: str
    warnings: tuple[str, ...]
    smooth: float = 1.0

    @property
    def units(self) -> int:
        return int(self.groups.max()) + 1


def read_points(
    law: Law,
    N: ArrayLike,
    D: ArrayLike | None,
    loss: ArrayLike,
    U: ArrayLike | None,
    weights: ArrayLike | None,
    groups: ArrayLike | None,
    tie: bool,
    fix: Mapping[str, float],
) -> Points:
    """Check the arguments of `fit_law`; LawError names the first that is wrong."""
    named: dict[str, ArrayLike] = {"N": N, "loss": loss}
    if law.uses_D:
        if D is None:
            raise LawError(f"D: the {law.name} law needs tokens")
        named["D"] = D
    if U is not None:
        named["U"] = U
    elif law.uses_U:
        raise LawError(f"U: the {law.name} law needs the number of unique tokens of every run")
    if weights is not None:
        named["weights"] = weights
    read = dict(zip(named, columns(1, **named), strict=True))
    n, d = read["N"], read.get("D", np.ones_like(read["N"]))
    u, w = read.get("U"), read.get("weights", np.ones_like(n))
    fixed, free = _free(law, tie, fix)
    if len(n) < len(free):
        raise LawError(
            f"{len(n)} points for {len(free)} free parameters ({', '.join(free)}): at least as many are needed"
        )
    labels = None if groups is None else np.asarray(groups).ravel()
    if labels is not None and len(labels) != len(n):
        raise LawError(f"groups: {len(labels)} labels for {len(n)} points")

    order = np.lexsort((w, read["loss"], np.ones_like(n) if u is None else u, d, n))
    n, d, y, w = n[order], d[order], read["loss"][order], w[order]
    u = None if u is None else u[order]
    cell = np.unique(np.stack([n, d, d if u is None else u]), axis=1, return_inverse=True)[1].ravel()
    # labels are numbered as the sorted points meet them, so that their names do not matter either
    unit = cell if labels is None else np.unique(labels[order], return_inverse=True)[1].ravel()
    first = np.unique(unit, return_index=True)[1]
    unit = np.argsort(np.argsort(first))[unit]
    structural, warnings = _design(law, n, d, u, len(free), int(cell.max()) + 1, fixed, tie)
    names = tuple(k for k in law.params if k in free)
    if law.uses_D and law.name != "over_training" and not tie and not set(fixed) & set(_allocating(law)):
        names = (*names, "a")
    return Points(n, d, u, np.log(y), w, unit, np.argsort(order), fixed, names, structural, warnings)


def _allocating(law: Law) -> tuple[str, ...]:
    return ("alpha_N", "alpha_D") if law.name == "kaplan" else ("alpha", "beta")


def _free(law: Law, tie: bool, fix: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Fixed coordinates of theta, and the names of the free ones."""
    unknown = sorted(set(fix) - set(law.params))
    if unknown:
        raise LawError(f"fix: {unknown[0]!r} is no parameter of the {law.name} law ({', '.join(law.params)})")
    if law.name == "kaplan" and set(fix) & {"Nc", "alpha_N"}:
        raise LawError("fix: of the kaplan law only Dc and alpha_D can be held")
    fixed = {}
    for name, value in fix.items():
        if not (np.isfinite(value) and (value > 0 or (name == "E" and value == 0))):
            raise LawError(f"fix: {name} = {value} must be finite and above zero")
        fixed[name] = max(float(np.log(value)), -700.0) if name in law.logs and value > 0 else float(value)
        if name == "E" and value == 0:
            fixed[name] = -700.0
    free = [k for k in law.params if k not in fixed]
    if tie:
        if not law.tied:
            raise LawError(f"tie: the {law.name} law has no pair of exponents to tie")
        if set(law.tied) & set(fixed) and set(law.tied) - set(fixed):
            raise LawError(f"tie: {law.tied[0]} and {law.tied[1]} are tied; hold both or neither")
        free = [k for k in free if k != law.tied[1]]
    if not free:
        raise LawError("fix: every parameter is held, nothing is left to fit")
    return fixed, free


def _design(
    law: Law, n: Array, d: Array, u: Array | None, free: int, cells: int, fixed: Mapping[str, float], tie: bool
) -> tuple[str, tuple[str, ...]]:
    """What no amount of precision can mend in this design, and warnings."""
    notes, structural = [], ""
    if u is not None and not law.uses_U and np.any(d > u * (1 + 1e-9)):
        share = float(np.mean(d > u * (1 + 1e-9)))
        notes.append(f"{share:.0%} of runs repeat data (D > U), which the {law.name} law ignores; use data_constrained")
    if not fixed and not tie:
        for name, column in (("size", n), ("token count", d)) if law.uses_D else (("size", n),):
            values = len(np.unique(column))
            if values < 3:
                structural = f"only {values} different {name}{'s' if values > 1 else ''}"
    if cells < free:
        structural = f"only {cells} different (N, D) for {free} free parameters"
    if law.uses_D and not structural and not fixed and len(n) > 2:
        x, y = np.log(n), np.log(d)
        if abs(float(np.corrcoef(x, y)[0, 1])) > 1 - 1e-9:
            structural = "N and D lie on one line: their effects cannot be told apart"
    if structural:
        notes.append(f"{structural}: the law is not identified by this design")
    return structural, tuple(notes)


def directions(surface: Surface, fixed: Mapping[str, float], tie: bool) -> Array:
    """T (p, q): free directions of theta, orthonormal in the surface's metric; tied exponents move together."""
    law = surface.law
    basis = np.eye(len(law.params))
    free = [i for i, name in enumerate(law.params) if name not in fixed]
    if tie and law.tied and law.tied[0] not in fixed:
        first, second = (law.index(k) for k in law.tied)
        basis[:, first] += basis[:, second]
        free.remove(second)
    basis = basis[:, free]
    lam, V = np.linalg.eigh(basis.T @ surface.metric() @ basis)
    # a design of one size gives no length to some direction; the floor keeps steps along it finite
    return basis @ V / np.sqrt(np.maximum(lam, 1e-10 * lam[-1]))
