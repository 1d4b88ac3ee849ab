"""Many runs: the search is on a sample and most refits are one step, and nothing that a user reads may change by it."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from scaling.laws import bootstrap, fit_law, search
from scaling.laws.bootstrap import CHECKED, FEW, WORK, in_full, one_step
from scaling.laws.fit import LawFit
from scaling.laws.forms import LAWS
from scaling.laws.points import directions, read_points
from scaling.laws.solver import Problem, objective

TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
RUNS = 3000


def runs(count: int = RUNS, seeds: int = 1, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D and loss of a known law with noise, at so many places, each with so many seeds."""
    rng = np.random.default_rng(0)
    N, D = (np.repeat(10 ** rng.uniform(*ends, count // seeds), seeds) for ends in ((7, 11), (8.5, 12.5)))
    loss = TRUTH["E"] + TRUTH["A"] / N ** TRUTH["alpha"] + TRUTH["B"] / D ** TRUTH["beta"]
    return N, D, loss * np.exp(noise * rng.standard_normal(len(N)))


def problem(name: str, law: str = "chinchilla") -> Problem:
    form, points = LAWS[law], read_points(LAWS[law], *runs(), None, None, None, False, {})
    surface = form.on(points.N, points.D)
    return Problem(surface, points.log_loss, objective(name), directions(surface, {}, False))


@pytest.mark.parametrize("name", ["huber", "lad", "mse", "mse_log", "asymmetric"])
@pytest.mark.parametrize("law", ["chinchilla", "kaplan"])
def test_the_sample_leads_to_the_optimum_of_all(law: str, name: str) -> None:
    whole = problem(name, law)
    weights = np.ones(RUNS)
    everywhere, _ = search._both(whole, weights, {}, False, 4)
    led, excess = search.search(whole, weights, {}, False)
    assert led.value.min() == pytest.approx(everywhere.value.min(), rel=1e-6)
    assert excess > -1e-6


def test_standard_errors_are_those_of_least_squares() -> None:
    N, D, loss = runs()
    found = fit_law(N, D, loss, objective="mse_log", bootstrap=600)

    def log_loss(at: tuple[np.ndarray, np.ndarray], e: float, a: float, b: float, *power: float) -> np.ndarray:
        return np.log(np.exp(e) + np.exp(a - power[0] * at[0]) + np.exp(b - power[1] * at[1]))

    start = [np.log(TRUTH[k]) for k in "EAB"] + [TRUTH["alpha"], TRUTH["beta"]]
    theta, covariance = curve_fit(log_loss, (np.log(N), np.log(D)), np.log(loss), p0=start)
    assert found.theta == pytest.approx(theta, rel=1e-4)
    assert np.std(found.draws, axis=0) == pytest.approx(np.sqrt(np.diag(covariance)), rel=0.12)


@pytest.mark.parametrize(("name", "off"), [("huber", 0.3), ("mse", 0.05), ("mse_log", 0.05)])
def test_one_step_goes_where_a_refit_goes(name: str, off: float) -> None:
    whole, groups = problem(name), np.arange(RUNS)
    best = whole.minimise(LAWS["chinchilla"].to_theta(TRUTH)[None]).theta[0]
    counts = bootstrap.units(groups, 60, 1)
    step = one_step(whole, best, np.ones(RUNS), counts, groups)
    full = in_full(whole, best, np.ones(RUNS), counts)
    assert (np.std(step - full, axis=0) < off * np.std(full, axis=0)).all()
    assert np.std(step, axis=0) == pytest.approx(np.std(full, axis=0), rel=0.15)


def test_where_one_step_is_not_enough_refits_are_made_in_full() -> None:
    N, D, loss = runs()
    fits = {law: fit_law(N, D, loss, law=law, objective="mse_log", bootstrap=500) for law in ("chinchilla", "kaplan")}
    assert len(fits["chinchilla"].draws) == 500
    assert len(fits["kaplan"].draws) == max(FEW, WORK // RUNS) < 500  # it misses these runs: far from linear
    assert CHECKED < FEW


@pytest.mark.parametrize("law", ["chinchilla", "kaplan"])
@pytest.mark.parametrize("draws", [1, 10, CHECKED, CHECKED + 1])
def test_a_handful_of_resamples_is_as_many_as_were_asked_for(law: str, draws: int) -> None:
    assert len(fit_law(*runs(), law=law, objective="mse_log", bootstrap=draws).draws) == draws


@pytest.mark.parametrize("seeds", [1, 25])
def test_absolute_values_of_many_runs_end_in_a_certified_vertex(seeds: int) -> None:
    found: LawFit = fit_law(*runs(seeds=seeds), objective="lad")
    assert found.certificate.certified, found.certificate
    assert found.exponents()[0] == pytest.approx(0.5126, abs=0.01)
