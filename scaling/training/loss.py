"""Mean next-token cross-entropy in nats, from hidden states and the head's weight."""

import torch.nn.functional as F
from torch import Tensor


def lm_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """hidden (B, T, D), head (V, D), targets (B, T) int64 -> scalar, nats per token."""
    logits = F.linear(hidden, head).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
