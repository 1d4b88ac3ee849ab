"""Approach 1: the lower envelope of training curves, stable rows only."""

import dataclasses
import json

import numpy as np
import pytest

from scaling.laws import Curve, LawError, envelope
from scaling.laws.grid_bias import EPOCH

TRUE_A = EPOCH["beta"] / (EPOCH["alpha"] + EPOCH["beta"])


def curve(N: float, *, decayed_from: float = np.inf, gain: float = 0.0, rows: int = 40) -> Curve:
    """A run of N parameters over 1e8 .. 1e11 tokens; past `decayed_from` its loss is lower by `gain`."""
    D = np.logspace(8, 11, rows)
    loss = EPOCH["E"] + EPOCH["A"] / N ** EPOCH["alpha"] + EPOCH["B"] / D ** EPOCH["beta"]
    decaying = decayed_from <= D
    return Curve(N, D, 6 * N * D, loss * np.where(decaying, 1 - gain, 1), ~decaying)


def test_the_envelope_is_the_best_curve_at_every_budget() -> None:
    sizes = np.logspace(7, 9.5, 11)
    found = envelope([curve(n) for n in sizes])
    for C, N, D, loss, at in zip(found.C, found.N, found.D, found.loss, found.curve, strict=True):
        tokens = C / (6 * sizes)
        there = EPOCH["E"] + EPOCH["A"] / sizes ** EPOCH["alpha"] + EPOCH["B"] / tokens ** EPOCH["beta"]
        there[(tokens < 1e8 * 0.999) | (tokens > 1e11 * 1.001)] = np.inf
        assert loss == pytest.approx(there.min(), rel=1e-3)
        assert sizes[at] == N and np.isclose(C / (6 * N), D, rtol=1e-6)


def test_it_gives_the_exponent_where_sizes_reach_to_both_sides() -> None:
    found = envelope([curve(n) for n in np.logspace(7, 9.5, 11)])
    result = found.regress()
    assert result.identified and result.interior is not None
    assert result.interior.a == pytest.approx(TRUE_A, abs=0.03)
    drawn = found.bootstrap(300)
    assert drawn.ci()[0] < TRUE_A < drawn.ci()[1]
    # Hundreds of points from eleven runs: the bootstrap over runs is wider than a line through points says.
    assert drawn.se > 2 * result.interior.N.slope_se
    closer = envelope([curve(n) for n in np.logspace(7, 9.5, 41)]).regress()
    assert closer.interior is not None and closer.interior.a == pytest.approx(TRUE_A, abs=0.008)


def test_decayed_rows_are_not_used() -> None:
    sizes = np.logspace(7, 9.5, 11)
    found = envelope([curve(n, decayed_from=6e10, gain=0.05) for n in sizes])
    assert found.D.max() < 6e10
    undecayed = EPOCH["E"] + EPOCH["A"] / found.N ** EPOCH["alpha"] + EPOCH["B"] / found.D ** EPOCH["beta"]
    assert np.allclose(found.loss, undecayed, rtol=1e-3)  # nothing of the 5 % that decaying brings


def test_a_single_interior_size_has_no_slope() -> None:
    result = envelope([curve(n) for n in (1e7, 1e8, 1e9)]).regress()
    assert result.interior is None and result.verdict.startswith("not identified")


def test_result_becomes_json() -> None:
    found = envelope([curve(n) for n in (1e7, 1e8, 1e9)], per_decade=5)
    assert json.dumps(dataclasses.asdict(found), default=np.ndarray.tolist)


def test_bad_curves_are_named() -> None:
    good = curve(1e7)
    with pytest.raises(LawError, match=r"curves\[1\].loss\[0\] = -1"):
        envelope([good, Curve(1e8, [1e8], [1e16], [-1.0], [True])])
    with pytest.raises(LawError, match=r"curves\[1\]: stable has 3 rows, C has 40"):
        envelope([good, dataclasses.replace(good, stable=[True] * 3)])
    with pytest.raises(LawError, match="0 of 2 curves have two stable rows"):
        envelope([dataclasses.replace(good, stable=np.zeros(40, bool))] * 2)
