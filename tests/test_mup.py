"""Under muP a rate does to a wide model what it does to a narrow one; without, wide models move more."""

import numpy as np
import pytest
import torch

from scaling.config import ConfigError
from scaling.models.base import Shape, build
from scaling.training.loss import lm_loss
from scaling.training.optim import build_optimizer, prepare

WIDTHS = (32, 64, 128, 256)
FAMILIES = ("tiny", "llama", "moe", "lstm", "mamba")


def moved(hydra_conf, family, optim, width, steps=4):
    """How far a few steps move the hidden states and the logits, root mean square."""
    config = hydra_conf(f"family={family}", f"optim={optim}", "seq_len=16", "eval_tokens=16")
    torch.manual_seed(0)
    model = build(config.family, Shape(width, 4 * width, 1, width // 16, 64, 16))
    prepare(model, config.optim)
    optimizer = build_optimizer(model, config.optim, lr=0.01)
    ids = torch.randint(64, (4, 17))
    with torch.no_grad():
        before = model(ids[:, :-1]), model.logits(ids[:, :-1])
    for _ in range(steps):
        lm_loss(model(ids[:, :-1]), model.head.weight, ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = model(ids[:, :-1]), model.logits(ids[:, :-1])
    return [(a - b).square().mean().sqrt().item() for a, b in zip(after, before, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_coordinates_keep_their_size_over_widths(hydra_conf, family):
    """The coordinate check of Yang et al. 2022, appendix D.1: slopes of log size over log width."""

    def slopes(optim):
        sizes = np.array([moved(hydra_conf, family, optim, width) for width in WIDTHS])
        return np.polyfit(np.log(WIDTHS), np.log(sizes), 1)[0]

    hidden, logits = slopes("mup")
    assert abs(hidden) < 0.2 and abs(logits) < 0.35
    assert slopes("adamw")[1] > 0.25


def test_at_the_base_width_it_is_the_same_as_without(hydra_conf):
    at = ("model.d_model=64", "model.n_heads=4")
    mup, plain = hydra_conf("optim=mup", *at), hydra_conf("optim=adamw", *at)
    assert mup.lr == plain.lr and mup.run_hash != plain.run_hash
    for config in (mup, plain):
        torch.manual_seed(0)
        model = build(config.family, Shape.of(config, 64))
        start = model.head.weight.clone()
        prepare(model, config.optim)
        assert torch.equal(model.head.weight, start)
        assert {group["lr"] for group in build_optimizer(model, config.optim, config.lr).param_groups} == {config.lr}


def test_a_tied_head_is_refused(hydra_conf):
    config = hydra_conf("optim=mup", "family.options.tied=true")
    with pytest.raises(ConfigError, match="^optim.mup_width=64: a head tied"):
        prepare(build(config.family, Shape.of(config, 64)), config.optim)
