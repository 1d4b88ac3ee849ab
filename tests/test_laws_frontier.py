"""The frontier of a grid, its edges, and how much of its slope is the grid."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import expected

from scaling.laws import LawError, exponents, frontier, grid_bias, regress
from scaling.laws.grid_bias import EPOCH, surface

TRUE_A = EPOCH["beta"] / (EPOCH["alpha"] + EPOCH["beta"])
ARTICLE = np.logspace(5, 6, 7), np.logspace(4, 7, 8)
WIDE = np.logspace(6, 9, 15), np.logspace(8, 12, 20)


def runs(sizes: np.ndarray, budgets: np.ndarray, a: float = TRUE_A) -> tuple[np.ndarray, ...]:
    N, D = (v.ravel() for v in np.meshgrid(sizes, budgets, indexing="ij"))
    return N, D, 6 * N * D, surface(N, D, a)


def by_hand(C: np.ndarray, loss: np.ndarray) -> set[int]:
    """Runs that no run of the same or less compute matches, straight from the definition."""
    return {
        i
        for i in range(len(C))
        if not any((C[j] <= C[i] and loss[j] < loss[i]) or (C[j] < C[i] and loss[j] <= loss[i]) for j in range(len(C)))
    }


def test_pareto_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        N, D = rng.uniform(1, 9, 30), rng.uniform(1, 9, 30)
        C = rng.choice([1.0, 2, 3, 4, 5, 6], 30)
        loss = rng.uniform(1, 2, 30)
        found = frontier(N, D, C, loss)
        assert set(found.cell) == by_hand(C, loss)
        assert np.all(np.diff(found.C) > 0) and np.all(np.diff(found.loss) < 0)


def test_hull_and_bins_are_part_of_the_pareto_set() -> None:
    grid = runs(*WIDE)
    pareto = frontier(*grid)
    for method in ("hull", "binned"):
        assert set(frontier(*grid, method=method).cell) < set(pareto.cell)
    hull = frontier(*grid, method="hull")
    bend = np.diff(np.diff(np.log(hull.loss)) / np.diff(np.log(hull.C)))
    assert np.all(bend > 0)
    binned = frontier(*grid, method="binned", bins_per_decade=2)
    assert np.all(np.bincount(((np.log10(binned.C) - np.log10(grid[2].min())) * 2 + 1e-9).astype(int)) <= 1)


def test_interior_slope_on_a_grid_that_can_tell() -> None:
    result = frontier(*runs(*WIDE)).regress()
    assert result.identified and result.interior is not None
    assert result.interior.a == pytest.approx(TRUE_A, abs=0.015)
    assert abs(result.all.a - TRUE_A) > abs(result.interior.a - TRUE_A)  # the edges pull
    assert "by construction" in result.all.note


def test_every_edge_is_named() -> None:
    found = frontier(*runs(*ARTICLE))
    for i, edge in enumerate(found.edge):
        assert ("N min" in edge) == np.isclose(found.N[i], 1e5)
        assert ("N max" in edge) == np.isclose(found.N[i], 1e6)
        assert ("D min" in edge) == np.isclose(found.D[i], 1e4)
        assert ("D max" in edge) == np.isclose(found.D[i], 1e7)
        assert found.interior[i] == (edge == "")


def test_the_article_grid_is_refused() -> None:
    """Smallest size best at nearly every budget: a slope all the same, .133 for a true .513, and no verdict."""
    result = frontier(*runs(*ARTICLE)).regress()
    assert result.all.a == pytest.approx(0.133, abs=5e-4)
    assert result.interior is None and not result.identified
    assert result.verdict.startswith("not identified: 0 of 30 frontier budgets")
    assert "N min" in result.verdict


def test_seeds_of_one_run_are_one_cell() -> None:
    N, D, C, loss = runs(*ARTICLE)
    spread = 0.01 * np.random.default_rng(0).standard_normal((3, len(N)))
    spread -= spread.mean(axis=0)  # around the same mean
    several = frontier(*(np.tile(v, 3) for v in (N, D, C)), (loss * (1 + spread)).ravel())
    single = frontier(N, D, C, loss)
    assert np.allclose(several.loss, single.loss) and np.allclose(several.N, single.N)
    assert several.grid.noise == pytest.approx(0.01, rel=0.2)
    assert np.isnan(single.grid.noise)


def test_bootstrap_sees_single_runs_not_the_grid() -> None:
    N, D, C, loss = runs(*ARTICLE)
    drawn = frontier(N, D, C, loss).bootstrap(500)
    low, high = drawn.ci()
    assert low < 0.133 < high < TRUE_A
    assert drawn.se > 0 and drawn.refused == 0
    assert frontier(N, D, C, loss).bootstrap(500).slopes.tolist() == drawn.slopes.tolist()
    inside = frontier(N, D, C, loss).bootstrap(200, interior=True)
    assert inside.refused > 0.9 and inside.ci() == (-np.inf, np.inf)
    wide = frontier(*runs(*WIDE)).bootstrap(300, interior=True)
    assert wide.refused == 0 and wide.ci()[0] < TRUE_A < wide.ci()[1]


def test_grid_bias_of_the_article_grid() -> None:
    """Its .14 is what this grid gives: .133 noise-free and .131 +- .005 for Epoch's law, whose a is .513."""
    bias = grid_bias(*ARTICLE, true_a=(0.2, 0.3, 0.4, TRUE_A, 0.6, 0.7, 0.8), noise=(0, 0.005))
    row = list(bias.true_a).index(TRUE_A)
    assert bias.slope[row, 0] == pytest.approx(0.133, abs=5e-4)
    assert bias.slope[row, 1] == pytest.approx(0.131, abs=1.5e-3)
    assert bias.sd[row, 1] == pytest.approx(0.005, abs=1e-3)
    assert bias.slope.max() < 0.21  # whatever the truth
    left = bias.consistent(0.14)
    assert left is not None and left[0] < 0.5 and left[1] > 0.75
    assert not bias.tells
    assert "0.140 fits any true a" in bias.verdict(0.14) and "more about the grid" in bias.verdict(0.14)
    assert bias.consistent(0.5) is None


