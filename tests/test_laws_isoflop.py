"""Approach 2: optima of isoFLOP slices, their errors, and slices out of a rectangular grid."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import table

from scaling.laws import LawError, frontier, isoflop, isoflop_from_grid
from scaling.laws.grid_bias import EPOCH, surface

TRUE_A = EPOCH["beta"] / (EPOCH["alpha"] + EPOCH["beta"])
BUDGETS = np.logspace(18, 21, 7)


def best_size(C: np.ndarray) -> np.ndarray:
    """Closed form, Hoffmann et al. 2022, eq. 4."""
    alpha, beta = EPOCH["alpha"], EPOCH["beta"]
    G = (alpha * EPOCH["A"] / (beta * EPOCH["B"])) ** (1 / (alpha + beta))
    return np.asarray(G * (C / 6) ** TRUE_A)


def slices(
    C: np.ndarray = BUDGETS, wide: float = 2.0, shift: float = 0.0, sizes: int = 9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, C, loss): log-spaced sizes about exp(shift) times each budget's best, `wide` decades of them."""
    N = best_size(C)[:, None] * np.exp(shift) * np.logspace(-wide / 2, wide / 2, sizes)
    D = C[:, None] / (6 * N)
    loss = EPOCH["E"] + EPOCH["A"] / N ** EPOCH["alpha"] + EPOCH["B"] / D ** EPOCH["beta"]
    return N.ravel(), np.repeat(C, sizes), loss.ravel()


@pytest.mark.parametrize("method", ["local", "akima"])
@pytest.mark.parametrize("shift", [0.0, 0.7, -0.7])
def test_optima_are_those_of_the_closed_form(method: str, shift: float) -> None:
    N, C, loss = slices(shift=shift)
    found = isoflop(N, C, loss, method, noise=0)
    assert found.used.all()
    assert np.allclose(found.N, best_size(found.C), rtol=0.05)
    assert np.allclose(found.D, found.C / (6 * found.N))
    assert found.regress().a == pytest.approx(TRUE_A, abs=0.004)
    assert "by construction" in found.regress().note
    assert np.all(np.sign(found.centre - 0.01) == -np.sign(shift - 0.01)) or shift == 0


def test_a_global_parabola_is_pulled_by_slices_that_drift() -> None:
    C = np.logspace(18, 21, 7)
    parts = [slices(np.array([c]), wide=3, shift=s) for c, s in zip(C, np.linspace(-2, 2, 7), strict=True)]
    N, budget, loss = (np.concatenate(v) for v in zip(*parts, strict=True))
    error = {m: isoflop(N, budget, loss, m, noise=0).regress().a - TRUE_A for m in ("local", "parabola")}
    assert abs(error["local"]) < 0.01
    assert abs(error["parabola"]) > 3 * abs(error["local"])


def test_an_optimum_at_the_edge_is_dropped_and_said() -> None:
    N, C, loss = slices()
    keep = ~((C > 5e20) & (N / best_size(C) > 0.9))  # the last budget lost its larger half
    found = isoflop(N[keep], C[keep], loss[keep], noise=0)
    assert found.used.tolist() == [True] * 6 + [False]
    assert "largest" in found.note[-1]
    assert np.isnan(found.N[-1])
    assert found.regress().N.points == 6


def test_fewer_than_three_budgets_are_refused() -> None:
    N, C, loss = slices(np.array([1e18, 1e19]))
    found = isoflop(N, C, loss, noise=0)
    assert not found.identified
    with pytest.raises(LawError, match="not identified: 2 of 2 budgets"):
        found.regress()


def test_remarks_on_slices_that_are_off_centre_or_shallow() -> None:
    N, C, loss = slices(shift=1.7, sizes=13)
    assert all("off-centre" in n for n in isoflop(N, C, loss, noise=0).note)
    N, C, loss = slices(wide=0.5, sizes=7)
    assert all("shallow" in n or "leaves" in n for n in isoflop(N, C, loss, noise=0.01).note)


