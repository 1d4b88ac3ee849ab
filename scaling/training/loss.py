"""Mean next-token cross-entropy in nats, from hidden states and the head's weight.

For a small model the loss over the vocabulary costs more than the model, and it costs memory traffic rather than
products: logits of 1024 tokens x 4096 symbols are 16 MB, written and read several times. On a CPU it is therefore
computed in blocks of tokens that stay in cache, with one exponential per logit and both gradients taken in the
forward pass; the logits never exist as a whole. `scaling.kernels` does so in C++; where it does not apply, torch
does, below. Elsewhere it is torch's own cross-entropy.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from scaling.kernels.ops import head_loss

BLOCK = 1 << 19  # logits at a time: 2 MB of fp32
LOG2E = math.log2(math.e)  # torch's exp2 is twice as fast as its exp, and as exact
SAFE = 1e20  # sums of exponentials beyond this, or under its inverse, are taken again relative to their maximum


def lm_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """hidden (B, T, D), head (V, D), targets (B, T) int64 -> scalar, nats per token."""
    if hidden.device.type == "cpu" and hidden.dtype == head.dtype and not torch.is_autocast_enabled("cpu"):
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
        if torch.is_grad_enabled() and (hidden.requires_grad or head.requires_grad):
            loss: Tensor = HeadLoss.apply(hidden, head, targets)
            return loss
        return loss_and_gradients(hidden, head, targets, gradients=False)[0]
    logits = F.linear(hidden, head).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class HeadLoss(torch.autograd.Function):
    """hidden (n, D), head (V, D), targets (n,) -> mean cross-entropy; differentiable once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        loss, *gradients = loss_and_gradients(hidden, head, targets, gradients=True)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        d_hidden, d_head = ctx.saved_tensors
        if scale == 1:  # but for micro-batches, and a pass over megabytes less
            return d_hidden, d_head, None
        return scale * d_hidden, scale * d_head, None


def loss_and_gradients(hidden: Tensor, head: Tensor, targets: Tensor, *, gradients: bool) -> tuple[Tensor, ...]:
    done = head_loss(hidden, head, targets, gradients)
    return in_blocks(hidden, head, targets, gradients=gradients) if done is None else done


def in_blocks(
    hidden: Tensor, head: Tensor, targets: Tensor, *, gradients: bool, relative: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and its gradients (empty unless asked for) by hidden (n, D) and by head (V, D).

    Blocks are (V, tokens): columns of logits, since the products are fastest that way round. The maximum of a
    column is subtracted only if `relative`, which the fast way falls back to where a sum leaves the safe range.
    """
    n, vocab = len(hidden), len(head)
    size = min(n, max(64, BLOCK // vocab))
    scaled = hidden * LOG2E
    buffer = hidden.new_empty(vocab * size)
    sums, at_target, maxima = hidden.new_empty(3, n)
    maxima.zero_()
    d_hidden, d_head = (torch.empty_like(hidden), torch.zeros_like(head)) if gradients else hidden.new_empty(2, 0)
    for first in range(0, n, size):
        part = slice(first, min(first + size, n))
        target = targets[None, part]
        block = buffer[: vocab * target.shape[1]].view(vocab, -1)
        torch.mm(head, scaled[part].t(), out=block)  # logits in units of ln 2
        if relative:
            torch.amax(block, 0, out=maxima[part])
            block.sub_(maxima[part])
        at_target[part] = block.gather(0, target)[0]
        total = torch.sum(block.exp2_(), 0, out=sums[part])
        if gradients:  # softmax minus one-hot, times the sum
            block.scatter_add_(0, target, -total[None])
            weight = (1 / (n * total))[:, None]
            torch.mm(block.t(), head, out=d_hidden[part]).mul_(weight)
            torch.addmm(d_head, block, hidden[part] * weight, out=d_head)
    if not relative and not (sums.min() > 1 / SAFE and sums.max() < SAFE):
        return in_blocks(hidden, head, targets, gradients=gradients, relative=True)
    return sums.log().sub_(at_target, alpha=1 / LOG2E).mean(), d_hidden, d_head
