"""Anybody's runs: one CSV file, its columns mapped by name, its units checked before anything is believed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.config import ConfigError
from scaling.sources.config import ColumnsConfig, SourceConfig
from scaling.sources.table import Counting, RunTable

# column of the table for each key of source.columns
TARGET = {"N": "n", "D": "tokens", "C": "flops", "loss": "loss", "U": "tokens_unique", "lr": "lr", "seed": "seed"}
NOT_NATS = {  # what a column's name gives away
    "perplexity": ("ppl", "perplex"),
    "bits": ("bits", "bpb", "bpc", "log2"),
}
NO_LOSS_IN_NATS = 15.0  # a uniform guess over three million tokens
FAR_FROM_6ND = 30.0


def read_csv(source: SourceConfig) -> RunTable:
    """A row per run. Raises ConfigError in one line for a bad path, column, cell or unit."""
    path = Path(source.path or "")
    return from_columns(_load(path), source, path.name, lambda i: f"line {i + 2}")


def from_columns(raw: pd.DataFrame, source: SourceConfig, origin: str, row: Callable[[int], str]) -> RunTable:
    """The table that `source.columns` make of anybody's columns; `row(i)` says which one cannot be used."""
    names = _mapping(source.columns, raw, origin)
    values = {key: _numbers(raw[name], key, name, row) for key, name in names.items()}
    notes: list[str] = []
    loss, note = _in_nats(values["loss"], names["loss"], source.unit)
    notes += note

    runs = raw.drop(columns=list(set(names.values())))  # what is not mapped stays, for where= and group_by=
    # names that the table needs for itself make way
    runs = runs.rename(columns={c: f"{c} (file)" for c in runs.columns if c in {*TARGET.values(), "status", "reason"}})
    n = values["N"]
    given = {key: key in values for key in TARGET}
    if not given["D"]:
        notes.append("D is not in the file: D = C / (6 N)")
    if not given["C"]:
        notes.append("C is not in the file: C = 6 N D")
    tokens = values["D"] if given["D"] else values["C"] / (6 * n)
    flops = values["C"] if given["C"] else 6 * n * tokens
    ratio = float((flops / (6 * n * tokens)).median())
    if ratio < 1 / FAR_FROM_6ND or ratio > FAR_FROM_6ND:
        notes.append(f"C / (6 N D) is {ratio:.3g} (median): are N, D and C in parameters, tokens and FLOPs?")
    runs = runs.assign(
        n=n,
        tokens=tokens,
        flops=flops,
        loss=loss,
        tokens_unique=values.get("U", np.nan),
        lr=values.get("lr", np.nan),
        seed=values.get("seed", 0),
        status="finished",
        reason="",
    )
    if "run" not in runs:
        runs["run"] = [row(i) for i in range(len(runs))]
    runs["run"] = runs["run"].astype(str)
    return RunTable(origin, runs, _countings(given["D"], given["C"]), tuple(notes))


def _countings(has_d: bool, has_c: bool) -> tuple[Counting, ...]:
    six = Counting("given_6nd", "as given", "6ND", "n", None)
    if not (has_c and has_d):  # one of the three was filled in by C = 6ND
        return (six,)
    return (Counting("given", "as given", "as given", "n", "flops"), six)


def _load(path: Path) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, skipinitialspace=True)
        head = pd.read_csv(path, skipinitialspace=True, header=None, nrows=1, dtype=str).iloc[0].astype(str).str.strip()
    except FileNotFoundError:
        raise ConfigError(f"source.path={path}: no such file") from None
    except Exception as error:  # also those of whatever its ending says it is packed with
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"source.path={path}: not a CSV file ({why})") from None
    if raw.empty:
        raise ConfigError(f"source.path={path}: no rows")
    if head.dropna().duplicated().any():  # pandas would give the second another name
        raise ConfigError(f"source.path={path}: two columns are named {head[head.duplicated()].iloc[0]}")
    raw.columns = raw.columns.astype(str).str.split().str.join(" ")
    return raw


def _mapping(columns: ColumnsConfig, raw: pd.DataFrame, origin: str) -> dict[str, str]:
    """Key of source.columns -> column of the file."""
    there = "columns: " + ", ".join(raw.columns)
    names = {}
    for key in TARGET:
        asked = getattr(columns, key)
        if asked is not None and asked not in raw.columns:
            raise ConfigError(f"source.columns.{key}={asked}: no such column in {origin}; {there}")
        if asked is not None or key in raw.columns:
            names[key] = asked or key
    for key in ("N", "loss"):
        if key not in names:
            raise ConfigError(f"source.columns.{key}=null: {origin} has no column named {key}; {there}")
    if "D" not in names and "C" not in names:
        raise ConfigError(f"source.columns.D=null: {origin} has no column named D or C, one is needed; {there}")
    return names


def _numbers(column: pd.Series, key: str, name: str, row: Callable[[int], str]) -> pd.Series:
    """Numbers above zero, or NaN for an empty cell; anything else is an error that names its row."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    lowest = -np.inf if key == "seed" else 0.0
    text = column.notna() & numbers.isna()
    wrong = text | np.isinf(numbers) | (numbers <= lowest)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        found = " ".join(str(column.iloc[at]).split())
        raise ConfigError(
            f"source.columns.{key}={name}: {row(at)} is {found}; every value must be a number"
            f"{'' if key == 'seed' else ' above 0'} ({int(wrong.sum())} of {len(column)} are not)"
        )
    return numbers


def _in_nats(loss: pd.Series, name: str, unit: str | None) -> tuple[pd.Series, list[str]]:
    """The loss in nats, and what was done to get there. Raises ConfigError for what looks like another unit."""
    if unit == "bits":
        return loss * np.log(2), [f"loss: {name} is in bits, multiplied by ln 2"]
    if unit == "perplexity":
        return np.log(loss), [f"loss: {name} is a perplexity, its natural logarithm taken"]
    if unit == "nats":
        return loss, []
    key = f"source.columns.loss={name}"
    for other, hints in NOT_NATS.items():
        if any(hint in name.lower() for hint in hints):
            raise ConfigError(f"{key}: by its name this is no loss in nats: say source.unit={other} (or nats)")
    median = float(loss.median())
    if median > NO_LOSS_IN_NATS:
        raise ConfigError(
            f"{key}: a median of {median:.4g} is no loss in nats per token: say source.unit=perplexity (or nats)"
        )
    return loss, []
