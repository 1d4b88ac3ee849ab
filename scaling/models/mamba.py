"""Mamba (Gu & Dao 2023, arXiv 2312.00752): blocks of a short convolution and a selective state space, in plain torch.

Choices: two blocks a layer, which hold about as much as attention and an MLP (section 3.4 there), so `d_mlp` and
`n_heads` of a size say nothing here; rank of the step sizes D / 16, steps start between 0.001 and 0.1, A at -1..-S;
RMSNorm, no biases but those of the convolution and the steps, the head is its own matrix.
K inner channels (`expand` times D), S states a channel.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting import matmul_flops, scan_flops
from scaling.models.base import LanguageModel, Shape
from scaling.models.layers import head, linear, residual_scale, table

EPS = 1e-5
STEPS = (1e-3, 1e-1)


class Mamba(LanguageModel):
    not_matrices: ClassVar[tuple[str, ...]] = ("conv", "log_a")

    def __init__(self, shape: Shape, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__(shape)
        self.d_state, self.d_inner = d_state, expand * shape.d_model
        self.tokens = table(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape, d_state, d_conv, self.d_inner) for _ in range(2 * shape.n_layers))
        self.norm = nn.RMSNorm(shape.d_model, EPS)
        self.head = head(shape)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def flops_per_token(self) -> float:
        matrices = sum(m.weight.numel() for m in self.blocks.modules() if isinstance(m, nn.Linear))
        filters = sum(m.conv.numel() for m in self.blocks.modules() if isinstance(m, Block))
        products = matmul_flops(matrices + filters + self.head.weight.numel())
        return products + scan_flops(len(self.blocks), self.d_inner, self.d_state)


class Block(nn.Module):
    """x + out(scan(silu(conv(u))) * silu(z)), u and z projections of norm(x); (B, T, D) -> (B, T, D)."""

    def __init__(self, shape: Shape, d_state: int, d_conv: int, k: int) -> None:
        super().__init__()
        d, rank = shape.d_model, math.ceil(shape.d_model / 16)
        self.sizes = (rank, d_state, d_state)
        self.norm = nn.RMSNorm(d, EPS)
        self.inside = linear(d, 2 * k)
        self.conv = nn.Parameter(torch.empty(k, d_conv).uniform_(-(d_conv**-0.5), d_conv**-0.5))
        self.conv_bias = nn.Parameter(torch.zeros(k))
        self.select = linear(k, sum(self.sizes))
        self.step = nn.Linear(rank, k)
        self.log_a = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(k, 1))  # (K, S)
        self.skip = nn.Parameter(torch.ones(k))
        self.out = linear(k, d, residual_scale(shape))
        nn.init.uniform_(self.step.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():  # softplus(bias) is log-uniform over STEPS
            low, high = (math.log(step) for step in STEPS)
            step = torch.empty(k).uniform_(low, high).exp()
            self.step.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.inside(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(causal_conv(u, self.conv) + self.conv_bias)
        step, b, c = self.select(u).split(self.sizes, dim=-1)
        step = F.softplus(self.step(step))  # (B, T, K)
        y = selective_scan(u, step, -self.log_a.exp(), b, c) + self.skip * u
        return x + self.out(y * F.silu(z))


def causal_conv(x: Tensor, filters: Tensor) -> Tensor:
    """x (B, T, K), filters (K, W) -> (B, T, K): each channel with its own filter over the last W positions."""
    width, length = filters.shape[1], x.shape[1]
    padded = F.pad(x, (0, 0, width - 1, 0))
    return torch.stack([padded[:, j : j + length] * filters[:, j] for j in range(width)]).sum(0)


def selective_scan(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """u, step (B, T, K), a (K, S), b, c (B, T, S) -> y (B, T, K).

    h_t = exp(step_t a) h_{t-1} + step_t u_t b_t from h = 0, and y_t = c_t h_t; the state h is (K, S).
    """
    decay = (step[..., None] * a).exp()
    inputs = (step * u)[..., None] * b[..., None, :]
    h = Recurrence.apply(decay, inputs)
    return (h * c[..., None, :]).sum(-1)


class Recurrence(torch.autograd.Function):
    """h_t = decay_t h_{t-1} + inputs_t over dimension 1, from h = 0; keeps decay and h alone for its gradients."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, inputs: Tensor) -> Tensor:
        h = scan(decay, inputs)
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        decay, h = ctx.saved_tensors
        later = torch.cat([decay[:, 1:], torch.zeros_like(decay[:, :1])], dim=1)
        d_inputs = scan(later.flip(1), gradient.flip(1)).flip(1)  # g_t = gradient_t + decay_{t+1} g_{t+1}
        d_decay = torch.empty_like(h)
        d_decay[:, 0] = 0
        torch.mul(d_inputs[:, 1:], h[:, :-1], out=d_decay[:, 1:])
        return d_decay, d_inputs


def scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """The recurrence in about 2 sqrt(T) steps: chunks of sqrt(T) positions side by side, then their carries in turn.

    (B, T, …) each; T without a divisor near its root only takes more steps.
    """
    batch, length, *rest = inputs.shape
    chunk = max(n for n in range(1, math.isqrt(length) + 1) if length % n == 0)
    a, x = (part.reshape(batch, length // chunk, chunk, *rest) for part in (decay, inputs))
    h, carried = torch.empty_like(x), torch.empty_like(a)  # from zero at each chunk; what a chunk leaves of its carry
    h[:, :, 0], carried[:, :, 0] = x[:, :, 0], a[:, :, 0]
    for t in range(1, chunk):
        torch.addcmul(x[:, :, t], a[:, :, t], h[:, :, t - 1], out=h[:, :, t])
        torch.mul(a[:, :, t], carried[:, :, t - 1], out=carried[:, :, t])
    for n in range(1, length // chunk):
        h[:, n].addcmul_(carried[:, n], h[:, n - 1, -1:])
    return h.view_as(inputs)
