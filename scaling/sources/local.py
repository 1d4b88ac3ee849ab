"""Runs made here: a directory of `record.json` and `curve.csv`."""

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from scaling import records
from scaling.config import ConfigError
from scaling.cores import side_by_side
from scaling.sources.table import CURVE_COLUMNS, Counting, RunTable

TOTAL, NON_EMBEDDING, WITH_HEAD = "total", "non-embedding", "non-embedding + head"
EXACT, SIX = "exact FLOPs", "6ND"
COUNTINGS = (
    Counting("total", TOTAL, EXACT, "n_total", "flops"),
    Counting("non_embedding", NON_EMBEDDING, EXACT, "n_non_embedding", "flops"),
    Counting("with_head", WITH_HEAD, EXACT, "n_with_head", "flops"),
    Counting("total_6nd", TOTAL, SIX, "n_total", None),
    Counting("non_embedding_6nd", NON_EMBEDDING, SIX, "n_non_embedding", None),
)
CURVE = "curve.csv"
TOGETHER = 1000  # records read by one core
LEFT_OUT = {"versions", "overrides", "schema", "url"}
COLUMNS = [
    *("run", "reason", "loss", "n_with_head"),
    *(f.name for f in fields(records.RunRecord) if f.name not in LEFT_OUT),
]


def read_local(runs_dir: Path) -> RunTable:
    """Every record below a study's directory. Raises ConfigError where there is none."""
    dirs = list(records.run_dirs(runs_dir))
    parts = [dirs[start : start + TOGETHER] for start in range(0, len(dirs), TOGETHER)]
    rows = [row for part in side_by_side(_rows, parts) for row in part]
    if not rows:
        raise ConfigError(_nothing(runs_dir))
    runs = pd.DataFrame(rows, columns=COLUMNS)

    def read_curves(names: Sequence[str]) -> pd.DataFrame:
        return pd.DataFrame([p for name in names for p in _curve(runs_dir / name, name)], columns=list(CURVE_COLUMNS))

    links = {row["run"]: row["url"] for row in rows if row.get("url")}
    return RunTable(str(runs_dir), runs, COUNTINGS, read_curves=read_curves, links=links)


def _rows(run_dirs: Sequence[Path]) -> list[dict[str, Any]]:
    return [_row(run_dir) for run_dir in run_dirs]


def _row(run_dir: Path) -> dict[str, Any]:
    """A record that cannot be read is a run too: it is dropped by name, not overlooked."""
    try:
        record = records.read(run_dir)
    except records.RecordError as error:
        return {"run": run_dir.name, "status": "failed", "reason": str(error)}
    return row_of(record, run_dir.name)


def row_of(record: records.RunRecord, name: str) -> dict[str, Any]:
    """A record as a row of the table."""
    return vars(record) | {
        "run": name,
        "reason": record.error or "",
        "loss": record.loss_train if record.eval == "train" else record.loss_val,
        # a tied head has no parameters of its own, but its matrix product is paid for like any other
        "n_with_head": record.n_non_embedding + (record.n_head or record.vocab_size * record.d_model),
        "eval_tokens": record.eval_tokens if record.eval == "slice" else None,
    }


def _curve(run_dir: Path, name: str) -> list[tuple[object, ...]]:
    try:
        with (run_dir / CURVE).open(newline="", encoding="utf-8") as handle:
            return [
                (
                    name,
                    int(row["tokens"]),
                    float(row["flops"]),
                    float(row["loss_train"]),
                    float(row["loss_val"] or "nan"),
                    row["phase"],
                    float(row["epoch"]),
                )
                for row in csv.DictReader(handle)
            ]
    except (OSError, KeyError, ValueError):
        return []


def _nothing(runs_dir: Path) -> str:
    found = sorted({path.parents[1].name for path in runs_dir.parent.glob(f"*/*/{records.FILE}")})
    there = f"studies in {runs_dir.parent}: {', '.join(found)}" if found else f"{runs_dir.parent} has no studies"
    return f"study={runs_dir.name}: no runs in {runs_dir}; {there}"
