"""The one table that every source gives: a row per run, the same columns wherever it came from.

Columns every source fills:
    run              name of the run, unique
    status           running | finished | diverged | failed
    reason           why it is not finished, or ""
    tokens           D: tokens trained on
    tokens_unique    U: different tokens among them (NaN where not known)
    flops            C as the source knows it (exact FLOPs for our own runs)
    loss             final validation loss, nats per token
    lr, seed         NaN, 0 where not known
N comes under every count that the source knows, one column each, named by `Counting.n`. Whatever else a source
knows (family, data_id, schedule, …) is a column of its own name. Losses are in nats per token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

REQUIRED = ("run", "status", "reason", "tokens", "tokens_unique", "flops", "loss", "lr", "seed")
# one row per point of a training curve
CURVE_COLUMNS = ("run", "tokens", "flops", "loss_train", "loss_val", "phase", "epoch")


@dataclass(frozen=True)
class Counting:
    """Which N and which C an exponent is about. `c` is a column, or None for C = 6 N D with this very N."""

    key: str
    n_label: str
    c_label: str
    n: str
    c: str | None

    @property
    def label(self) -> str:
        return f"{self.n_label}, {self.c_label}"

    def N(self, runs: pd.DataFrame) -> pd.Series:
        return runs[self.n].astype(float)

    def C(self, runs: pd.DataFrame) -> pd.Series:
        return 6.0 * self.N(runs) * runs["tokens"] if self.c is None else runs[self.c].astype(float)


@dataclass(frozen=True)
class RunTable:
    """All runs of a source. `countings[0]` is the one that figures and answers use.

    `notes` say what the source filled in or took for granted; `read_curves` gives the training curves of the runs
    named (columns CURVE_COLUMNS; FLOPs as in `flops`), None where a source has none. `links` are the addresses of runs
    on W&B, by name, of those that are there.
    """

    origin: str
    runs: pd.DataFrame
    countings: tuple[Counting, ...]
    notes: tuple[str, ...] = ()
    read_curves: Callable[[Sequence[str]], pd.DataFrame] | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {*REQUIRED, *(c.n for c in self.countings)} - set(self.runs.columns)
        assert not missing, f"{self.origin}: no columns {missing}"
