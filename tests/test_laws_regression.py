"""Power laws by least squares: published slopes, and errors that mean what they say."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import expected, table
from scipy.stats import linregress

from scaling.laws import LawError, exponents, regress


def test_a_power_law_is_returned_as_it_went_in() -> None:
    x = np.logspace(3, 9, 5)
    line = regress(x, 7 * x**0.6)
    assert line.slope == pytest.approx(0.6, abs=1e-12)
    assert line.coefficient == pytest.approx(7, rel=1e-10)
    assert line.predict(1e12) == pytest.approx(7 * 1e12**0.6)


def test_intervals_cover_at_their_level() -> None:
    rng, x, hits, weighted_hits = np.random.default_rng(0), np.logspace(0, 3, 8), [], []
    std = np.linspace(0.05, 0.5, 8)
    for _ in range(1500):
        low, high = regress(x, x**0.5 * np.exp(0.1 * rng.standard_normal(8))).ci(0.9)
        hits.append(low <= 0.5 <= high)
        low, high = regress(x, x**0.5 * np.exp(std * rng.standard_normal(8)), std=std).ci(0.9)
        weighted_hits.append(low <= 0.5 <= high)
    assert np.mean(hits) == pytest.approx(0.9, abs=0.025)
    assert 0.9 < np.mean(weighted_hits) < 0.99  # widened only: never below its level


def test_errors_are_those_of_linregress() -> None:
    x, y = np.logspace(0, 3, 7), np.array([1.0, 1.5, 2.9, 4, 9, 11, 30])
    line, theirs = regress(x, y), linregress(np.log(x), np.log(y))
    assert (line.slope, line.intercept) == pytest.approx((theirs.slope, theirs.intercept))
    assert (line.slope_se, line.intercept_se) == pytest.approx((theirs.stderr, theirs.intercept_stderr))
    assert line.r2 == pytest.approx(theirs.rvalue**2)


def test_weights_go_the_right_way() -> None:
    x, y = np.array([1.0, 10, 100, 1000]), np.array([1.0, 10, 100, 1e6])
    assert regress(x, y, std=[0.01, 0.01, 0.01, 100]).slope == pytest.approx(1, abs=1e-3)
    assert regress(x, y, std=[0.3] * 4).slope == pytest.approx(regress(x, y).slope)


def test_given_errors_are_used_and_correlation_widens_a_shared_trend() -> None:
    x, std = np.logspace(0, 2, 5), np.full(5, 0.1)
    line = regress(x, x**0.5, std=std)
    assert line.slope_se == pytest.approx(0.1 / np.sqrt(np.sum((np.log(x) - np.log(x).mean()) ** 2)))
    same = regress(x, x**0.5, std=np.diag(std**2))
    assert same.slope_se == pytest.approx(line.slope_se)
    tilt = np.log(x) - np.log(x).mean()  # an error common to all points that leans on the slope
    assert regress(x, x**0.5, std=np.diag(std**2) + 0.01 * np.outer(tilt, tilt)).slope_se > 1.3 * line.slope_se
    level = regress(x, x**0.5, std=np.diag(std**2) + 1.0)  # one that shifts them all does not
    assert level.slope_se == pytest.approx(line.slope_se)


def test_two_points_have_no_finite_error() -> None:
    line = regress([1.0, 10], [1.0, 5])
    assert line.ci() == (-np.inf, np.inf)
    low, high = line.band(3.0)
    assert low == 0 and high == np.inf
    low, high = regress([1.0, 10], [1.0, 5], std=[0.1, 0.1]).ci()  # unless the errors of the points are known
    assert high - low == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(2) / np.log(10), rel=1e-3)


def test_band_holds_the_line_and_is_narrowest_amid_the_points() -> None:
    x = np.logspace(0, 4, 9)
    line = regress(x, x**0.7 * np.exp(0.05 * np.random.default_rng(1).standard_normal(9)))
    low, high = line.band(np.array([100.0, 1e8]))
    assert np.all((low < line.predict([100.0, 1e8])) & (line.predict([100.0, 1e8]) < high))
    assert high[0] / low[0] < high[1] / low[1]


def test_says_when_b_follows_from_a() -> None:
    C = np.logspace(15, 19, 6)
    N = 0.1 * C**0.5 * np.array([1, 1.1, 0.9, 1, 1.2, 0.8])
    both = exponents(C, N, C / (6 * N))
    assert both.b == pytest.approx(1 - both.a, abs=1e-12)
    assert "by construction" in both.note
    assert "by construction" not in exponents(C, N, C / (6 * N) * np.linspace(1, 2, 6)).note


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([1, 2, np.nan], [1, 2, 3], "x[2] = nan"),
        ([1, 2, 3], [1, -2, 3], "y[1] = -2"),
        ([1, 2, 3], [1, 0, 3], "y[1] = 0"),
        ([1, 2, 3], [1, 2], "x has 3, y has 2"),
        ([5], [1], "at least 2"),
        ([5, 5, 5], [1, 2, 3], "same value"),
    ],
)
def test_bad_columns_are_named(x: list[float], y: list[float], says: str) -> None:
    with pytest.raises(LawError) as error:
        regress(x, y)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_results_become_json() -> None:
    result = exponents([1e3, 1e4, 1e5], [1.0, 2, 5], [10.0, 20, 30])
    assert json.loads(json.dumps(dataclasses.asdict(result)))["N"]["points"] == 3


@settings(max_examples=50, deadline=None)
@given(
    y=st.lists(st.floats(0.1, 10), min_size=4, max_size=9),
    scale_x=st.floats(1e-6, 1e9),
    scale_y=st.floats(1e-6, 1e9),
    order=st.randoms(use_true_random=False),
)
def test_units_shift_only_the_intercept(y: list[float], scale_x: float, scale_y: float, order: object) -> None:
    x = np.logspace(0, 3, len(y))
    line, rows = regress(x, y), list(range(len(y)))
    order.shuffle(rows)  # type: ignore[attr-defined]
    moved = regress(scale_x * x[rows], scale_y * np.array(y)[rows])
    assert moved.slope == pytest.approx(line.slope, abs=1e-9)
    assert moved.slope_se == pytest.approx(line.slope_se, abs=1e-9)
    assert moved.intercept == pytest.approx(line.intercept + np.log(scale_y) - line.slope * np.log(scale_x), abs=1e-6)


def test_porian_weighted_slopes() -> None:
    """Porian et al. 2024: log n* on log C with w = 1/std^2, five set-ups of RefinedWeb."""
    optima, published = table("porian/porian_optima.csv"), table("porian/porian_published_table.csv")
    keys = ("hparams", "warmup", "decay", "param_count", "val")
    for i, a in enumerate(published["a_published"]):
        rows = np.logical_and.reduce([optima[k] == published[k][i] for k in keys])
        rows &= np.isfinite(optima["n_star_std"])
        line = regress(optima["flops"][rows], optima["n_star_bootmedian"][rows], std=optima["n_star_std"][rows])
        assert line.slope == pytest.approx(a, abs=expected("porian_regression")["tol"])


def test_nanochat_slopes_under_three_counts_of_N() -> None:
    runs, case = table("nanochat/isoflop_optima.csv"), expected("nanochat")
    for count, (a, b) in case["expect"].items():
        rows = runs["param_convention"] == count
        got = exponents(runs["C"][rows], runs["N_opt"][rows], runs["D_opt"][rows])
        assert (got.a, got.b) == pytest.approx((a, b), abs=case["tol"])


def test_chinchilla_table_a3() -> None:
    projections, case = table("chinchilla_tables/table_A3_projections.csv"), expected("chinchilla_tables")
    want, tol = case["expect"], case["tol"]
    for approach in (1, 2):
        rows = projections["approach"] == approach
        N, D = projections["N"][rows], projections["D"][rows]
        got = exponents(6 * N * D, N, D)
        assert (got.a, got.b) == pytest.approx(tuple(want[f"A{approach} a,b"]), abs=tol)
    line = regress(N, D)
    assert line.slope == pytest.approx(want["A2 logD~logN slope"], abs=tol)
    assert line.intercept / np.log(10) == pytest.approx(want["A2 intercept(log10)"], abs=tol)
