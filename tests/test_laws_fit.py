"""What a user of `fit_law` may rely on: truth recovered, doubts said, invariances held, bad input refused."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.laws import LawError, LawFit, fit_law
from scaling.laws.forms import LAWS

TRUTHS = {
    "chinchilla": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    "kaplan": {"Nc": 8.8e13, "Dc": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    "over_training": {"E": 1.8, "a": 150.0, "b": 300.0, "eta": 0.13},
    "data_constrained": {"E": 1.9, "A": 520.0, "B": 1500.0, "alpha": 0.35, "beta": 0.36, "R_D": 15.0, "R_N": 5.0},
    "power": {"A": 30.0, "alpha": 0.1},
    "saturating_power": {"E": 1.7, "A": 300.0, "alpha": 0.3},
}
N, D = (v.ravel() for v in np.meshgrid(np.geomspace(3e6, 3e9, 7), np.geomspace(6e7, 6e10, 8)))
U = np.minimum(D, 1e9)


def true_loss(law: str, n: np.ndarray = N, d: np.ndarray = D, u: np.ndarray = U) -> np.ndarray:
    form = LAWS[law]
    return np.exp(form.on(n, d, u).evaluate(form.to_theta(TRUTHS[law])[None])[0][0])


def noisy(noise: float = 0.005, seed: int = 0, law: str = "chinchilla") -> np.ndarray:
    return true_loss(law) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))


def fit(law: str, loss: np.ndarray, **options) -> LawFit:
    return fit_law(N, D if LAWS[law].uses_D else None, loss, law=law, U=U if LAWS[law].uses_U else None, **options)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("objective", ["huber", "lad", "mse", "mse_log", "asymmetric"])
def test_noise_free_points_give_back_their_law(law: str, objective: str) -> None:
    found = fit(law, true_loss(law), objective=objective)
    assert found.certificate.converged, found.certificate
    assert found.params == pytest.approx(TRUTHS[law], rel=1e-5)


@pytest.mark.parametrize("law", LAWS)
def test_gradients_and_curvature_are_those_of_the_value(law: str) -> None:
    form = LAWS[law]
    surface = form.on(N, D, U)
    theta = form.to_theta(TRUTHS[law])[None]
    _, J, aux = surface.evaluate(theta)
    w = np.random.default_rng(0).standard_normal((1, len(N)))
    H = surface.curvature(theta, J, aux, w)[0]
    for j in range(len(form.params)):
        step = np.zeros_like(theta)
        step[0, j] = 1e-5
        (up, J_up, _), (down, J_down, _) = surface.evaluate(theta + step), surface.evaluate(theta - step)
        assert J[0, j] == pytest.approx((up - down)[0] / 2e-5, rel=1e-5, abs=1e-8)
        assert H[j] == pytest.approx((J_up - J_down)[0] @ w[0] / 2e-5, rel=1e-3, abs=1e-3)


def test_objectives_are_the_published_sums() -> None:
    loss = noisy()
    r = {}
    for name in ("huber", "lad", "mse", "mse_log", "asymmetric"):
        found = fit_law(N, D, loss, objective=name)
        predicted = found.predict(N, D)
        r[name] = found.objective, np.log(predicted / loss), predicted - loss
    value, e, _ = r["huber"]
    assert value == pytest.approx(np.sum(np.where(abs(e) < 1e-3, e**2 / 2, 1e-3 * (abs(e) - 5e-4))), rel=1e-9)
    assert r["lad"][0] == pytest.approx(np.abs(r["lad"][1]).sum(), rel=1e-9)
    assert r["mse"][0] == pytest.approx(np.sum(r["mse"][2] ** 2), rel=1e-9)
    assert r["mse_log"][0] == pytest.approx(np.sum(r["mse_log"][1] ** 2), rel=1e-9)
    value, _, e = r["asymmetric"]
    assert value == pytest.approx(np.sum(np.where(e > 0, 10 * e, -e)), rel=1e-9)
    assert np.mean(e > 0) < 0.2  # over-prediction costs ten times, so the fit is a floor


def test_squares_agree_with_scipy() -> None:
    from scipy.optimize import curve_fit

    loss = noisy(0.01)
    form = LAWS["chinchilla"]
    start = form.to_theta(TRUTHS["chinchilla"])
    found = fit_law(N, D, loss, objective="mse_log")
    theta, _ = curve_fit(
        lambda _, *t: form.on(N, D).evaluate(np.array([t]))[0][0], N, np.log(loss), start, ftol=1e-14, xtol=1e-14
    )
    assert found.theta == pytest.approx(theta, rel=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.floats(-6, 6), st.floats(-6, 6), st.sampled_from(["huber", "mse", "lad"]))
def test_units_of_n_and_d_move_only_their_coefficients(log_n: float, log_d: float, objective: str) -> None:
    loss, s, t = noisy(), 10**log_n, 10**log_d
    here, there = fit_law(N, D, loss, objective=objective), fit_law(N * s, D * t, loss, objective=objective)
    p, q = here.params, there.params
    assert [q[k] for k in ("E", "alpha", "beta")] == pytest.approx([p[k] for k in ("E", "alpha", "beta")], rel=1e-5)
    assert q["A"] == pytest.approx(p["A"] * s ** p["alpha"], rel=1e-3)
    assert q["B"] == pytest.approx(p["B"] * t ** p["beta"], rel=1e-3)
    assert there.objective == pytest.approx(here.objective, rel=1e-7)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(len(N))))
def test_order_of_rows_changes_nothing(order: list[int]) -> None:
    loss, weights = noisy(), np.linspace(1, 2, len(N))
    here = fit_law(N, D, loss, weights=weights, bootstrap=20)
    there = fit_law(N[order], D[order], loss[order], weights=weights[order], bootstrap=20)
    assert there.params == here.params and there.se == here.se
    assert np.array_equal(there.fitted, here.fitted[order])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 55), st.integers(2, 5), st.sampled_from(["huber", "mse_log"]))
def test_weight_k_is_the_row_k_times(row: int, times: int, objective: str) -> None:
    loss, weights = noisy(), np.ones(len(N))
    weights[row] = times
    repeat = np.repeat(np.arange(len(N)), weights.astype(int))
    weighted = fit_law(N, D, loss, weights=weights, objective=objective)
    repeated = fit_law(N[repeat], D[repeat], loss[repeat], objective=objective)
    assert weighted.params == pytest.approx(repeated.params, rel=1e-4)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(8, 14), st.floats(-2, 2))
def test_allocation_is_the_minimum_and_regret_its_price(log_nd: float, off: float) -> None:
    found = fit_law(N, D, true_loss("chinchilla"))
    C = 6 * 10**log_nd * 1e6
    best = found.optimal(C)
    assert pytest.approx(C) == best.N * best.D * 6
    assert found.regret(best.N, best.D) == pytest.approx(0, abs=1e-9)
    elsewhere = best.N * np.exp(off), best.D * np.exp(-off)
    assert found.predict(*elsewhere) >= best.loss * (1 - 1e-12)
    # the smaller budget that a good allocation needs for the same loss
    needed = found.optimal(C / (1 + found.regret(*elsewhere)))
    assert needed.loss == pytest.approx(float(found.predict(*elsewhere)), rel=1e-9)


def test_another_compute_constant_scales_the_product_only() -> None:
    found = fit_law(N, D, true_loss("chinchilla"))
    a, b = found.exponents()
    assert a == pytest.approx(0.28 / 0.62) and a + b == 1
    six, eight = found.optimal(1e20), found.optimal(1e20, k=8)
    assert pytest.approx(1e20) == eight.N * eight.D * 8
    assert pytest.approx((6 / 8) ** a) == eight.N / six.N


def test_allocation_under_repetition_matches_a_search() -> None:
    found = fit("data_constrained", true_loss("data_constrained"))
    best = found.optimal(1e22, U=25e9)
    sizes = np.geomspace(best.N / 30, best.N * 30, 20001)
    losses = found.predict(sizes, 1e22 / 6 / sizes, 25e9)
    assert best.loss == pytest.approx(losses.min(), rel=1e-9) and best.D > 25e9
    assert found.regret(best.N, best.D, U=25e9) == pytest.approx(0, abs=1e-6)
    assert found.regret(best.N * 4, best.D / 4, U=25e9) > 0.05


def test_ties_and_fixed_values_are_held() -> None:
    tied = fit_law(N, D, noisy(), tie=True)
    assert tied.params["alpha"] == tied.params["beta"] and tied.exponents()[0] == 0.5
    held = fit_law(N, D, true_loss("chinchilla"), fix={"alpha": 0.34, "E": 1.69})
    assert held.params == pytest.approx(TRUTHS["chinchilla"], rel=1e-6)
    assert set(held.identified) == {"A", "B", "beta"}


def test_intervals_of_everything_that_is_read_off() -> None:
    found = fit_law(N, D, noisy(0.01), objective="mse_log", bootstrap=300)
    a, (low, high) = found.exponents()[0], found.ci()["a"]
    assert low < a < high and found.ci(0.5)["a"][1] - found.ci(0.5)["a"][0] < high - low
    assert found.ci()["b"] == pytest.approx((1 - high, 1 - low))
    by_profile = found.ci(method="profile")["a"]
    assert by_profile[1] - by_profile[0] == pytest.approx(high - low, rel=0.35)
    best = found.optimal(1e21)
    assert best.N_ci and best.D_ci and best.loss_ci
    assert best.N_ci[0] < best.N < best.N_ci[1] and best.D_ci[0] < best.D < best.D_ci[1]
    assert best.loss_ci[0] < best.loss < best.loss_ci[1] and best.caveats == ()
    of_law = np.diff(found.predict_interval([1e9, 1e10], [1e10, 1e11]), axis=0)
    of_runs = np.diff(found.predict_interval([1e9, 1e10], [1e10, 1e11], noise=True), axis=0)
    assert np.all(of_runs > of_law)
    assert found.regret_interval(1e9, 1e11)[1] > found.regret(1e9, 1e11) > 0


def test_seeds_of_one_cell_are_one_unit() -> None:
    loss = noisy(0.01)
    once = fit_law(N, D, loss, objective="mse_log", bootstrap=300)
    copied = fit_law(*(np.repeat(v, 4) for v in (N, D, loss)), objective="mse_log", bootstrap=300)
    # four copies of every run are no new knowledge; resampled row by row they would halve the error
    assert copied.se["a"] == pytest.approx(once.se["a"], rel=0.15)
    rows = fit_law(*(np.repeat(v, 4) for v in (N, D, loss)), objective="mse_log", bootstrap=300, groups=range(224))
    assert rows.se["a"] < 0.65 * once.se["a"]


def test_vanishing_e_is_a_boundary_and_no_answer() -> None:
    found = fit_law(N, D, noisy(0.002) - 1.9)  # as if E were -0.21
    assert found.certificate.boundary == ("E -> 0",) and not found.certificate.certified
    assert any("boundary" in w for w in found.warnings)
    assert found.identified["E"] is False
    assert any("boundary" in c for c in found.optimal(1e20).caveats)


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (np.isin(N, np.unique(N)[[1, 4]]), "only 2 different sizes"),
        (np.isin(D, np.unique(D)[[1, 4]]), "only 2 different token counts"),
    ],
)
def test_designs_that_cannot_tell_are_not_identified(keep: np.ndarray, why: str) -> None:
    found = fit_law(N[keep], D[keep], noisy(0.01)[keep], objective="mse_log")
    assert found.identified["a"] is False
    assert why in " ".join(found.warnings)
    assert "exponent a not identified" in found.optimal(1e20).caveats


def test_one_ratio_of_tokens_to_parameters_tells_nothing_of_a() -> None:
    sizes = np.geomspace(1e6, 1e10, 20)
    loss = true_loss("chinchilla", sizes, 20 * sizes)
    found = fit_law(sizes, 20 * sizes, loss)
    assert found.identified["a"] is False and "one line" in found.warnings[0]


def test_repeated_data_without_a_law_for_it_is_a_warning() -> None:
    found = fit_law(N, D, noisy(), U=U)
    assert "repeat data" in found.warnings[0] and "data_constrained" in found.warnings[0]


BAD = [
    ({"N": np.where(N[0] == N, 0, N)}, "N"),
    ({"D": np.where(D[0] == D, -1, D)}, "D"),
    ({"loss": np.where(N[0] == N, np.nan, 3.0)}, "loss"),
    ({"loss": np.where(N[0] == N, np.inf, 3.0)}, "loss"),
    ({"loss": np.ones(3)}, "length"),
    ({"N": N[:4], "D": D[:4], "loss": np.full(4, 3.0)}, "4 points for 5 free parameters"),
    ({"D": None}, "D"),
    ({"law": "gpt"}, "chinchilla"),
    ({"objective": "l2"}, "mse_log"),
    ({"delta": 0.0}, "delta"),
    ({"law": "data_constrained"}, "U"),
    ({"fix": {"gamma": 1.0}}, "gamma"),
    ({"fix": {"alpha": -0.1}}, "alpha"),
    ({"fix": {"alpha": 0.3}, "tie": True}, "tie"),
    ({"law": "kaplan", "tie": True}, "tie"),
    ({"law": "kaplan", "fix": {"Nc": 1e13}}, "kaplan"),
    ({"fix": dict(TRUTHS["chinchilla"])}, "nothing is left"),
    ({"groups": [1, 2]}, "groups"),
    ({"weights": np.zeros(len(N))}, "weights"),
    ({"groups": np.zeros(len(N)), "bootstrap": 5}, "bootstrap"),
]


@pytest.mark.parametrize(("change", "named"), BAD)
def test_bad_input_is_one_clear_line(change: dict, named: str) -> None:
    arguments = {"N": N, "D": D, "loss": noisy()} | change
    with pytest.raises(LawError, match=named) as error:
        fit_law(arguments.pop("N"), arguments.pop("D"), arguments.pop("loss"), **arguments)
    assert "\n" not in str(error.value)


def test_what_needs_a_bootstrap_or_two_variables_says_so() -> None:
    found = fit_law(N, D, noisy())
    with pytest.raises(LawError, match="bootstrap=1000"):
        _ = found.se
    with pytest.raises(LawError, match="level"):
        fit_law(N, D, noisy(), bootstrap=10).ci(1.5)
    with pytest.raises(LawError, match="one variable"):
        fit("power", true_loss("power")).optimal(1e20)


def test_import_is_light() -> None:
    code = (
        "import sys, scaling.laws; print(sorted({'torch', 'pandas', 'scipy.stats', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
