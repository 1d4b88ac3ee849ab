"""Which runs are fitted together, decided before any fit and said by name."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.config import ConfigError
from scaling.sources.table import Counting, RunTable

# Runs that differ here answer different questions: they are not fitted together.
IDENTITY = ("data_id", "tokenizer_id", "family", "schedule", "precision", "eval", "eval_tokens", "seq_len")
# Settings that are tuned rather than studied: the best one of each (N, D) is taken.
TUNED = ("lr", "batch_size", "optim")


@dataclass(frozen=True)
class Selection:
    """The runs of one analysis. `runs` has every run of the source, with `dropped` = why it is not used, or "".

    `label` is the value of `group_by` (or ""); `notes` say what the choice did.
    """

    table: RunTable
    runs: pd.DataFrame
    label: str = ""
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> pd.DataFrame:
        return self.runs[self.runs["dropped"] == ""]

    @property
    def dropped(self) -> pd.DataFrame:
        return self.runs[self.runs["dropped"] != ""]

    @property
    def primary(self) -> Counting:
        return self.table.countings[0]


def select(table: RunTable, *, where: str | None = None, group_by: str | None = None) -> list[Selection]:
    """One selection, or one for each value of `group_by`. Raises ConfigError where runs cannot stand together."""
    runs = table.runs.copy()
    runs["dropped"] = [_unusable(*row) for row in zip(runs["status"], runs["reason"], runs["loss"], strict=True)]
    for column in {"tokens", "flops", *(c.n for c in table.countings)}:
        _drop(runs, ~(runs[column] > 0), f"{column} is not known")
    if where is not None:
        _drop(runs, ~_holds(runs, where), f"not where {where}")
    if not (runs["dropped"] == "").any():
        raise ConfigError(f"{table.origin}: none of {len(runs)} runs can be used: {_summary(runs)}")
    return [_choose(table, part, label, notes) for label, part, notes in _groups(runs, group_by)]


def _unusable(status: str, reason: str, loss: float) -> str:
    if status != "finished":
        return f"{status}: {reason}" if reason else status
    return "" if loss is not None and np.isfinite(loss) and loss > 0 else "no loss"


def _drop(runs: pd.DataFrame, rows: pd.Series, why: str) -> None:
    runs.loc[rows & (runs["dropped"] == ""), "dropped"] = why


def _holds(runs: pd.DataFrame, where: str) -> pd.Series:
    try:
        holds = runs.eval(where, engine="python")
    except Exception as error:  # pandas raises whatever its parser happens to meet
        raise ConfigError(f"where={where}: {str(error).splitlines()[0]}; columns: {', '.join(runs.columns)}") from None
    if not isinstance(holds, pd.Series) or holds.dtype != bool:
        raise ConfigError(f"where={where}: must be true or false for each run, as loss < 4")
    return holds


def _groups(runs: pd.DataFrame, key: str | None) -> Iterator[tuple[str, pd.DataFrame, list[str]]]:
    if key is None:
        yield "", runs, []
        return
    if key not in runs.columns:
        raise ConfigError(f"group_by={key}: no such column; columns: {', '.join(runs.columns)}")
    usable = runs.loc[runs["dropped"] == "", key]
    for value in usable.drop_duplicates().sort_values():
        part = runs.copy()
        _drop(part, part[key] != value, f"other {key}")
        yield f"{value:g}" if isinstance(value, float) else str(value), part, [f"only runs with {key} = {value}"]


def _choose(table: RunTable, runs: pd.DataFrame, label: str, notes: list[str]) -> Selection:
    """Checks of identity, then one setting for each (N, D), then twins."""
    _same_question(runs[runs["dropped"] == ""], table.origin)
    notes = [*table.notes, *notes, *_best_setting(table, runs), *_twins(table, runs)]
    return Selection(table, runs, label, tuple(notes))


def _same_question(used: pd.DataFrame, origin: str) -> None:
    differ = [key for key in IDENTITY if key in used.columns and used[key].nunique(dropna=False) > 1]
    if not differ:
        return
    found = "; ".join(
        f"{key}: " + ", ".join(f"{v} ({n} runs)" for v, n in used[key].value_counts(dropna=False).items())
        for key in differ
    )
    value = used[differ[0]].value_counts(dropna=False).index[0]
    literal = f'\\"{value}\\"' if isinstance(value, str) else f"{value}"  # as a shell and Hydra take it
    raise ConfigError(
        f"{origin}: runs that differ are not fitted together: {found}; "
        f"group_by={differ[0]} makes a report for each, 'where=\"{differ[0]} == {literal}\"' keeps one"
    )


def _best_setting(table: RunTable, runs: pd.DataFrame) -> list[str]:
    """Of several learning rates (batch sizes, optimizers) for one (N, D), that with the lowest mean loss over seeds."""
    tuned = [k for k in TUNED if k in runs.columns]
    used = runs[runs["dropped"] == ""]
    cell = [table.countings[0].n, "tokens"]
    mean = used.groupby([*cell, *tuned], dropna=False, sort=False)["loss"].mean().reset_index()
    several = mean.groupby(cell)["loss"].transform("size") > 1
    if not several.any():
        return []
    best = mean.loc[mean.groupby(cell)["loss"].idxmin()]
    kept = used.reset_index().merge(best[[*cell, *tuned]], on=[*cell, *tuned])["index"]
    _drop(runs, ~runs.index.isin(kept), "a better setting for its (N, D)")  # type: ignore[arg-type]
    varied = [k for k in tuned if used[k].nunique() > 1]
    n_cells = len(mean[several].groupby(cell))
    return [f"{n_cells} (N, D) have runs at several {' and '.join(varied)}: the best of each is taken"]


def _twins(table: RunTable, runs: pd.DataFrame) -> list[str]:
    """The same run twice is one observation; different losses at one (N, D) are seeds, kept for their spread."""
    used = runs[runs["dropped"] == ""]
    n = table.countings[0].n
    keys = [n, "tokens", "flops", "loss", "seed"]
    twin = used.duplicated(keys)
    _drop(runs, runs.index.isin(used.index[twin]), "the same run twice")  # type: ignore[arg-type]
    rest = used[~twin]
    size = rest.groupby([n, "tokens"]).size()
    notes = [f"{int(twin.sum())} runs are there twice: one of each is used"] if twin.any() else []
    if (size > 1).any():
        notes.append(
            f"{int((size > 1).sum())} (N, D) have several seeds ({int(size[size > 1].sum())} runs): "
            "each is one cell, its spread is the noise level"
        )
    return notes


def _summary(runs: pd.DataFrame) -> str:
    reasons = runs["dropped"].str.split(":").str[0].value_counts()
    return ", ".join(f"{n} {why}" for why, n in reasons.items())


def summary(selection: Selection) -> str:
    """`20 of 22 runs (1 diverged, 1 running)`."""
    used, total = len(selection.used), len(selection.runs)
    return f"{used} of {total} runs" + (f" ({_summary(selection.dropped)})" if used < total else "")
