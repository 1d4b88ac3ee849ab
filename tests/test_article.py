"""The article's protocol: one model carried through all budgets, in runs that each stand on their own."""

from itertools import pairwise

import pytest

from scaling import records
from scaling.config import ConfigError
from scaling.training import curve, session

LADDER = ["ladder=[5000,10000,20000]", "schedule=constant", "schedule.warmup=0", "optim.lr=1e-3"]


def trained(config):
    assert session.run(config).status == "finished"
    record = records.read(config.run_dir)
    text = (config.run_dir / curve.FILE).read_text().splitlines()[1:]
    return record, {int(line.split(",")[0]): float(line.split(",")[3]) for line in text}


def test_a_rung_carries_on_the_weights_and_optimizer_of_those_below(small):
    """20k after 5k and 10k is the last stretch of one run of 4 + 9 + 19 steps, and its loss is the mean over it."""
    rung, _ = trained(small(*LADDER, "tokens.budget=20000"))
    whole, rows = trained(small(*LADDER[1:], f"tokens.budget={32 * 1024}"))
    assert (rung.tokens_before, rung.tokens, rung.tokens_budget) == (13 * 1024, 19 * 1024, 20000)
    assert rung.flops == rung.flops_per_token * rung.tokens
    assert rung.loss_val == whole.loss_val  # bit for bit the same weights
    assert (rung.eval, whole.eval) == ("train", "slice")
    # the plain run's windows, those that lie inside the last stretch
    steps = sorted(rows)
    inside = [(b - a, rows[b]) for a, b in pairwise(steps) if a >= 13]
    assert rung.loss_train == pytest.approx(sum(n * x for n, x in inside) / sum(n for n, _ in inside), abs=0.05)


def test_the_first_rung_is_a_fresh_run(small):
    rung, _ = trained(small(*LADDER, "tokens.budget=5000"))
    fresh, rows = trained(small(*LADDER[1:], "tokens.budget=5000"))
    assert rung.tokens_before == 0 and rung.loss_val == fresh.loss_val
    assert rung.loss_train == pytest.approx(sum(rows.values()) / 4)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["tokens.budget=7000"], "tokens.budget=7000: must be a rung"),
        (["tokens.budget=5000", "schedule=wsd"], "schedule.kind=wsd: a ladder takes schedule=constant"),
        (["tokens.budget=5000", "ladder=[10000,5000]"], "must be rising"),
        (["tokens.budget=5000", "optim.lr=null", "optim.lr_rule.tokens=-0.1"], "optim.lr_rule.tokens=-0.1"),
    ],
)
def test_a_ladder_that_would_not_carry_on_is_refused(small, overrides, named):
    with pytest.raises(ConfigError) as error:
        small(*LADDER, *overrides)
    assert named in str(error.value)


def test_the_preset_is_the_grid_of_the_frontier(hydra_conf):
    for tokens in ("5k", "1M"):
        config = hydra_conf("experiment=article", f"tokens={tokens}")
        assert config.study == "article"
    assert config.tokens_before == sum(b // 1024 * 1024 for b in config.ladder[:-1])
