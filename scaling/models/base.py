"""What a model family owes the rest: hidden states, a head, and an honest count of what it costs.

A family is one subclass of `LanguageModel` in one file plus one YAML in `conf/family/`. Constructor:
`(shape: Shape, **options)`; the options of the YAML are checked against its signature. Letters in shape
comments: B batch, T sequence, D d_model, V vocabulary.
"""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from hydra.utils import get_class
from torch import Tensor, nn

from scaling.accounting import Counts
from scaling.config import ConfigError, FamilyConfig, TrainConfig


@dataclass(frozen=True)
class Shape:
    """All that a size, a tokenizer and a sequence length say about a model."""

    d_model: int
    d_mlp: int
    n_layers: int
    n_heads: int
    vocab_size: int
    seq_len: int

    @classmethod
    def of(cls, config: TrainConfig, vocab_size: int) -> "Shape":
        m = config.model
        return cls(m.d_model, m.d_mlp, m.n_layers, m.n_heads, vocab_size, config.seq_len)


class LanguageModel(nn.Module, ABC):
    """A causal model over token ids. Subclasses fill `tokens`, `positions` (or leave None) and `head`."""

    tokens: nn.Embedding
    positions: nn.Embedding | None
    head: nn.Linear  # (V, D), no bias; its weight may be `tokens.weight`
    not_matrices: ClassVar[tuple[str, ...]] = ()  # last names of parameters of two dimensions that multiply no width

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_module("positions", None)

    @abstractmethod
    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) int64 -> hidden states (B, T, D) that `head` turns into logits."""

    @abstractmethod
    def flops_per_token(self) -> float:
        """Training FLOPs (forward and backward) per token at `shape.seq_len`: matrix products, head included."""

    def n_active(self) -> int:
        """Parameters that touch one token; fewer than all only where some are chosen per token."""
        return sum(p.numel() for p in self.parameters())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What an optimizer may treat apart: `matrices` over the width, the `head` (unless tied), and the `rest`.

        The rest are tables, norms, biases and what `not_matrices` names: none of them sums over the width.
        """
        groups: dict[str, list[nn.Parameter]] = {"matrices": [], "head": [], "rest": []}
        tables = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        for name, p in self.named_parameters():
            if p.ndim < 2 or id(p) in tables or name.rpartition(".")[2] in self.not_matrices:
                groups["rest"].append(p)
            else:
                groups["head" if p is self.head.weight else "matrices"].append(p)
        return groups

    def counts(self) -> Counts:
        """Parameters under every convention, measured on the built model."""
        tied = self.head.weight is self.tokens.weight
        return Counts(
            n_total=sum(p.numel() for p in self.parameters()),
            n_embedding=self.tokens.weight.numel() + (self.positions.weight.numel() if self.positions else 0),
            n_head=0 if tied else self.head.weight.numel(),
            n_active=self.n_active(),
        )

    def logits(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, V); training never materialises them, see `training.loss`."""
        return self.head(self(ids))


def build(family: FamilyConfig, shape: Shape) -> LanguageModel:
    """A freshly initialised model from torch's current seed. Raises ConfigError for a wrong target or option."""
    try:
        cls = get_class(family._target_)
    except Exception as error:
        raise ConfigError(f"family._target_={family._target_}: not an importable class") from error
    if not issubclass(cls, LanguageModel) or inspect.isabstract(cls):
        raise ConfigError(f"family._target_={family._target_}: must be a subclass of LanguageModel")
    allowed = list(inspect.signature(cls).parameters)[1:]
    for key, value in family.options.items():
        if key not in allowed:
            raise ConfigError(f"family.options.{key}={value}: {family.name} takes {', '.join(allowed) or 'no options'}")
        annotation = inspect.signature(cls).parameters[key].annotation
        if annotation in (bool, int, float, str) and type(value) not in {annotation, *([int] * (annotation is float))}:
            raise ConfigError(f"family.options.{key}={value}: must be {annotation.__name__}")
    try:
        return cls(shape, **family.options)
    except (RuntimeError, MemoryError, OverflowError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"family={family.name}: cannot be built with {shape}: {first}") from error


def build_meta(family: FamilyConfig, shape: Shape) -> LanguageModel:
    """The same model without storage, for counting."""
    with torch.device("meta"):
        return build(family, shape)
