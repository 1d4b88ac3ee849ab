"""Parametric fits against published data: every number was computed by others or recomputed independently."""

from typing import Any

import numpy as np
import published
import pytest

from scaling.laws import LawFit, allocation, fit_law
from scaling.laws.forms import LAWS
from scaling.laws.solver import objective


def epoch(drop: int = 5, below: float = np.inf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D, loss of the digitised Chinchilla runs without the `drop` largest losses and with C < below."""
    t = published.table("epoch/svg_extracted_data.csv")
    N, C, loss = t["Model Size"], t["Training FLOP"], t["loss"]
    keep = (loss < np.sort(loss)[-drop] if drop else loss > 0) & (below > C)
    return N[keep], (C / (6 * N))[keep], loss[keep]


def assert_inside(fit: LawFit, case: dict[str, Any], **measured: float) -> None:
    """Every expected value that has a tolerance, against the fit's parameters and `measured`."""
    got = fit.params | {"a": fit.exponents()[0], "objective": fit.objective} | measured
    want = {k.split("=")[0]: v for k, v in case["expect"].items()}
    assert case["tol"].keys() <= got.keys()
    for name, tolerance in case["tol"].items():
        assert got[name] == pytest.approx(want[name], abs=tolerance), name


def test_epoch_huber_optimum_and_its_certificate() -> None:
    fit = fit_law(*epoch())
    assert_inside(fit, published.expected("epoch_huber_240"))
    c = fit.certificate
    assert c.certified and c.gradient < 1e-8 and c.agree == 1.0 and c.starts > 100
    assert -1e-9 < c.projection < 1e-5  # variable projection ends in the same place
    assert fit.warnings == () and all(fit.identified.values())


def test_epoch_least_absolute_deviations_to_the_exact_vertex() -> None:
    fit = fit_law(*epoch(), objective="lad")
    case = published.expected("epoch_lad_240")
    assert_inside(fit, case, sum_abs=fit.objective)
    residuals = np.sort(np.abs(np.log(fit.fitted) - np.log(epoch()[2])))
    # an exact optimum passes through points, up to as many as there are parameters; smoothing would miss them
    assert residuals[3] < 1e-13 < 1e-6 < residuals[5]


def test_epoch_huber_with_its_five_outliers() -> None:
    fit = fit_law(*epoch(drop=0))
    case = published.expected("epoch_huber_245_no_outlier_drop")
    assert_inside(fit, case)
    assert fit.objective == pytest.approx(case["expect"]["objective"], rel=1e-6)
    assert fit.exponents()[0] == pytest.approx(case["expect"]["a"], abs=2e-4)


def test_epoch_objective_at_published_parameters() -> None:
    case = published.expected("epoch_objective_values")
    N, D, loss = epoch()
    law, huber = LAWS["chinchilla"], objective("huber")
    # Epoch's published point, unrounded, is the least-absolute-deviation fit of the same rows
    points = {
        "hoffmann_unrounded": {
            "A": np.exp(6.0073404),
            "B": np.exp(6.0179186),
            "E": np.exp(0.5267228),
            "alpha": 0.33917084,
            "beta": 0.2849083,
        },
        "hoffmann_rounded": {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28},
        "epoch_published": fit_law(N, D, loss, objective="lad").params,
    }
    for name, params in points.items():
        f, _, _ = law.on(N, D).evaluate(law.to_theta(params)[None])
        value = huber.total(f - np.log(loss), np.ones(len(N)))[0]
        assert value == pytest.approx(case["expect"][name], rel=case["tol_rel"]), name


@pytest.mark.slow
def test_epoch_bootstrap_of_4000() -> None:
    case = published.expected("epoch_bootstrap_4000")
    fit = fit_law(*epoch(), bootstrap=4000, seed=42)
    for name, tolerance in case["tol_rel"].items():
        assert fit.se[name] == pytest.approx(case["expect_se"][name], rel=tolerance), name
    draws = allocation.derived(fit.law, fit.draws)  # their intervals are plain percentiles
    for name, (low, high) in case["ci95"].items():
        ends = np.quantile(draws[name], [0.025, 0.975])
        assert ends == pytest.approx([low, high], rel=case["tol_rel"][name]), name


def test_epoch_mse_as_variable_projection_finds_it() -> None:
    case = published.expected("epoch_mse_217")
    N, D, loss = epoch(below=1e21)
    assert len(N) == 217
    fit = fit_law(N / 1e6, D / 1e9, loss, objective="mse")
    assert_inside(fit, case, RSS=fit.objective)
    assert abs(fit.certificate.projection) < 1e-6  # exact for squares


def test_epoch_mse_of_all_240() -> None:
    N, D, loss = epoch()
    fit = fit_law(N / 1e6, D / 1e9, loss, objective="mse")
    assert_inside(fit, published.expected("epoch_mse_240"), RSS=fit.objective)


def test_asymmetric_objective_on_epochs_points() -> None:
    fit = fit_law(*epoch(), objective="asymmetric")
    assert_inside(fit, published.expected("kyo_default_240"))
    assert fit.certificate.converged


def test_asymmetric_objective_on_its_authors_example() -> None:
    t = published.table("kyo_chinchilla/df.csv")
    assert_inside(fit_law(t["N"], t["D"], t["loss"], objective="asymmetric"), published.expected("kyo_example_234"))


@pytest.mark.parametrize("dataset", ["rpj", "c4_original", "rw_original"])
def test_gadre_over_training_from_five_points(dataset: str) -> None:
    case = published.expected("gadre")
    t = published.table("gadre/models_104.csv")
    size = np.array([name.split("_")[0] for name in t["model_name"]])
    narrow = np.isin(size, ["d=96", "d=512", "d=576", "d=1024"])
    mine = t["dataset_name"] == dataset
    keep = mine & ((narrow & (t["tok_mult"] == 20)) | ((size == "d=96") & (t["tok_mult"] == 320)))
    assert keep.sum() == 5
    fit = fit_law(t["N"][keep], t["D"][keep], t["loss_c4_val"][keep], law="over_training", objective="mse")
    # their code's form is L = E + a' N^-2eta + b' 6^-eta D^-2eta
    eta, a, b = (fit.params[k] for k in ("eta", "a", "b"))
    want = case["expect"][dataset]
    assert -2 * eta == pytest.approx(want["eta"], abs=case["tol"]["eta"])
    assert fit.params["E"] == pytest.approx(want["E"], abs=case["tol"]["E"])
    assert a * 6**-eta == pytest.approx(want["a"], rel=1e-3)
    assert b == pytest.approx(want["b"], rel=1e-3)
    assert fit.exponents() == (0.5, 0.5)
    short = {"rpj": "rpj", "c4_original": "c4", "rw_original": "rw"}[dataset]
    for name, multiple in (("open_lm_1b", 640), ("open_lm_7b", 20)):
        known = case["heldout_rel_err_pct"].get(f"{short} {name} M={multiple}")
        row = mine & (t["model_name"] == name) & (t["tok_mult"] == multiple)
        if known is None or not row.any():
            continue
        true = t["loss_c4_val"][row][0]
        error = 100 * abs(fit.predict(t["N"][row], t["D"][row])[0] - true) / true
        assert error == pytest.approx(known, abs=case["tol_pct"])


def muennighoff() -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, float]]:
    case, t = published.expected("muennighoff"), published.table("muennighoff/runs_182.csv")
    held = case["fixed"]
    fix = {"A": np.exp(held["a"]), "B": np.exp(held["b"]), "E": np.exp(held["e"])}
    return case, t, fix | {"alpha": held["alpha"], "beta": held["beta"]}


