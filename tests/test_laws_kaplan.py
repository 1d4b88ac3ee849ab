"""Kaplan's tables from a sweep, and the critical batch size behind C_min."""

import dataclasses
import json

import numpy as np
import pytest

from scaling.laws import LawError, critical_batch, kaplan, trade_off
from scaling.laws.critical_batch import KAPLAN

TRUTH = {"Nc": 8.8e13, "Dc": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095}  # Kaplan et al. 2020, eqs. 1.1, 1.2


def sweep(low: float = 5, high: float = 9) -> tuple[np.ndarray, ...]:
    N, D = (v.ravel() for v in np.meshgrid(np.logspace(low, high, 9), np.logspace(7, 12, 11), indexing="ij"))
    gamma = TRUTH["alpha_N"] / TRUTH["alpha_D"]
    return N, D, 6 * N * D, ((TRUTH["Nc"] / N) ** gamma + TRUTH["Dc"] / D) ** TRUTH["alpha_D"]


def test_the_joint_law_is_returned_as_it_went_in() -> None:
    joint = kaplan(*sweep()).joint
    for name, value in TRUTH.items():
        assert joint[name] == pytest.approx(value, rel=1e-4)


def test_single_laws_where_the_other_variable_is_ample() -> None:
    small = kaplan(*sweep(3, 6))  # models so small that 1e12 tokens are without limit
    assert small.L_N.exponent == pytest.approx(TRUTH["alpha_N"], rel=2e-3)
    assert small.L_N.scale == pytest.approx(TRUTH["Nc"], rel=0.1)
    low, high = small.L_N.ci()
    assert low < small.L_N.exponent < high
    large = kaplan(*sweep(12, 14))
    assert large.L_D.exponent == pytest.approx(TRUTH["alpha_D"], rel=0.1)
    # and says so where it is not: that is the paper's L(D) read on models that are too small
    assert abs(small.L_D.exponent - TRUTH["alpha_D"]) > 0.03
    (note,) = [n for n in small.notes if n.startswith("L(D)")]
    assert float(note.split("fell ")[1].split("%")[0]) > 2


def test_frontier_exponents_and_units() -> None:
    found = kaplan(*sweep(6, 10.5))
    alpha_N, alpha_D = TRUTH["alpha_N"], TRUTH["alpha_D"]  # both terms of eq. 1.5 fall alike at the best N
    assert found.L_C.exponent == pytest.approx(alpha_N * alpha_D / (alpha_N + alpha_D), rel=0.05)
    assert found.allocation.a == pytest.approx(alpha_D / (alpha_N + alpha_D), abs=0.05)
    rows = {(r["quantity"], r["unit"]): r["value"] for r in found.rows()}
    assert rows["C_c of L(C)", "FLOPs"] == pytest.approx(rows["C_c of L(C)", "PF-days"] * 8.64e19)
    assert {q for q, _ in rows} >= {"alpha_N of L(N)", "alpha_D of L(D)", "alpha_C of L(C)", "Nc of L(N, D)"}
    assert {q for q, _ in rows} >= {"a of N_opt(C)", "b of D_opt(C)"}


def test_C_min_is_C_far_below_the_critical_batch() -> None:
    runs = sweep()
    plain, tiny = kaplan(*runs), kaplan(*runs, batch=1.0, critical=KAPLAN)
    assert tiny.allocation_min is not None and tiny.L_C_min is not None
    assert tiny.allocation_min.a == pytest.approx(plain.allocation.a, abs=1e-6)
    # at half a million tokens a step the dear runs were nearest to critical, so C_min moves the exponents
    large = kaplan(*runs, batch=5e5, critical=KAPLAN)
    assert large.allocation_min is not None
    assert large.allocation_min.a != pytest.approx(plain.allocation.a, abs=5e-3)
    assert any(r["quantity"] == "a of N_opt(C_min)" for r in large.rows())
    with pytest.raises(LawError, match="needs both"):
        kaplan(*runs, batch=5e5)


def hyperbola(batch: np.ndarray, loss: np.ndarray, B_star: float, alpha_B: float) -> list[np.ndarray]:
    """Steps to every loss for each batch size: S = S_min (1 + B_crit / B)."""
    S_min = 200 * (loss - 1.5) ** -2.0
    return [S_min * (1 + B_star * loss ** (-1 / alpha_B) / b) for b in batch]


def test_trade_off_finds_the_corner() -> None:
    batch = np.array([1e3, 4e3, 16e3, 64e3])
    found = trade_off(batch, 500 * (1 + 8e3 / batch), 3.0)
    assert (found.S_min, found.E_min, found.B_crit) == pytest.approx((500, 4e6, 8e3))
    S = 500 * (1 + 8e3 / batch)
    assert np.allclose((S / found.S_min - 1) * (batch * S / found.E_min - 1), 1)


def test_interval_of_the_corner_covers_and_opens_where_it_must() -> None:
    rng, batch, hits = np.random.default_rng(0), np.array([2e3, 4e3, 8e3, 16e3, 32e3]), []
    for _ in range(300):
        S = 500 * (1 + 8e3 / batch) * np.exp(0.02 * rng.standard_normal(5))
        low, high = trade_off(batch, S, 3.0).ci
        hits.append(low <= 8e3 <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.03)
    assert trade_off(batch[:2], 500 * (1 + 8e3 / batch[:2]), 3.0).ci == (0, np.inf)


def test_critical_batch_law_from_curves() -> None:
    batch, loss = np.array([2e3, 8e3, 32e3, 128e3]), np.linspace(5, 2.2, 60)
    found = critical_batch(batch, hyperbola(batch, loss, 2e5, 0.25), [loss] * 4)
    assert found.B_star == pytest.approx(2e5, rel=0.01)
    assert found.alpha_B == pytest.approx(0.25, rel=0.01)
    assert found.at(3.0) == pytest.approx(2e5 * 3**-4.0, rel=0.01)
    B = 1e4
    assert found.min_compute([1.0], B, [3.0]) == pytest.approx(1 / (1 + B / found.at(3.0)))
    assert found.min_steps([1.0], B, [3.0]) == pytest.approx(1 / (1 + found.at(3.0) / B))


def test_runs_on_one_side_of_the_corner_are_refused() -> None:
    batch = np.array([1e3, 2e3, 4e3])
    with pytest.raises(LawError, match="never saved steps"):
        trade_off(batch, [100.0, 105, 110], 3.0)
    with pytest.raises(LawError, match="never cost tokens"):
        trade_off(batch, 1e6 / batch**1.1, 3.0)
    with pytest.raises(LawError, match="two batch sizes"):
        trade_off([1e3, 1e3], [100.0, 105], 3.0)
    with pytest.raises(LawError, match="do not overlap"):
        critical_batch([1e3, 2e3], [[1.0, 2], [1.0, 2]], [[5.0, 4], [3.0, 2]])


def test_results_become_json() -> None:
    batch, loss = np.array([2e3, 8e3, 32e3, 128e3]), np.linspace(5, 2.2, 60)
    for result in (kaplan(*sweep()), critical_batch(batch, hyperbola(batch, loss, 2e5, 0.25), [loss] * 4)):
        assert json.dumps(dataclasses.asdict(result), default=np.ndarray.tolist)
