"""Layers that several families are made of. H heads of size E; other letters as in `base`."""

import math

from torch import nn

from scaling.models.base import Shape


def linear(d_in: int, d_out: int, scale: float = 1.0, bias: bool = False) -> nn.Linear:
    """A projection that starts normal with std scale / sqrt(d_in), its bias at zero."""
    layer = nn.Linear(d_in, d_out, bias=bias)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(d_in))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def table(n: int, d: int) -> nn.Embedding:
    """n vectors that start normal with std 0.02."""
    layer = nn.Embedding(n, d)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def head(shape: Shape) -> nn.Linear:
    """(B, T, D) -> (B, T, V) without bias, std 0.02."""
    layer = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def residual_scale(shape: Shape) -> float:
    """For the two matrices a layer writes to the residual stream with, so that depth does not add up (GPT-2)."""
    return 1 / math.sqrt(2 * shape.n_layers)