def test_muennighoff_formula_and_allocation() -> None:
    case, t, fix = muennighoff()
    law = LAWS["data_constrained"]
    theta = law.to_theta(fix | {k: case["published"][k] for k in ("R_D", "R_N")})[None]

    def r2(predicted: np.ndarray) -> float:
        return 1 - np.sum((predicted - t["loss"]) ** 2) / np.sum((t["loss"] - t["loss"].mean()) ** 2)

    f, _, _ = law.on(t["N"], t["D"], t["U"]).evaluate(theta)
    tolerance = case["tol"]["r2"]
    assert r2(np.exp(f[0])) == pytest.approx(case["r2"]["published_params"], abs=tolerance)
    plain = LAWS["chinchilla"]
    none, _, _ = plain.on(t["N"], t["D"]).evaluate(plain.to_theta(fix)[None])
    assert r2(np.exp(none[0])) == pytest.approx(case["r2"]["no_decay"], abs=tolerance)
    for point, loss in case["point_predictions"].items():
        N, D, U = (np.array([float(v)]) for v in point.strip("()").split(","))
        assert np.exp(law.on(N, D, U).evaluate(theta)[0][0, 0]) == pytest.approx(loss, rel=1e-12)
    want = case["allocation_C1e22_U25e9"]
    log_N, log_D = allocation.optimum(law, theta, np.log([1e22 / 6]), 25e9)
    assert np.exp(log_N[0]) == pytest.approx(want["N"], rel=1e-3)
    assert np.exp(log_D[0]) / 25e9 == pytest.approx(want["epochs"], abs=2e-3)


def test_muennighoff_point_is_local_and_repetition_is_not_identified() -> None:
    case, t, fix = muennighoff()
    fit = fit_law(t["N"], t["D"], t["loss"], law="data_constrained", U=t["U"], fix=fix)
    start = fit.law.to_theta(fix | {k: case["published"][k] for k in ("R_D", "R_N")})[None]
    local = fit.problem.minimise(start, delta0=1e-3)
    found = fit.law.to_params(local.theta[0])
    assert found["R_D"] == pytest.approx(case["published"]["R_D"], abs=case["tol"]["R_D_local"])
    assert found["R_N"] == pytest.approx(case["published"]["R_N"], abs=case["tol"]["R_N_local"])
    assert local.gradient[0] < 1e-6 and local.curvature[0] > 0
    assert local.value[0] == pytest.approx(case["published"]["obj"], rel=1e-5)
    # there is a better one, and the profile is flat out to infinity
    assert fit.certificate.converged and fit.objective < 0.999 * local.value[0]
    assert fit.identified["R_D"] is False
    assert fit.ci(method="profile")["R_D"][1] == np.inf
