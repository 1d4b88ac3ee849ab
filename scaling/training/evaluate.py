"""Validation and test loss: mean cross-entropy in nats per token over a fixed stretch of a split."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaling.models.base import LanguageModel
from scaling.training.loss import lm_loss

BATCH = 32  # sequences at a time, few enough to stay in cache; a constant: the same weights give the same bits


@dataclass(frozen=True)
class Stretch:
    """The first whole sequences of a split, seq_len tokens each: the same tokens for every run."""

    sequences: Tensor  # (n, seq_len + 1) integer token ids
    tokens_per_byte: float | None

    @classmethod
    def of(cls, split: np.ndarray, seq_len: int, tokens: int | None, token_bytes: np.ndarray | None) -> "Stretch":
        """`tokens` None means all of it; fewer where the split is shorter, never silently none."""
        available = (len(split) - 1) // seq_len
        n = available if tokens is None else min(tokens // seq_len, available)
        ids = np.asarray(split[: n * seq_len + 1]).astype(np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(ids, seq_len + 1)[::seq_len].copy()
        per_byte = None if token_bytes is None else n * seq_len / float(token_bytes[ids[1:]].sum())
        return cls(torch.from_numpy(windows), per_byte)


@torch.no_grad()
def evaluate(model: LanguageModel, stretch: Stretch, device: torch.device) -> float:
    """Mean loss over all predictions of the stretch."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    for batch in stretch.sequences.split(BATCH):
        batch = batch.to(device, non_blocking=True)
        total += lm_loss(model(batch[:, :-1]), model.head.weight, batch[:, 1:]).double() * len(batch)
    model.train()
    return float(total) / len(stretch.sequences)
