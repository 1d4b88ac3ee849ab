"""Extrapolation: Epoch's runs, the Hitchhiker's protocol, and intervals that hold what they say."""

import dataclasses
import json

import numpy as np
import pytest
from published import expected, table

from scaling.laws import LawError, hitchhiker_are, hold_out
from scaling.laws.grid_bias import surface


def sweep(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    N, D = (v.ravel() for v in np.meshgrid(np.logspace(6, 9, 7), np.logspace(8, 11, 8), indexing="ij"))
    loss = surface(N, D, 0.5) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return N, D, 6 * N * D, loss


def test_a_true_law_extrapolates() -> None:
    for result in hold_out(*sweep()):
        assert result.are < 1e-6
        assert result.naive > 0.02
        assert np.all(result.scale_up > 1) and np.all(np.diff(result.C) >= 0)


def test_sign_and_scale_up() -> None:
    N, D, C, loss = sweep()
    late = np.quantile(C, 0.7) < C
    (result,) = hold_out(N, D, C, np.where(late, 0.9 * loss, loss), below=[float(C[late].min())])
    assert result.bias == pytest.approx(1 / 0.9 - 1, abs=1e-4)  # pessimistic: positive
    bins = result.by_scale_up((1, 10, np.inf))
    assert sum(b["runs"] for b in bins) == late.sum() == len(C) - result.fitted
    assert all(b["are"] == pytest.approx(1 / 0.9 - 1, abs=1e-4) for b in bins)


def test_intervals_cover_new_runs() -> None:
    covered = []
    for seed in range(6):
        N, D, C, loss = sweep(0.01, seed)
        covered += [h.covered for h in hold_out(N, D, C, loss, below=[float(np.quantile(C, 0.7))], bootstrap=60)]
    assert np.mean(covered) > 0.85


@pytest.mark.parametrize("change", [{"below": [1.0]}, {"below": [1e30]}, {"level": 1.5}])
def test_thresholds_that_leave_nothing_are_refused(change: dict) -> None:
    with pytest.raises(LawError, match=r"below = |level = "):
        hold_out(*sweep(), **change)


def test_columns_of_runs_are_split_with_the_runs() -> None:
    N, D, C, loss = sweep(0.003)
    below = [float(np.quantile(C, 0.7))]
    (plain,) = hold_out(N, D, C, loss, below=below)
    spoilt = np.where(N.min() == N, 1.2 * loss, loss)
    (weighted,) = hold_out(N, D, C, spoilt, below=below, weights=np.where(N.min() == N, 1e-9, 1.0), objective="mse")
    assert weighted.are < 2 * plain.are + 0.002
    with pytest.raises(LawError, match="weights has shape"):
        hold_out(N, D, C, loss, below=below, weights=[1.0])


def test_result_becomes_json() -> None:
    assert json.dumps(dataclasses.asdict(hold_out(*sweep())[0]), default=np.ndarray.tolist)


def test_epoch_holdout() -> None:
    runs, case = table("epoch/svg_extracted_data.csv"), expected("epoch_holdout")
    keep = runs["loss"] < np.sort(runs["loss"])[-5]
    N, C, loss = runs["Model Size"][keep], runs["Training FLOP"][keep], runs["loss"][keep]
    results = hold_out(N, C / (6 * N), C, loss, below=[float(c) for c in case["expect_are_pct"]])
    for result, are, a in zip(results, case["expect_are_pct"].values(), case["a"].values(), strict=True):
        assert 100 * result.are == pytest.approx(are, abs=case["tol"])
        p = result.params
        assert p["beta"] / (p["alpha"] + p["beta"]) == pytest.approx(a, abs=case["tol"])
        assert result.are < result.naive


def test_hitchhiker_t5_pile() -> None:
    """All ten cells of their heat map for T5 on the Pile, three models, to the two figures they print."""
    runs, case = table("hitchhiker/t5_pile_val_ppl.csv"), expected("hitchhiker_t5_pile")
    found = hitchhiker_are(runs["model_name"], runs["N"], runs["D"], np.log2(runs["val_perplexity"]))
    assert found.target == "xxl" and len(found.train) == 3
    assert any("E -> 0" in w for w in found.warnings)  # what the protocol does not say of its own fit
    assert [float(f"{v:.2g}") for v in found.are] == case["expect_k3_pct"]


def test_hitchhiker_refuses_what_cannot_be_fitted() -> None:
    names = np.repeat(["a", "b", "c", "d"], 20)
    N, D = np.repeat([1e7, 1e8, 1e9, 1e10], 20), np.tile(np.linspace(1e9, 1e12, 20), 4)
    loss = surface(N, D, 0.5)
    assert hitchhiker_are(names, N, D, loss, fractions=[1.0]).are[0] < 1e-3
    with pytest.raises(LawError, match="k = 2"):
        hitchhiker_are(names, N, D, loss, k=2)
    with pytest.raises(LawError, match="k = 4"):
        hitchhiker_are(names, N, D, loss, k=4)
    with pytest.raises(LawError, match="model has 79"):
        hitchhiker_are(names[1:], N, D, loss)
