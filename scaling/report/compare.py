"""Studies side by side: how much of an exponent is the protocol, the loss it reads and the count of compute.

Each study is read under exact FLOPs and under 6ND, and with either loss that its records hold, so that neighbouring
rows differ in one thing only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from scaling.config import ConfigError, to_dataclass
from scaling.laws import FrontierRegression, LawError, frontier
from scaling.report.config import CompareConfig
from scaling.report.style import count, interval
from scaling.sources.local import read_local
from scaling.sources.select import IDENTITY, Selection, select
from scaling.sources.table import Counting

COUNTINGS = ("total", "total_6nd")
LOSSES = {"loss_val": "validation", "loss_train": "training"}
SETTINGS = (*IDENTITY, "optim", "seed")


@dataclass(frozen=True)
class Row:
    """One reading of one study. `edges` counts frontier points at each edge of the grid, `interior` names the rest."""

    study: str
    loss: str
    counting: Counting
    points: int
    line: FrontierRegression
    edges: dict[str, int]
    interior: tuple[str, ...]


def show(cfg: DictConfig) -> None:
    """Prints markdown. Raises ConfigError where a study has no runs, or fewer than two are named."""
    config = to_dataclass(cfg, CompareConfig)
    if len(set(config.studies)) < 2:
        raise ConfigError(f"studies={list(config.studies)}: at least two different ones")
    tables = {name: read_local(Path(config.output_dir) / name) for name in config.studies}
    chosen = {name: select(table, where=config.where)[0] for name, table in tables.items()}
    rows = [row for name, selection in chosen.items() for row in readings(name, selection)]
    print("\n".join((*table(rows), "", *differences(chosen), "", *(optima(row) for row in rows if row.interior))))


def readings(name: str, selection: Selection) -> Iterator[Row]:
    """The frontier under each counting and loss that the runs hold, the study's own loss first."""
    runs = selection.used
    countings = [c for c in selection.table.countings if c.key in COUNTINGS]
    for column, label in LOSSES.items():
        if runs[column].isna().any():
            continue
        for counting in countings:
            found = frontier(counting.N(runs), runs["tokens"], counting.C(runs), runs[column].astype(float))
            try:
                line = found.regress()
            except LawError as error:
                raise ConfigError(f"studies: {name}: {error}") from error
            sides = [side for edge in found.edge for side in edge.split(" and ") if side]
            inside = found.interior & found.supported
            at = zip(found.N[inside], found.D[inside], strict=True)
            yield Row(
                study=name,
                loss=label,
                counting=counting,
                points=len(found.C),
                line=line,
                edges={side: sides.count(side) for side in dict.fromkeys(sides)},
                interior=tuple(f"N = {count(n)} on D = {count(d)}" for n, d in at),
            )


def table(rows: list[Row]) -> Iterator[str]:
    yield "| study | loss | C | points | a, every point | b, every point | at an edge | interior optima | a, interior |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for r in rows:
        every, inside = r.line.all, r.line.interior
        edges = ", ".join(f"{n} at {side}" for side, n in r.edges.items()) or "none"
        within = f"{inside.a:.3f} {interval(inside.N.ci(), 2)}" if inside else "not identified"
        yield (
            f"| {r.study} | {r.loss} | {r.counting.c_label} | {r.points} | {every.a:.3f} {interval(every.N.ci(), 2)} "
            f"| {every.b:.3f} {interval(every.D.ci(), 2)} | {edges} | {r.line.interior_budgets} | {within} |"
        )


def differences(chosen: dict[str, Selection]) -> Iterator[str]:
    """Which settings the studies do not share, by name."""
    used = {name: selection.used for name, selection in chosen.items()}
    for key in SETTINGS:
        said = {name: _values(runs, key) for name, runs in used.items()}
        if len(set(said.values())) > 1:
            yield f"- {key}: " + "; ".join(f"{name}: {value}" for name, value in said.items())


def optima(row: Row) -> str:
    return f"- interior optima of {row.study} ({row.loss} loss, {row.counting.c_label}): {', '.join(row.interior)}"


def _values(runs: pd.DataFrame, key: str) -> str:
    if key not in runs:
        return "-"
    return ", ".join(str(v) for v in runs[key].drop_duplicates().sort_values())