def test_noise_from_seeds_and_its_way_into_the_slope() -> None:
    rng = np.random.default_rng(0)
    N, C, loss = (np.tile(v, 4) for v in slices())
    found = isoflop(N, C, loss * np.exp(0.003 * rng.standard_normal(len(N))))
    assert found.noise_source == "seeds of one run"
    assert found.noise == pytest.approx(0.003, rel=0.15)
    assert found.regress().N.weighted
    assert found.regress().N.slope_se == pytest.approx(found.bootstrap().se, rel=0.5)
    single = isoflop(*slices(), noise=0.003)
    assert np.all(found.std[found.used] < single.std[found.used])  # four seeds are worth more than one


def test_errors_cover_the_true_exponent() -> None:
    rng, hits = np.random.default_rng(1), []
    for _ in range(150):
        N, C, loss = slices()
        low, high = isoflop(N, C, loss * np.exp(0.004 * rng.standard_normal(len(N))), noise=0.004).regress().N.ci()
        hits.append(low <= TRUE_A <= high)
    assert 0.92 <= np.mean(hits) <= 1


def test_scatter_stands_in_for_unknown_noise() -> None:
    N, C, loss = slices(wide=1.0, sizes=11)
    found = isoflop(N, C, loss * np.exp(0.003 * np.random.default_rng(2).standard_normal(len(N))))
    assert found.noise_source == "scatter about local quadratics"
    assert found.noise == pytest.approx(0.003, rel=0.6)


def test_porian_isoflop() -> None:
    """Porian et al. 2024: their interpolation gives their slopes; a parabola through everything gives nonsense."""
    points, published = table("porian/porian_isoflop_points.csv"), table("porian/porian_published_table.csv")
    keys = ("hparams", "warmup", "decay", "param_count", "val")
    nonsense = []
    for i, a in enumerate(published["a_published"]):
        rows = np.logical_and.reduce([points[k] == published[k][i] for k in keys])
        curve = points["n"][rows], points["flops"][rows], points["loss"][rows]
        assert isoflop(*curve, "akima", noise=0).regress().a == pytest.approx(a, abs=0.007)
        assert isoflop(*curve, "local", noise=0).regress().a == pytest.approx(a, abs=0.03)
        nonsense.append(isoflop(*curve, "parabola", noise=0).regress().a)
    assert nonsense[:2] == pytest.approx([1.98, 2.16], abs=0.01)


def grid(sizes: np.ndarray, budgets: np.ndarray, a: float) -> tuple[np.ndarray, ...]:
    N, D = (v.ravel() for v in np.meshgrid(sizes, budgets, indexing="ij"))
    return N, D, 6 * N * D, surface(N, D, a)


@pytest.mark.parametrize("method", ["local", "akima"])
@pytest.mark.parametrize("a", [0.4, TRUE_A, 0.6])
def test_a_rectangular_grid_gives_slices(method: str, a: float) -> None:
    runs = grid(np.logspace(6, 9, 10), np.logspace(8, 11, 10), a)
    found = isoflop_from_grid(*runs, method)
    assert found.used.sum() >= 6
    assert found.regress().a == pytest.approx(a, abs=0.006)
    assert abs(frontier(*runs).regress().all.a - a) > abs(found.regress().a - a)


def test_the_article_grid_gives_its_exponent_or_none() -> None:
    """Where the frontier returns .13 to .19 for any truth, slices find .3, and refuse what is not on the grid."""
    article = np.logspace(5, 6, 7), np.logspace(4, 7, 8)
    assert isoflop_from_grid(*grid(*article, 0.3)).regress().a == pytest.approx(0.3, abs=0.01)
    found = isoflop_from_grid(*grid(*article, TRUE_A))
    assert not found.identified
    assert any("smallest" in n for n in found.note)


def test_grid_slices_share_runs_and_their_errors_say_so() -> None:
    runs = grid(np.logspace(6, 9, 10), np.logspace(8, 11, 10), TRUE_A)
    many = isoflop_from_grid(*runs, noise=0.004, budgets=np.logspace(16.8, 18.2, 60))
    few = isoflop_from_grid(*runs, noise=0.004, budgets=np.logspace(16.8, 18.2, 8))
    assert few.regress().N.slope_se < 2 * many.regress().N.slope_se  # interpolating more often is no more data
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        noisy = runs[3] * np.exp(0.004 * rng.standard_normal(len(runs[3])))
        found.append(isoflop_from_grid(*runs[:3], noisy, noise=0.004, draws=60).regress())
    sd = np.std([f.a for f in found])
    assert np.median([f.N.slope_se for f in found]) == pytest.approx(sd, rel=0.4)
    assert np.mean([f.N.ci()[0] <= TRUE_A <= f.N.ci()[1] for f in found]) >= 0.88


