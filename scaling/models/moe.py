"""Mixture of experts, Mixtral style (Jiang et al. 2024, arXiv 2401.04088): `llama` with top-k routed gated MLPs.

Choices: the `top_k` experts of a token together have the units of one dense MLP, so that a size costs as much per token
as in `llama` while it holds n_experts / top_k times the MLP parameters. No token is dropped. A load-balancing term
(Fedus et al. 2021, arXiv 2101.03961, eq. 4) of weight `balance` a layer joins the gradients, never the reported loss;
of each micro-batch with its full weight, so `trainer.micro_batch` is not without effect here.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting import attention_flops, matmul_flops
from scaling.config import ConfigError
from scaling.models.base import Shape
from scaling.models.layers import linear, residual_scale
from scaling.models.llama import Attention, Block, Llama, units


class MoE(Llama):
    def __init__(
        self,
        shape: Shape,
        n_experts: int = 8,
        top_k: int = 2,
        balance: float = 0.01,
        queries_per_kv: int = 2,
        rope_base: float = 10_000.0,
    ) -> None:
        if not 1 <= top_k <= n_experts:
            raise ConfigError(f"family.options.top_k={top_k}: must be between 1 and n_experts={n_experts}")
        self.n_experts, self.top_k, self.balance = n_experts, top_k, balance
        super().__init__(shape, queries_per_kv, rope_base)

    def block(self, shape: Shape, queries_per_kv: int, rope_base: float) -> nn.Module:
        experts = Experts(shape, self.n_experts, self.top_k, self.balance)
        return Block(shape, Attention(shape, queries_per_kv, rope_base), experts)

    def idle(self) -> int:
        """Parameters of the experts that a token does not meet."""
        experts = sum(p.numel() for p in self.blocks.parameters() if p.ndim == 3)
        return experts * (self.n_experts - self.top_k) // self.n_experts

    def n_active(self) -> int:
        return super().n_active() - self.idle()

    def flops_per_token(self) -> float:
        s = self.shape
        matrices = sum(p.numel() for p in self.blocks.parameters() if p.ndim > 1) - self.idle()
        products = matmul_flops(matrices + s.d_model * s.vocab_size)
        return products + attention_flops(s.n_layers, s.seq_len, s.d_model)


class Experts(nn.Module):
    """(B, T, D) -> (B, T, D): each token through `top_k` of `n_experts` gated MLPs, weighted by the router."""

    def __init__(self, shape: Shape, n_experts: int, top_k: int, balance: float) -> None:
        super().__init__()
        self.n_experts, self.top_k, self.balance = n_experts, top_k, balance
        d, n_units = shape.d_model, -(-units(shape) // top_k)
        self.router = linear(d, n_experts)
        self.gate_up = nn.Parameter(torch.empty(n_experts, 2 * n_units, d))
        self.down = nn.Parameter(torch.empty(n_experts, d, n_units))
        nn.init.normal_(self.gate_up, std=1 / math.sqrt(d))
        nn.init.normal_(self.down, std=residual_scale(shape) / math.sqrt(n_units))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)  # (n, D)
        probability = self.router(tokens).softmax(-1, dtype=torch.promote_types(x.dtype, torch.float32))
        weight, expert = probability.topk(self.top_k)  # each (n, top_k)
        weight = weight / weight.sum(-1, keepdim=True)
        load = F.one_hot(expert, self.n_experts).sum((0, 1))  # assignments of each expert
        if self.balance and torch.is_grad_enabled():
            share = load / expert.numel()
            uneven = self.n_experts * (share * probability.mean(0)).sum()
            tokens = Priced.apply(tokens, self.balance * uneven)

        # one product an expert, over its tokens side by side
        order = expert.flatten().argsort(stable=True)
        parts = tokens.index_select(0, order // self.top_k).split(load.tolist())
        done = torch.cat([self.expert(*each) for each in zip(parts, self.gate_up, self.down, strict=True)])
        back = done.index_select(0, order.argsort()).view(-1, self.top_k, x.shape[-1])
        return (back * weight[..., None].to(back.dtype)).sum(1).view_as(x)

    @staticmethod
    def expert(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, down)


class Priced(torch.autograd.Function):
    """x, unchanged; its backward pass adds the gradient of `price` to that of whatever loss there is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, price: Tensor) -> Tensor:
        ctx.like = price.new_ones(())
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, ctx.like
