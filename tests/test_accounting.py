"""Parameters against the closed form, FLOPs against torch's own counter."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import steps_within
from scaling.kernels import ops
from scaling.models.base import Shape, build, build_meta
from scaling.training.loss import lm_loss

FAMILIES = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "family").iterdir())


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


def closed_form(family, s):
    """(parameters of the layers between table and head, of them idle for a token), by hand."""
    d, layers, norm = s.d_model, s.n_layers, s.d_model
    if family == "lstm":
        return layers * (8 * d * d + 8 * d) + 2 * d, 0
    if family == "mamba":
        k, states, rank = 2 * d, 16, -(-d // 16)
        products = d * 2 * k + k * (rank + 2 * states) + rank * k + k * d
        return 2 * layers * (norm + products + k * 4 + k + k + k * states + k) + norm, 0  # filter, 2 biases, A, skip
    kv = d * max(1, s.n_heads // 2) // s.n_heads
    attention = 2 * d * d + 2 * d * kv
    mlp = 3 * d * -(-2 * s.d_mlp // 3 // 8) * 8
    if family == "llama":
        return layers * (attention + mlp + 2 * norm) + norm, 0
    return layers * (attention + 8 * d + 4 * mlp + 2 * norm) + norm, layers * 3 * mlp  # 8 experts of half an MLP


@pytest.mark.parametrize("size", ["d16_l1", "d48_l2", "d128_l4"])
@pytest.mark.parametrize("family", ["llama", "moe", "lstm", "mamba"])
def test_counts_are_the_closed_form(hydra_conf, family, size):
    config = hydra_conf(f"model={size}", f"family={family}")
    s = shape_of(config)
    counts = build_meta(config.family, s).counts()
    layers, idle = closed_form(family, s)
    assert counts.n_non_embedding == layers
    assert counts.n_embedding == counts.n_head == s.vocab_size * s.d_model
    assert counts.n_active == counts.n_total - idle


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("size", ["d16_l1", "d32_l2", "d64_l3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_flops_are_those_that_torch_counts(hydra_conf, family, size, monkeypatch):
    monkeypatch.setattr(ops, "library", lambda: None)  # the counter sees torch's products alone
    config = hydra_conf(f"model={size}", f"family={family}")
    s = shape_of(config, vocab_size=300)
    model = build(config.family, s)
    ids = torch.randint(300, (2, s.seq_len + 1))
    # the math kernel is made of plain products; the fused one recomputes scores in its backward pass
    plain = sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False)
    with plain[0], plain[1], FlopCounterMode(display=False) as counter:
        lm_loss(model(ids[:, :-1]), model.head.weight, ids[:, 1:]).backward()
    unseen = {
        # filters and scan are no matrix products: 4 and 3 x 16 multiply-adds a channel, backward twice that
        "mamba": 2 * s.n_layers * 2 * s.d_model * 6 * (4 + 3 * 16),
        # nobody asks for the gradient by the state before the first token
        "lstm": s.n_layers * 8 * s.d_model**2 / s.seq_len,
    }.get(family, 0)
    assert counter.get_total_flops() == (model.flops_per_token() - unseen) * 2 * s.seq_len


def test_whole_steps_within_the_budget():
    assert steps_within(5_000, 16, 64) == 4
    assert steps_within(1_000_000, 16, 64) == 976
    assert steps_within(1023, 16, 64) == 0
