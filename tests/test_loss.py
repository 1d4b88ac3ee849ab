"""The blocked loss against torch's own cross-entropy: value, gradients, range, precision."""

import math

import pytest
import torch
import torch.nn.functional as F

from scaling.kernels.build import library, why_not
from scaling.training import loss
from scaling.training.loss import lm_loss


@pytest.fixture(autouse=True, params=["kernel", "torch"])
def way(request, monkeypatch):
    """Both ways to the same loss; the kernel takes fp32 alone, and widths that fill its vectors."""
    if request.param == "kernel" and library() is None:
        pytest.skip(why_not())
    if request.param == "torch":
        monkeypatch.setattr(loss, "head_loss", lambda *_: None)


def problem(n=6, t=35, d=24, vocab=4096, scale=1.0, dtype=torch.float32):
    """Hidden states, head and targets; 210 tokens, so that the last block is a ragged one."""
    generator = torch.Generator().manual_seed(n * t)
    hidden = torch.randn(n, t, d, generator=generator, dtype=dtype) * scale
    head = torch.randn(vocab, d, generator=generator, dtype=dtype) / d**0.5
    targets = torch.randint(vocab, (n, t), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


def reference(hidden, head, targets):
    """Loss and gradients by torch, in double precision."""
    h, w = hidden.detach().double().requires_grad_(), head.detach().double().requires_grad_()
    value = F.cross_entropy(F.linear(h, w).flatten(0, 1), targets.flatten())
    value.backward()
    return value.item(), h.grad, w.grad


@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["usual", "confident"])
@pytest.mark.parametrize("vocab", [37, 256, 4096, 50_000])
def test_value_and_gradients_are_those_of_cross_entropy(vocab, scale):
    hidden, head, targets = problem(vocab=vocab, scale=scale)
    value = lm_loss(hidden, head, targets)
    value.backward()
    expected, d_hidden, d_head = reference(hidden, head, targets)
    assert value.item() == pytest.approx(expected, rel=3e-7)
    for got, exact in ((hidden.grad, d_hidden), (head.grad, d_head)):
        assert (got - exact).abs().max() < 4e-6 * exact.abs().max()


@pytest.mark.parametrize("scale", [300.0, 1e4], ids=["beyond 1e20", "beyond fp32"])
def test_logits_whose_exponentials_overflow(scale):
    hidden, head, targets = problem(d=8, scale=scale)
    value = lm_loss(hidden, head, targets)
    value.backward()
    expected, d_hidden, d_head = reference(hidden, head, targets)
    assert expected > 500
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(hidden.grad.double(), d_hidden, atol=1e-3 * d_hidden.abs().max())
    assert torch.allclose(head.grad.double(), d_head, atol=1e-3 * d_head.abs().max())


def test_logits_whose_exponentials_all_vanish():
    hidden, head, targets = problem(d=8)
    with torch.no_grad():
        hidden[..., 0], head[..., 0] = 30.0, -30.0  # every logit is near -900
    value = lm_loss(hidden, head, targets)
    assert value.item() == pytest.approx(reference(hidden, head, targets)[0], rel=1e-5)


@pytest.mark.parametrize("block", [1, 64 * 11, 1 << 19])
def test_gradients_are_those_of_finite_differences(monkeypatch, block):
    monkeypatch.setattr(loss, "BLOCK", block)
    hidden, head, targets = problem(n=3, t=30, d=3, vocab=11, dtype=torch.float64)
    assert torch.autograd.gradcheck(lm_loss, (hidden, head, targets))


def test_the_gradient_follows_what_is_done_with_the_loss():
    hidden, head, targets = problem()
    (lm_loss(hidden, head, targets) * -3.5).backward()
    _, d_hidden, d_head = reference(hidden, head, targets)
    torch.testing.assert_close(hidden.grad, (-3.5 * d_hidden).float(), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(head.grad, (-3.5 * d_head).float(), rtol=1e-4, atol=1e-8)


def test_a_head_tied_to_the_table_gets_both_gradients():
    hidden, head, targets = problem(vocab=64)
    table = torch.nn.Parameter(head.detach().clone())
    lm_loss(hidden.detach() + F.embedding(targets, table), table, targets).backward()
    tied = torch.nn.Parameter(head.detach().clone())
    logits = F.linear(hidden.detach() + F.embedding(targets, tied), tied)
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    torch.testing.assert_close(table.grad, tied.grad, rtol=1e-4, atol=1e-7)


def test_evaluation_takes_the_same_loss_and_no_gradient():
    hidden, head, targets = problem()
    trained = lm_loss(hidden, head, targets)
    with torch.no_grad():
        evaluated = lm_loss(hidden, head, targets)
    assert evaluated.item() == trained.item() and not evaluated.requires_grad
    assert lm_loss(hidden.detach(), head.detach(), targets).item() == trained.item()


def test_a_uniform_guess_costs_log_vocabulary():
    hidden, head, targets = problem(vocab=4096)
    assert lm_loss(hidden * 0, head, targets).item() == pytest.approx(math.log(4096), rel=1e-7)


def test_a_loss_that_is_not_a_number_stays_one():
    hidden, head, targets = problem()
    with torch.no_grad():
        hidden[0, 0, 0] = float("nan")
    assert math.isnan(lm_loss(hidden, head, targets).item())


def test_bf16_autocast_keeps_the_softmax_in_fp32():
    hidden, head, targets = problem(d=64)
    with torch.autocast("cpu", torch.bfloat16):
        value = lm_loss(hidden, head, targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(reference(hidden, head, targets)[0], rel=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")
def test_the_loss_on_a_gpu():
    hidden, head, targets = problem()
    value = lm_loss(hidden.cuda(), head.cuda(), targets.cuda())
    assert value.item() == pytest.approx(reference(hidden, head, targets)[0], rel=1e-6)
