"""Llama style (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, rotary positions, SwiGLU, grouped-query attention.

Choices: no biases, no position table, the head is its own matrix; the gated MLP has 2/3 of `d_mlp` units (rounded up to
a multiple of 8), so that its three matrices hold about as much as the two of `tiny`; `queries_per_kv` query heads
share a key and a value (Ainslie et al. 2023, arXiv 2305.13245), where there are so many. Starts as `tiny` does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting import attention_flops, matmul_flops
from scaling.config import ConfigError
from scaling.models.base import LanguageModel, Shape
from scaling.models.layers import head, linear, residual_scale, table

EPS = 1e-6


class Llama(LanguageModel):
    def __init__(self, shape: Shape, queries_per_kv: int = 2, rope_base: float = 10_000.0) -> None:
        super().__init__(shape)
        self.tokens = table(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(self.block(shape, queries_per_kv, rope_base) for _ in range(shape.n_layers))
        self.norm = nn.RMSNorm(shape.d_model, EPS)
        self.head = head(shape)

    def block(self, shape: Shape, queries_per_kv: int, rope_base: float) -> nn.Module:
        return Block(shape, Attention(shape, queries_per_kv, rope_base), GatedMLP(shape, units(shape)))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def flops_per_token(self) -> float:
        s = self.shape
        matrices = sum(p.numel() for p in self.blocks.parameters() if p.ndim == 2)
        products = matmul_flops(matrices + s.d_model * s.vocab_size)
        return products + attention_flops(s.n_layers, s.seq_len, s.d_model)


def units(shape: Shape) -> int:
    """Units of a gated MLP with as many parameters as an ungated one of `d_mlp`."""
    return -(-2 * shape.d_mlp // 3 // 8) * 8


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (B, T, D) -> (B, T, D)."""

    def __init__(self, shape: Shape, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.norm_attention = nn.RMSNorm(shape.d_model, EPS)
        self.attention = attention
        self.norm_mlp = nn.RMSNorm(shape.d_model, EPS)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class Attention(nn.Module):
    """Causal attention of H query heads over G <= H key-value heads, rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, queries_per_kv: int, rope_base: float) -> None:
        super().__init__()
        d, self.n_heads = shape.d_model, shape.n_heads
        self.d_head, self.rope_base = d // self.n_heads, rope_base
        self.n_kv = max(1, self.n_heads // max(1, queries_per_kv))
        if queries_per_kv < 1 or self.n_heads % self.n_kv:
            raise ConfigError(
                f"family.options.queries_per_kv={queries_per_kv}: model.n_heads={self.n_heads} "
                "query heads cannot be shared out so; it must divide them"
            )
        if self.d_head % 2:
            raise ConfigError(f"model.d_model={d}: rotary positions need heads of even size, not {self.d_head}")
        self.qkv = linear(d, (self.n_heads + 2 * self.n_kv) * self.d_head)
        self.out = linear(d, d, residual_scale(shape))
        cos, sin = rotations(shape.seq_len, self.d_head, rope_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        heads = self.qkv(x).view(b, t, -1, self.d_head).transpose(1, 2)  # (B, H + 2 G, T, E)
        q, k, v = heads.split((self.n_heads, self.n_kv, self.n_kv), dim=1)
        q, k = self.rotate(q), self.rotate(k)
        if self.n_kv < self.n_heads:
            k, v = (part.repeat_interleave(self.n_heads // self.n_kv, dim=1) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(b, t, d))

    def rotate(self, x: Tensor) -> Tensor:
        """(B, heads, T, E): pairs (i, i + E/2) turned by an angle that grows with their position."""
        t = x.shape[2]
        first, second = x.chunk(2, dim=-1)
        return x * self.cos[:t] + torch.cat((-second, first), dim=-1) * self.sin[:t]


def rotations(seq_len: int, d_head: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin (T, E) of position * base^(-2i/E) (Su et al. 2021, arXiv 2104.09864), halves repeated."""
    rates = base ** (-torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    angles = (torch.arange(seq_len, dtype=torch.float32)[:, None] * rates).repeat(1, 2)
    return angles.cos(), angles.sin()


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, shape: Shape, n_units: int) -> None:
        super().__init__()
        self.gate_up = linear(shape.d_model, 2 * n_units)
        self.down = linear(n_units, shape.d_model, residual_scale(shape))

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