def test_grid_bias_of_square_grids_is_a_half_whatever_the_truth() -> None:
    bias = grid_bias(np.logspace(5, 7, 7), np.logspace(4, 6, 7), true_a=(0.5, 0.6, 0.7, 0.8, 0.9), noise=(0,))
    assert np.allclose(bias.slope, 0.5, atol=0.01)


def test_grid_bias_knows_where_the_interior_slope_is_right() -> None:
    bias = grid_bias(*WIDE, true_a=(0.4, TRUE_A, 0.6), noise=(0,))
    assert np.allclose(bias.interior_slope, bias.true_a, atol=0.04)
    assert np.all(bias.interior_budgets >= 3)
    article = grid_bias(*ARTICLE, true_a=(TRUE_A,), noise=(0,))
    assert np.isnan(article.interior_slope[0])


def test_grid_bias_takes_flops_in_the_order_of_the_sizes() -> None:
    sizes, budgets = ARTICLE
    flops = 6 * sizes + 1e6
    there = grid_bias(sizes, budgets, flops_per_token=flops, noise=(0,))
    back = grid_bias(sizes[::-1], budgets, flops_per_token=flops[::-1], noise=(0,))
    assert np.array_equal(there.slope, back.slope)
    assert not np.allclose(there.slope, grid_bias(sizes, budgets, noise=(0,)).slope)


