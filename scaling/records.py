"""`record.json`: the one thing that training and analysis both know.

Flat, one file per run, written atomically; analysis needs nothing else. Losses are mean cross-entropy in nats
per token. A record is `running` from the first second, so a study can be watched from its files alone.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = 1
STATUSES = ("running", "finished", "diverged", "failed")
FILE = "record.json"


class RecordError(ValueError):
    """A record that cannot be read; the message is one line that names the file."""


class ForeignRecord(RecordError):
    """A whole record, of another version of this project."""


@dataclass
class RunRecord:
    """One run. `None` is what is not known (yet); every other unit is in the name or in `accounting`.

    Where weights were carried on from smaller budgets (`tokens_before` > 0), `tokens` and `flops` are those of the
    last budget alone, as the article counts them, and `tokens_done` counts all.
    """

    run_id: str
    study: str
    family: str
    model: str
    status: str = "running"
    seed: int = 0
    d_model: int = 0
    d_mlp: int = 0
    n_layers: int = 0
    n_heads: int = 0
    n_total: int = 0
    n_embedding: int = 0
    n_non_embedding: int = 0
    n_head: int = 0
    n_active: int = 0
    tokens: int = 0
    tokens_budget: int = 0
    tokens_before: int = 0
    tokens_unique: int = 0
    tokens_done: int = 0
    epochs: float = 0.0
    flops_per_token: float = 0.0
    flops: float = 0.0
    loss_train: float | None = None
    loss_val: float | None = None
    loss_test: float | None = None
    bits_per_byte: float | None = None
    entropy_rate: float | None = None
    vocab_size: int = 0
    seq_len: int = 0
    batch_size: int = 0
    lr: float = 0.0
    schedule: str = ""
    optim: str = ""
    eval: str = ""
    eval_tokens: int = 0
    data: str = ""
    data_id: str = ""
    tokenizer_id: str = ""
    device: str = ""
    precision: str = ""
    tokens_per_s: float | None = None
    wall_s: float | None = None
    mfu: float | None = None
    peak_memory_mb: float | None = None
    started: str = ""
    ended: str | None = None
    error: str | None = None
    url: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    def write(self, run_dir: Path) -> None:
        atomic_write(run_dir / FILE, json.dumps(_finite(asdict(self)), indent=1, allow_nan=False) + "\n")


def read(run_dir: Path) -> RunRecord:
    """The record of one run directory. Raises RecordError if it is not whole, ForeignRecord for another schema."""
    path = run_dir / FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable record ({error})") from error
    schema = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
    if type(schema) is int and schema != SCHEMA:
        raise ForeignRecord(f"{path}: schema {schema}, this version reads {SCHEMA}")
    if schema != SCHEMA:
        raise RecordError(f"{path}: schema {schema!r}, this version reads {SCHEMA}")
    for problem in _problems(raw):
        raise RecordError(f"{path}: {problem}")
    return RunRecord(**{name: raw[name] for name in _TYPES if name in raw})


def _problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """What is missing, or of a type that no reader expects."""
    missing = {"run_id", "study", "family", "model", "status"} - raw.keys()
    if missing:
        yield f"no {', '.join(sorted(missing))}"
    for name, allowed in _TYPES.items():
        if name in raw and type(raw[name]) not in allowed:
            yield f"{name}={str(raw[name])[:40]!r}: must be {' or '.join(t.__name__ for t in allowed)}"
    if raw["status"] not in STATUSES:
        yield f"status {raw['status']!r}"


JSON_TYPES: dict[Any, tuple[type, ...]] = {  # a field's type -> what may stand for it
    **{str: (str,), int: (int,), float: (float, int), dict[str, str]: (dict,), list[str]: (list,)},
    **{str | None: (str, type(None)), float | None: (float, int, type(None))},
}
_TYPES = {f.name: JSON_TYPES[f.type] for f in fields(RunRecord)}


def run_dirs(study_dir: Path) -> Iterator[Path]:
    """Directories of a study that hold a record, by name."""
    return (path.parent for path in sorted(study_dir.glob(f"*/{FILE}")))


def readable(study_dir: Path) -> Iterator[RunRecord]:
    """The whole records of a study, by name of their run."""
    for run_dir in run_dirs(study_dir):
        with contextlib.suppress(RecordError):
            yield read(run_dir)


def atomic_write(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, whole, whatever kills the writer."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError:  # a full disk needs the room
        temporary.unlink(missing_ok=True)
        raise


def set_aside(path: Path, why: str = "damaged") -> str:
    """Take a file out of every reader's way, and lose nothing. Returns one line that names it."""
    aside = path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    path.rename(aside)
    return f"{path.name} was {why}: set aside as {aside.name}"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a loss that is not a number is not known."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
