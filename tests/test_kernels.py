"""The C++ kernels against torch's own functions in double precision, and what happens without a compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scaling.kernels import build, ops
from scaling.training.loss import lm_loss

needs_compiler = pytest.mark.skipif(build.library() is None, reason=build.why_not())
WIDTHS = [16, 32, 48]  # 48 is a vector and a half where vectors have 16 numbers


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def close(got, exact, tolerance=2e-6):
    assert got.dtype == torch.float32
    assert (got - exact).norm() <= tolerance * exact.norm()


def gradients(function, *inputs):
    """The result, and a fixed direction's gradients by all inputs."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs)
    direction = torch.sin(torch.arange(out.numel(), dtype=torch.float64)).view(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, direction)]


@needs_compiler
def test_a_kernel_is_what_runs():
    x = torch.randn(2, 8, 3, 2, 16, requires_grad=True)
    assert "Attention" in type(ops.causal_attention(x).grad_fn).__name__
    up, down = nn.Linear(16, 64), nn.Linear(64, 16)
    assert "GeluMLP" in type(ops.gelu_mlp(torch.randn(2, 8, 16), up, down).grad_fn).__name__
    assert ops.head_loss(torch.randn(9, 16), torch.randn(50, 16), torch.arange(9), True) is not None


@pytest.mark.parametrize("d", [*WIDTHS, 20], ids=lambda d: f"d{d}")
@pytest.mark.parametrize("t", [1, 7, 64, 200, 300])
def test_attention_looks_back_alone(t, d):
    qkv = torch.randn(2, t, 3, 3, d, generator=torch.Generator().manual_seed(t + d)) * 2

    def plain(x):
        q, k, v = (part.transpose(1, 2) for part in x.unbind(2))
        scores = (q @ k.transpose(-1, -2) / d**0.5).masked_fill(torch.ones(t, t).triu(1).bool(), -torch.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    for got, exact in zip(gradients(ops.causal_attention, qkv), gradients(plain, qkv.double()), strict=True):
        close(got, exact)


def test_attention_to_one_far_ahead_of_the_others():
    """Scores of +-1000: the sums of exponentials are taken relative to their maximum."""
    qkv = torch.randn(1, 20, 3, 1, 32, generator=torch.Generator().manual_seed(0))
    qkv[:, :, :2] *= 20
    q, k, v = (part.transpose(1, 2) for part in qkv.double().unbind(2))
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    close(ops.causal_attention(qkv), exact, 1e-4)


@pytest.mark.parametrize("width", [64, 192, 20])
def test_the_mlp_is_its_two_layers_and_a_gelu(width):
    torch.manual_seed(width)
    up, down = nn.Linear(48, width), nn.Linear(width, 48)
    x = torch.randn(3, 11, 48) * 3

    def mlp(x, *weights):
        layers = dict(zip(("up.weight", "up.bias", "down.weight", "down.bias"), weights, strict=True))
        return torch.func.functional_call(Both(up, down), layers, (x,))

    def plain(x, w1, b1, w2, b2):
        return F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)

    weights = [up.weight, up.bias, down.weight, down.bias]
    got, exact = gradients(mlp, x, *weights), gradients(plain, x.double(), *(w.double() for w in weights))
    for one, other in zip(got, exact, strict=True):
        close(one, other)


class Both(nn.Module):
    def __init__(self, up, down):
        super().__init__()
        self.up, self.down = up, down

    def forward(self, x):
        return ops.gelu_mlp(x, self.up, self.down)


@needs_compiler
@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize(("n", "vocab"), [(1, 16), (5, 37), (100, 300), (250, 4096), (200, 4099)])
def test_the_loss_and_both_gradients(n, vocab, d):
    generator = torch.Generator().manual_seed(n)
    hidden, head = torch.randn(n, d, generator=generator), torch.randn(vocab, d, generator=generator) / d**0.5
    targets = torch.randint(vocab, (n,), generator=generator)
    h, w = hidden.double().requires_grad_(), head.double().requires_grad_()
    exact = F.cross_entropy(h @ w.t(), targets)
    exact.backward()
    loss, d_hidden, d_head = ops.head_loss(hidden, head, targets, True)
    assert loss.item() == pytest.approx(exact.item(), rel=5e-7)
    close(d_hidden, h.grad)
    close(d_head, w.grad)
    assert ops.head_loss(hidden, head, targets, False)[0].item() == pytest.approx(exact.item(), rel=5e-7)


@needs_compiler
def test_logits_out_of_range_and_numbers_that_are_none_are_handed_on():
    hidden, targets = torch.ones(10, 32), torch.zeros(10, dtype=torch.int64)
    assert ops.head_loss(hidden, torch.full((50, 32), 3.0), targets, True) is None  # e^96
    assert ops.head_loss(hidden, torch.full((50, 32), -3.0), targets, True) is None
    assert ops.head_loss(hidden * torch.nan, torch.ones(50, 32), targets, True) is None


@needs_compiler
@pytest.mark.parametrize("target", [-1, 50, 1 << 40])
def test_a_target_outside_the_vocabulary_is_refused_by_torch_not_written_to(target):
    hidden, head = torch.randn(10, 32, requires_grad=True), torch.randn(50, 32)
    assert ops.head_loss(hidden, head, torch.full((10,), target), True) is None
    with pytest.raises((RuntimeError, IndexError)):
        lm_loss(hidden[None], head, torch.full((1, 10), target))


@needs_compiler
def test_it_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    made = build._built()
    when = made.stat().st_mtime_ns
    assert build._built() == made and made.stat().st_mtime_ns == when
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_without_a_compiler_torch_does_it_and_that_is_said(tmp_path):
    code = (
        "import torch; from scaling.kernels import build, ops; x = torch.randn(2, 8, 3, 2, 16, requires_grad=True); "
        "print(build.why_not()); print(type(ops.causal_attention(x).grad_fn).__name__)"
    )
    env = {"PATH": "/usr/bin:/bin", "CXX": "no-such-compiler", "SCALING_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=root)
    said, kind = done.stdout.splitlines()
    assert said == "with torch's own kernels, slower: no-such-compiler compiles no C++ here"
    assert kind != "AttentionBackward"
