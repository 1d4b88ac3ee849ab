"""The training curve: loss over log-spaced windows, in `curve.csv` and on the logger.

Under one epoch the training loss is a loss on fresh data, so a window's mean stands for a validation loss that
costs nothing. Rows of a warming-up or decaying learning rate say so: only `stable` rows of one schedule can stand
for shorter runs (the envelope of training curves, Hoffmann et al. 2022, approach 1).
"""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from scaling.records import atomic_write

WINDOWS = 24
FILE = "curve.csv"


@dataclass(frozen=True)
class Row:
    """One window, up to and with `step`. Losses in nats per token; `tokens`, `flops` spent by its end."""

    step: int
    tokens: int
    flops: float
    loss_train: float
    loss_val: float | None
    lr: float
    phase: str
    epoch: float


def windows(steps: int, before: int = 0) -> list[int]:
    """Last steps of at most WINDOWS log-spaced windows; the last one is `steps`, and one ends at `before`."""
    ends = {round(steps ** (i / WINDOWS)) for i in range(1, WINDOWS + 1)} if steps > WINDOWS else range(1, steps + 1)
    return sorted({*ends, before} - {0})


def chunk_borders(steps: int, at_most: int, before: int = 0) -> list[int]:
    """Steps at which training comes up for air: every window's end, and every `at_most` steps between."""
    return sorted({*windows(steps, before), *range(at_most, steps, at_most)})


def mean_loss(rows: list[Row], after: int) -> float:
    """Mean training loss over the steps that follow step `after`, with which a window ends."""
    lengths = [(row.step - start, row) for start, row in zip([0, *(r.step for r in rows)], rows, strict=False)]
    own = [(n, row) for n, row in lengths if row.step > after]
    return sum(n * row.loss_train for n, row in own) / sum(n for n, _ in own)


def write(rows: list[Row], run_dir: Path) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    atomic_write(run_dir / FILE, text.getvalue())


def is_whole(run_dir: Path, tokens: int | None) -> bool:
    """Does the curve end with a line's end and, where that is known, with the row of the run's last token?"""
    try:
        text = (run_dir / FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    last = text.splitlines()[-1:] or [""]
    return text.endswith("\n") and (tokens is None or last[0].split(",")[1:2] == [str(tokens)])
