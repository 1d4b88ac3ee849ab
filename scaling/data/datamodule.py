"""From a token array to optimizer steps: which sequence comes when, and several steps at a time.

The n-th sequence of a run depends on the seed and the corpus alone, never on the model, so runs of one seed see
the same data in the same order. A loader yields chunks of steps, because one call of Lightning's loop per step
would cost a small model more than the step; chunk borders are fixed by the run's length, so a run that resumes at
a border continues bit for bit.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from scaling.config import ConfigError
from scaling.data.packing import TokenStore


def sequence_starts(n_tokens: int, seq_len: int) -> int:
    """How many non-overlapping sequences of seq_len + 1 tokens (the last one shared) a split holds."""
    return (n_tokens - 1) // seq_len


class Chunks:
    """Iterable over chunks: int64 token ids (steps in chunk, batch_size, seq_len + 1).

    With `share` (rank, world) each batch is cut into `world` equal parts, and this is one of them.
    """

    def __init__(
        self,
        split: np.ndarray,
        borders: Sequence[int],
        batch_size: int,
        seq_len: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.split, self.borders, self.batch_size, self.seq_len, self.seed = (
            split,
            borders,
            batch_size,
            seq_len,
            seed,
        )
        rank, world = share
        self.own = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
        self.n_sequences = sequence_starts(len(split), seq_len)
        self.done = 0  # chunks already trained on, restored when a run resumes
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.borders)

    def __iter__(self) -> Iterator[Tensor]:
        while self.done < len(self.borders):
            first = self.borders[self.done - 1] if self.done else 0
            chunk = self.steps(first, self.borders[self.done])
            self.done += 1
            yield chunk

    def steps(self, first: int, last: int) -> Tensor:
        """Token ids of optimizer steps first..last-1."""
        positions = np.arange(first * self.batch_size, last * self.batch_size)
        positions = positions.reshape(-1, self.batch_size)[:, self.own].ravel()
        starts = np.array([self._sequence(int(p)) for p in positions]) * self.seq_len
        ids = self.split[starts[:, None] + np.arange(self.seq_len + 1)].astype(np.int64)
        return torch.from_numpy(ids).view(last - first, -1, self.seq_len + 1)

    def _sequence(self, position: int) -> int:
        epoch, within = divmod(position, self.n_sequences)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.n_sequences)
        return int(self._permutation[within])

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


class TokenData(LightningDataModule):
    """A token store seen as training chunks; evaluation reads the store directly."""

    def __init__(
        self,
        store: TokenStore,
        borders: Sequence[int],
        batch_size: int,
        seq_len: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        if sequence_starts(len(store.train), seq_len) < 1:
            raise ConfigError(f"seq_len={seq_len}: longer than the training data ({len(store.train)} tokens)")
        self.chunks = Chunks(store.train, borders, batch_size, seq_len, seed, share)

    def train_dataloader(self) -> Chunks:
        return self.chunks
