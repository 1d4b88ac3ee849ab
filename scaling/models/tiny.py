"""The article's tiny transformer, GPT-2 style: learned positions, pre-LN blocks, GELU MLP, causal attention.

Choices: biases everywhere but the head; exact GELU, which costs half of the tanh form on a CPU; no dropout, since
under one epoch it only costs; matrices start normal with std 1/sqrt(fan_in), the two that write to the residual
stream a further 1/sqrt(2 n_layers) smaller (GPT-2), tables with std 0.02; the head is its own matrix unless `tied`.
"""

import math

from torch import Tensor, nn

from scaling.accounting import attention_flops, matmul_flops
from scaling.kernels.ops import causal_attention, gelu_mlp
from scaling.models.base import LanguageModel, Shape


class Tiny(LanguageModel):
    def __init__(self, shape: Shape, tied: bool = False) -> None:
        super().__init__(shape)
        d = shape.d_model
        self.tokens = nn.Embedding(shape.vocab_size, d)
        self.positions = nn.Embedding(shape.seq_len, d)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, shape.vocab_size, bias=False)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        assert self.positions is not None
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def flops_per_token(self) -> float:
        s = self.shape
        block_weights = 4 * s.d_model**2 + 2 * s.d_model * s.d_mlp
        products = matmul_flops(s.n_layers * block_weights + s.d_model * s.vocab_size)
        return products + attention_flops(s.n_layers, s.seq_len, s.d_model)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (B, T, D) -> (B, T, D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.d_model
        self.n_heads = shape.n_heads
        self.norm_attention = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm_mlp = nn.LayerNorm(d)
        self.up = nn.Linear(d, shape.d_mlp)
        self.down = nn.Linear(shape.d_mlp, d)
        residual = 1 / math.sqrt(2 * shape.n_layers)
        for linear, scale in ((self.qkv, 1), (self.out, residual), (self.up, 1), (self.down, residual)):
            nn.init.normal_(linear.weight, std=scale / math.sqrt(linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(b, t, 3, self.n_heads, d // self.n_heads)
        x = x + self.out(causal_attention(qkv))
        return x + gelu_mlp(self.norm_mlp(x), self.up, self.down)
