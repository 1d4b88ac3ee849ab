"""What a budget buys: against closed forms, and against what Sardana et al. print for a model that is to be served."""

import numpy as np
import pytest
from scipy.optimize import brentq

from scaling.laws import LawError, fit_law
from scaling.laws.plan import Cost, answer_table, budgets_of, regret

EPOCH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.336, "beta": 0.283}
N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 8)))


def fitted(p, noise=0.0, **how):
    loss = p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]
    rng = np.random.default_rng(0)
    return fit_law(N, D, loss * np.exp(noise * rng.standard_normal(len(N))), objective="mse_log", **how)


def table_of(fit, budgets, inference_tokens=0.0):
    cost = Cost.of_runs(N, D, 6 * N * D, inference_tokens)
    return answer_table(fit, budgets, cost, largest=float((6 * N * D).max()))


def test_without_inference_it_is_the_closed_form_with_its_intervals():
    fit = fitted(EPOCH, noise=0.005, bootstrap=200)
    table = table_of(fit, budgets_of(6 * N * D, 1e21))
    assert len(table.C) == 62 and table.C[0] == pytest.approx(6e16) and table.scale_up[-1] == pytest.approx(100)
    (i,) = np.flatnonzero(table.C == 1e21)
    exact = fit.optimal(1e21)
    assert table.N[i] == pytest.approx(exact.N, rel=1e-3) and table.D[i] == pytest.approx(exact.D, rel=1e-3)
    assert table.loss[i] == pytest.approx(exact.loss, rel=1e-6)
    assert (table.N_low[i], table.N_high[i]) == pytest.approx(exact.N_ci, rel=1e-3)
    assert (table.D_low[i], table.D_high[i]) == pytest.approx(exact.D_ci, rel=1e-3)
    assert table.tokens_per_parameter == pytest.approx(table.D / table.N)
    assert table.loss_low[i] < exact.loss_ci[0] < exact.loss_ci[1] < table.loss_high[i]  # a run scatters too
    for j in (0, 13, 20, 31, 40):
        n = table.ratio[j] * table.N[i]
        assert table.extra_compute[i, j] == pytest.approx(fit.regret(n, 1e21 / 6 / n), rel=0.01, abs=1e-4)
        assert table.loss_at[i, j] == pytest.approx(float(fit.predict(n, 1e21 / 6 / n)))
    assert table.ratio[20] == 1 and (np.diff(table.extra_compute, axis=1)[:, :20] < 0).all()


def test_a_13b_model_that_serves_2t_tokens_is_better_made_a_7b_one():
    """Sardana et al. 2024 (arXiv 2401.00448), section 3: it saves 1.7e22 FLOPs, 17 %."""
    fit, served = fitted(HOFFMANN), 2e12
    tokens = brentq(lambda d: fit.optimal(6 * 13e9 * d).N - 13e9, 1e10, 1e14)  # of Chinchilla's 13B
    loss, price = float(fit.predict(13e9, tokens)), 6 * 13e9 * tokens + 2 * 13e9 * served
    total = brentq(lambda c: float(table_of(fit, [c], served).loss[0]) - loss, price / 3, price)
    assert price - total == pytest.approx(1.7e22, rel=0.02) and 1 - total / price == pytest.approx(0.17, abs=0.01)
    best = table_of(fit, [total], served)
    assert best.N[0] == pytest.approx(7e9, rel=0.02) and best.D[0] > 2 * tokens
    assert regret(fit, 13e9, price, Cost.of_runs(N, D, 6 * N * D, served)) == pytest.approx(price / total - 1, rel=0.01)


def test_the_more_is_served_the_smaller_and_the_longer():
    fit = fitted(EPOCH)
    found = [table_of(fit, [1e22], served) for served in (0, 1e11, 1e12, 1e13, 1e14)]
    assert (np.diff([float(t.N[0]) for t in found]) < 0).all()
    assert (np.diff([float(t.tokens_per_parameter[0]) for t in found]) > 0).all()
    dear = table_of(fit, [1e22], 1e14)
    assert np.isnan(dear.extra_compute[0, -1])  # ten times that size could not even be served


def test_what_a_size_costs_is_what_its_runs_cost():
    sizes, per_token = np.array([1e5, 1e6, 1e7]), np.array([3e5, 5e6, 6e7])
    cost = Cost.of_runs(np.repeat(sizes, 2), np.tile([1e6, 2e6], 3), np.outer(per_token, [1e6, 2e6]).ravel())
    assert cost.per_token(sizes) == pytest.approx(per_token)
    assert cost.per_token([1e4, 1e8]) == pytest.approx([3e4, 6e8])  # beyond the runs in proportion
    assert cost.tokens(1e6, 1e13) == pytest.approx(2e6)
    surface = fitted(EPOCH)
    table = answer_table(surface, [1e16], cost, largest=1e16)
    assert cost.per_token(table.N) * table.D == pytest.approx(table.C)


def test_repetition_makes_larger_models_of_the_same_budget():
    p = {"E": 1.87, "A": 521, "B": 1488, "alpha": 0.35, "beta": 0.35}
    unique = np.full(len(D), 1e10)
    seen = np.minimum(D, unique)
    effective = np.where(D > seen, seen * (1 + 15 * -np.expm1(-(D / seen - 1) / 15)), D)
    loss = p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * effective ** -p["beta"]
    fit = fit_law(N, D, loss, law="data_constrained", objective="mse_log", U=seen)
    cost = Cost.of_runs(N, D, 6 * N * D)
    free = answer_table(fit, [1e22], cost, largest=6e22)
    bound = answer_table(fit, [1e22], cost, largest=6e22, U=1e10)
    assert bound.loss[0] > free.loss[0] and bound.N[0] > 1.2 * free.N[0]
    exact = fit.optimal(1e22, U=1e10)
    assert bound.N[0] == pytest.approx(exact.N, rel=2e-3)


def test_budgets_must_be_budgets():
    with pytest.raises(LawError, match="budgets"):
        table_of(fitted(EPOCH), [0.0])
