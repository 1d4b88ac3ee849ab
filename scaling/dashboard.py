"""What a run is called on W&B, both ways: names of its metrics, its summary, and the record that they make again."""

import csv
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from scaling.records import RunRecord

CURVE = "curve.csv"
SUMMARY = {"loss_train": "final/train_loss", "loss_val": "final/val_loss", "loss_test": "final/test_loss"}
METRICS = {  # column of a curve -> metric
    **{"step": "step", "tokens": "tokens", "flops": "flops", "epoch": "epoch"},
    **{"loss_train": "train/loss", "loss_val": "val/loss", "lr": "lr", "phase": "phase"},
}
NOT_IN_SUMMARY = ("versions", "overrides", "schema")
_WHOLE = {"step", "tokens"}


def run_id(study: str, run_hash: str, attempt: int = 0) -> str:
    """The same run has the same id everywhere; one that is trained again from the start has another (`attempt`)."""
    if len(study) > 40:  # ids end at 64 characters
        study = f"{study[:31]}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"
    return f"{study}-{run_hash}" + (f"-r{attempt}" if attempt else "")


def summary_of(record: RunRecord) -> dict[str, Any]:
    """Every scalar of a record, None included: what an earlier attempt left is overwritten."""
    values = {SUMMARY.get(k, k): v for k, v in asdict(record).items() if k not in NOT_IN_SUMMARY}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def record_of(summary: Mapping[str, Any]) -> RunRecord | None:
    """The record that a summary was made of, or None if it was made by something else."""
    known = {f.name: f for f in fields(RunRecord) if f.name not in NOT_IN_SUMMARY}
    values = {name: summary.get(SUMMARY.get(name, name)) for name in known}
    if any(not isinstance(values[name], str) for name in ("run_id", "study", "family", "model", "status")):
        return None
    for name, value in values.items():
        if isinstance(value, int) and "float" in str(known[name].type):
            values[name] = float(value)  # JSON writes 2.0 as 2
    return RunRecord(**{name: value for name, value in values.items() if value is not None})


def metrics_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a curve for the logger; a validation that was not made is left out."""
    return {metric: row[column] for column, metric in METRICS.items() if row[column] is not None}


def row_of(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of a curve from a row of history, or None if that is something else."""
    row = {column: metrics.get(metric) for column, metric in METRICS.items()}
    if any(row[column] is None for column in METRICS if column != "loss_val"):
        return None
    return _typed(row)


def read_curve(run_dir: Path) -> list[dict[str, Any]]:
    """Rows of a run's `curve.csv`. Raises OSError, KeyError or ValueError where it is not whole."""
    with (run_dir / CURVE).open(newline="", encoding="utf-8") as handle:
        return [_typed({column: row[column] or None for column in METRICS}) for row in csv.DictReader(handle)]


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    def value(column: str, found: Any) -> Any:
        if found is None or column == "phase":
            return found
        return int(found) if column in _WHOLE else float(found)

    return {column: value(column, found) for column, found in row.items()}
