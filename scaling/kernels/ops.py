"""The kernels as functions of tensors, with their gradients."""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scaling.kernels.build import library


def causal_attention(qkv: Tensor) -> Tensor:
    """qkv (B, T, 3, heads, d) -> (B, T, heads * d): softmax(q k' / sqrt(d)) v over the past."""
    b, t, _, heads, d = qkv.shape
    lib = _kernels(qkv, d)
    if lib and t <= lib.attention_max_t():
        out: Tensor = Attention.apply(qkv)
        return out
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, heads, T, d)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, heads * d)


def gelu_mlp(x: Tensor, up: nn.Linear, down: nn.Linear) -> Tensor:
    """x (B, T, D) -> down(gelu(up(x))), with the exact GELU."""
    if not _kernels(x, up.out_features):
        return down(F.gelu(up(x)))
    out: Tensor = GeluMLP.apply(x, up.weight, up.bias, down.weight, down.bias)
    return out


def head_loss(hidden: Tensor, head: Tensor, targets: Tensor, gradients: bool) -> tuple[Tensor, Tensor, Tensor] | None:
    """hidden (n, D), head (V, D), targets (n,) -> mean cross-entropy, and its gradients by hidden and by head.

    None where the kernel does not apply, or logits (of plain exponentials) or targets (of V) are out of range.
    """
    (n, d), vocab = hidden.shape, len(head)
    lib = _kernels(hidden, d)
    if not lib or head.dtype != hidden.dtype:
        return None
    hidden, head, targets = hidden.contiguous(), head.detach().contiguous(), targets.contiguous()
    losses = hidden.new_empty(n)
    d_hidden, d_head = (torch.empty_like(hidden), torch.empty_like(head)) if gradients else hidden.new_empty(2, 0)
    out = (losses, d_hidden, d_head) if gradients else (losses, None, None)
    unsafe = lib.head_loss(*_at(hidden, head, targets), *_ints(n, vocab, d), _threads(n), *_at(*out))
    return None if unsafe else (losses.mean(), d_hidden, d_head)


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        qkv = qkv.contiguous()
        b, t, _, heads, d = qkv.shape
        out, lse = qkv.new_empty(b, t, heads * d), qkv.new_empty(b, heads, t)
        _lib().attention(*_at(qkv), *_ints(b, t, heads, d), _threads(b * heads), *_at(out, lse))
        ctx.save_for_backward(qkv, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Tensor:
        qkv, out, lse = ctx.saved_tensors
        b, t, _, heads, d = qkv.shape
        d_out, d_qkv = d_out.contiguous(), torch.empty_like(qkv)
        inputs = _at(qkv, out, lse, d_out)
        _lib().attention_backward(*inputs, *_ints(b, t, heads, d), _threads(b * heads), *_at(d_qkv))
        return d_qkv


class GeluMLP(torch.autograd.Function):
    """One function, so that the widest activations are written once: the bias goes in with the GELU, whose slope takes
    the place of what it was taken of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        slope = rows @ up.t()  # until the kernel is through
        y = torch.empty_like(slope)
        _lib().gelu(*_at(slope, up_bias), *_ints(*slope.shape), _threads(len(slope)), *_at(y, slope))
        ctx.save_for_backward(rows, up, down, y, slope)
        return torch.addmm(down_bias, y, down.t()).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, ...]:
        rows, up, down, y, slope = ctx.saved_tensors
        d = d_out.flatten(0, -2)
        d_hidden = (d @ down).mul_(slope)
        d_rows = (d_hidden @ up).view(d_out.shape)
        return d_rows, d_hidden.t() @ rows, d_hidden.sum(0), d.t() @ y, d.sum(0)


def _kernels(x: Tensor, width: int) -> ctypes.CDLL | None:
    """The library, if it takes this tensor, whose rows have `width` numbers."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0
    if not plain or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return None
    lib = library()
    return lib if lib and width % lib.vector_width() == 0 else None


def _lib() -> ctypes.CDLL:
    lib = library()
    assert lib is not None
    return lib


def _threads(parts: int) -> int:
    return min(torch.get_num_threads(), parts)


def _at(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]


def _ints(*values: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(value) for value in values]
