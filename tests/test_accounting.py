"""Parameters against the closed form, FLOPs against torch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import steps_within
from scaling.models.base import Shape, build, build_meta
from scaling.training.loss import lm_loss


def shape_of(config, vocab_size=4096):
    return Shape.of(config, vocab_size)


@pytest.mark.parametrize("size", ["d16_l1", "d48_l2", "d128_l4"])
@pytest.mark.parametrize("tied", [False, True])
def test_tiny_counts_are_the_closed_form(hydra_conf, size, tied):
    config = hydra_conf(f"model={size}", f"family.options.tied={tied}")
    s = shape_of(config)
    d, v, layers = s.d_model, s.vocab_size, s.n_layers
    counts = build_meta(config.family, s).counts()
    norms_and_biases = layers * (4 * d + 4 * d + s.d_mlp + d) + 2 * d
    assert counts.n_non_embedding == layers * (4 * d * d + 2 * d * s.d_mlp) + norms_and_biases
    assert counts.n_embedding == v * d + s.seq_len * d
    assert counts.n_head == (0 if tied else v * d)
    assert counts.n_total == counts.n_non_embedding + counts.n_embedding + counts.n_head == counts.n_active
    # Kaplan's 12 L d^2 for d_mlp = 4 d, up to norms and biases
    assert counts.n_non_embedding - norms_and_biases == 12 * layers * d * d


@pytest.mark.parametrize("size", ["d16_l1", "d32_l2", "d64_l3"])
def test_flops_are_those_that_torch_counts(hydra_conf, size):
    config = hydra_conf(f"model={size}")
    s = shape_of(config, vocab_size=300)
    model = build(config.family, s)
    ids = torch.randint(300, (2, s.seq_len + 1))
    # the math kernel is made of plain products; the fused one recomputes scores in its backward pass
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        lm_loss(model(ids[:, :-1]), model.head.weight, ids[:, 1:]).backward()
    assert counter.get_total_flops() == model.flops_per_token() * 2 * s.seq_len


def test_whole_steps_within_the_budget():
    assert steps_within(5_000, 16, 64) == 4
    assert steps_within(1_000_000, 16, 64) == 976
    assert steps_within(1023, 16, 64) == 0
