"""The plain script to beat: how one would train the same model from torch's own parts, and nothing of `scaling`.

`nn.TransformerEncoder` with a causal mask, a linear head, a DataLoader with a collate function, Adam, gradient
clipping, `F.cross_entropy`, one item() a step for the loss. It trains the same function as our own `tiny` family
on the same sequences, and can start from its weights, so that final losses can be compared.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PlainTransformer(nn.Module):
    def __init__(self, vocab: int, seq_len: int, d_model: int, d_mlp: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, d_model)
        self.positions = nn.Embedding(seq_len, d_model)
        layer = nn.TransformerEncoderLayer(
            *(d_model, n_heads, d_mlp),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        final = nn.LayerNorm(d_model)
        self.encoder = nn.TransformerEncoder(layer, n_layers, norm=final, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, vocab, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(seq_len))

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, V)."""
        positions = torch.arange(ids.shape[1])
        x = self.tokens(ids) + self.positions(positions)
        return self.head(self.encoder(x, mask=self.mask, is_causal=True))

    @torch.no_grad()
    def start_from(self, tiny: nn.Module) -> None:
        """Take the weights of a `scaling.models.tiny.Tiny` of the same shape."""
        theirs = dict(tiny.named_parameters())
        names = {
            "self_attn.in_proj_weight": "qkv.weight",
            "self_attn.in_proj_bias": "qkv.bias",
            **{f"self_attn.out_proj.{x}": f"out.{x}" for x in ("weight", "bias")},
            **{f"linear{i}.{x}": f"{n}.{x}" for i, n in ((1, "up"), (2, "down")) for x in ("weight", "bias")},
            **{f"norm{i}.{x}": f"norm_{n}.{x}" for i, n in ((1, "attention"), (2, "mlp")) for x in ("weight", "bias")},
        }
        for name, parameter in self.named_parameters():
            parts = name.split(".")
            if parts[:2] == ["encoder", "layers"]:
                name = f"blocks.{parts[2]}.{names['.'.join(parts[3:])]}"
            parameter.copy_(theirs[name.replace("encoder.norm", "norm")])


class Sequences(Dataset[list[int]]):
    """The n-th sequence of seq_len + 1 token ids, as a list, as scripts have it."""

    def __init__(self, ids: np.ndarray, seq_len: int) -> None:
        self.ids, self.seq_len = ids, seq_len

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.seq_len

    def __getitem__(self, n: int) -> list[int]:
        found: list[int] = self.ids[n * self.seq_len : (n + 1) * self.seq_len + 1].tolist()
        return found


def collate(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    batch = torch.tensor(rows, dtype=torch.long)
    return batch[:, :-1], batch[:, 1:]


def train(
    model: PlainTransformer,
    train_ids: np.ndarray,
    order: Sequence[int],
    batch_size: int,
    lr_at: Callable[[int], float],
    seq_len: int,
    betas: tuple[float, float],
    clip: float,
) -> None:
    """One pass over the sequences named by `order`."""
    loader = DataLoader(Sequences(train_ids, seq_len), batch_size, sampler=order, collate_fn=collate)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr_at(0), betas=betas)
    model.train()
    losses = []
    for step, (x, y) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step)
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(f"loss {losses[-1]} at step {step}")


@torch.no_grad()
def evaluate(model: PlainTransformer, ids: np.ndarray, seq_len: int, tokens: int, batch_size: int = 16) -> float:
    """Mean loss over the first `tokens` predictions of a split."""
    model.eval()
    first = range(min(tokens // seq_len, (len(ids) - 1) // seq_len))
    loader = DataLoader(Sequences(ids, seq_len), batch_size, sampler=first, collate_fn=collate)
    total, count = 0.0, 0
    for x, y in loader:
        logits = model(x)
        total += F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), reduction="sum").item()
        count += y.numel()
    return total / count