def test_pearce_synthetic() -> None:
    """Pearce and Song 2024, section 4: leaving embeddings out of N and C turns .51 into Kaplan's .78."""
    want, tol = expected("pearce_synthetic")["expect"], expected("pearce_synthetic")["tol"]
    bare = np.logspace(2.9, 9.2, 20)
    total = bare + 47491 * bare ** (1 / 3)
    D = np.logspace(6, 25, 1000)  # the tokens at which a run's curve was read
    loss = EPOCH["E"] + EPOCH["A"] / total[:, None] ** EPOCH["alpha"] + EPOCH["B"] / D ** EPOCH["beta"]

    def best(count: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.abs(6 * count[:, None, None] * D - C[:, None]).argmin(axis=2)
        there = np.take_along_axis(loss, at, axis=1)
        return count[there.argmin(axis=0)], there.min(axis=0)

    C = np.logspace(12.95, 20.7, 100)
    N, L = best(bare, C)
    assert regress(C, N).slope == pytest.approx(want["N_nonemb slope"], abs=tol)
    assert regress(C, L).slope == pytest.approx(want["L slope nonE"], abs=tol)
    C = np.logspace(14, 20.7, 100)  # from where the smallest size is no longer the best
    N, _ = best(total, C)
    assert exponents(C, N, C / (6 * N)).a == pytest.approx(want["N_total slope"], abs=tol)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale_n=st.floats(1e-3, 1e6),
    scale_c=st.floats(1e-9, 1e9),
    method=st.sampled_from(["pareto", "hull", "binned"]),
)
def test_order_and_units_do_not_matter(seed: int, scale_n: float, scale_c: float, method: str) -> None:
    rng = np.random.default_rng(seed)
    N, D, C, loss = runs(np.logspace(6, 9, 6), np.logspace(8, 11, 7))
    loss = loss * np.exp(0.01 * rng.standard_normal(len(loss)))
    first = frontier(N, D, C, loss, method=method).regress()
    order = rng.permutation(len(N))
    again = frontier(scale_n * N[order], D[order], scale_c * C[order], loss[order], method=method).regress()
    assert again.all.a == pytest.approx(first.all.a, abs=1e-9)
    assert again.all.b == pytest.approx(first.all.b, abs=1e-9)
    assert again.identified == first.identified
    shift = np.log(scale_n) - first.all.a * np.log(scale_c)
    assert again.all.N.intercept == pytest.approx(first.all.N.intercept + shift, abs=1e-6)


def test_results_become_json() -> None:
    found = frontier(*runs(*ARTICLE))
    for result in (found, found.regress(), grid_bias(*ARTICLE, noise=(0,))):
        text = json.dumps(dataclasses.asdict(result), default=np.ndarray.tolist)
        assert json.loads(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": [2.0, np.nan, 1]}, "loss[1] = nan"),
        ({"C": [1.0, -2, 3]}, "C[1] = -2"),
        ({"D": [1.0, 2]}, "D has 2"),
        ({"method": "best"}, "one of pareto, hull, binned"),
        ({"method": "binned", "bins_per_decade": 0}, "bins_per_decade = 0"),
    ],
)
def test_bad_input_is_named(change: dict, says: str) -> None:
    call = {"N": [1.0, 2, 3], "D": [1.0, 2, 3], "C": [1.0, 4, 9], "loss": [3.0, 2, 1]} | change
    with pytest.raises(LawError) as error:
        frontier(**call)
    assert says in str(error.value)


def test_one_point_has_no_slope() -> None:
    with pytest.raises(LawError, match="needs two"):
        frontier([1.0, 2], [1.0, 2], [1.0, 4], [1.0, 2]).regress()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"true_a": (0.5, 1.2)}, "between 0 and 1"),
        ({"noise": (-0.1,)}, "zero or more"),
        ({"N_grid": [1e5, 1e5]}, "N_grid: 1 different value"),
        ({"flops_per_token": [1.0, 2]}, "flops_per_token has 2"),
    ],
)
def test_bad_grid_is_named(change: dict, says: str) -> None:
    with pytest.raises(LawError) as error:
        grid_bias(**({"N_grid": ARTICLE[0], "D_grid": ARTICLE[1]} | change))
    assert says in str(error.value)