def test_grid_with_holes_still_works() -> None:
    runs = grid(np.logspace(6, 9, 10), np.logspace(8, 11, 10), TRUE_A)
    keep = np.random.default_rng(0).random(len(runs[0])) > 0.15
    assert isoflop_from_grid(*(v[keep] for v in runs)).regress().a == pytest.approx(TRUE_A, abs=0.03)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale_n=st.floats(1e-3, 1e6),
    scale_c=st.floats(1e-9, 1e9),
    method=st.sampled_from(["local", "akima", "parabola"]),
)
def test_order_and_units_do_not_matter(seed: int, scale_n: float, scale_c: float, method: str) -> None:
    N, C, loss = slices()
    order = np.random.default_rng(seed).permutation(len(N))
    first, again = (
        isoflop(*v, method, noise=0) for v in ((N, C, loss), (scale_n * N[order], scale_c * C[order], loss[order]))
    )
    assert again.regress().a == pytest.approx(first.regress().a, abs=1e-8)
    assert np.allclose(again.N, scale_n * first.N, rtol=1e-8)


def test_result_becomes_json() -> None:
    assert json.dumps(dataclasses.asdict(isoflop(*slices(), noise=0.002)), default=np.ndarray.tolist)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": [2.0, -1, 1, 2]}, "loss[1] = -1"),
        ({"method": "spline"}, "one of local, akima, parabola"),
        ({"noise": -1.0}, "noise = -1"),
        ({"C": [1e18, 1e19, 1e20, 1e21]}, "no budget has 3 sizes"),
    ],
)
def test_bad_input_is_named(change: dict, says: str) -> None:
    call = {"N": [1e6, 2e6, 3e6, 4e6], "C": [1e18] * 4, "loss": [3.0, 2, 2, 3]} | change
    with pytest.raises(LawError) as error:
        isoflop(**call)
    assert says in str(error.value)


def test_a_grid_that_does_not_overlap_is_refused() -> None:
    N = np.repeat(np.logspace(3, 12, 7), 2)
    D = np.tile([1e6, 2e6], 7)
    with pytest.raises(LawError, match="do not overlap"):
        isoflop_from_grid(N, D, 6 * N * D, 2 + 1 / N)


@pytest.mark.slow
def test_slices_of_grids_are_unbiased_and_their_intervals_hold() -> None:
    """Pooled over two 7 x 8 grids, three true exponents and two noise levels: 95 % means 95 %."""
    covered = []
    for sizes, budgets in (
        (np.logspace(6, 9, 7), np.logspace(7.5, 11.5, 8)),
        (np.logspace(6.5, 8, 7), np.logspace(7.5, 10.5, 8)),
    ):
        for a in (0.4, TRUE_A, 0.6):
            for noise in (0.003, 0.01):
                N, D, C, loss = grid(sizes, budgets, a)
                found = []
                for seed in range(60):
                    y = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
                    slices_found = isoflop_from_grid(N, D, C, y, noise=noise, draws=100, seed=seed)
                    if slices_found.identified:
                        found.append(slices_found.regress())
                assert np.mean([f.a for f in found]) == pytest.approx(a, abs=0.02)
                covered += [f.N.ci()[0] <= a <= f.N.ci()[1] for f in found]
    assert len(covered) > 600
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("method", ["local", "akima"])
def test_two_runs_of_one_size_in_a_budget_count_once_the_nearer_one(method: str) -> None:
    N = np.array([1e6, 2e6, 4e6, 8e6, 16e6, 4e6])
    C = np.array([1e15, 1e15, 1e15, 1e15, 1e15, 1.04e15])
    loss = np.exp(0.1 * np.log(N / 4e6) ** 2 + 1)
    loss[-1] = 9.0  # would be the worst of its slice
    found = isoflop(N, C, loss, method, noise=0.0)
    assert found.sizes.tolist() == [5]
    assert found.N[0] == pytest.approx(4e6, rel=1e-2)
