"""Runs on W&B, ours or anybody's: listed in one request, pulled a hundred to a request, and each pulled once."""

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from scaling import dashboard
from scaling.account import asking, connect
from scaling.config import ConfigError
from scaling.records import RunRecord, atomic_write
from scaling.sources.config import SourceConfig
from scaling.sources.csv import from_columns
from scaling.sources.local import COLUMNS, COUNTINGS, row_of
from scaling.sources.table import CURVE_COLUMNS, RunTable

WAIT_S = 20  # for one answer
LISTED, PULLED = 200, 100  # runs to a request
AT_ONCE = 8  # curves that are asked for side by side
SAMPLES = 1000  # rows of a curve at most: ours have a few dozen, and more would be thinned out
ENDED = ("finished", "failed", "crashed", "killed")
Pulled = dict[str, Any]


def read_wandb(source: SourceConfig, study: str | None = None) -> RunTable:
    """A row per run of the project, of one study (group) or all. Raises ConfigError in one line."""
    api = _api()
    path, asked = source.path or "", _filters(source, study)
    store = _Store(Path(source.cache_dir or "~/.cache/scaling").expanduser(), api.settings["base_url"], path)
    with asking(f"source.path={path}"):
        pulled = _pull(api, path, asked, store)
    if not pulled:
        raise ConfigError(f"source.path={path}: no runs" + (f" with {json.dumps(asked)}" if asked else ""))
    if source.maps_columns:
        return _foreign(source, path, pulled)
    table, ids = _ours(path, pulled)

    def read_curves(names: Sequence[str]) -> pd.DataFrame:
        runs = {name: pulled[ids[name]] for name in names}
        with asking(f"source.path={path}"), ThreadPoolExecutor(AT_ONCE) as pool:
            curves = list(pool.map(lambda run: _curve(api, path, run, store), runs.values()))
        rows = [
            {**row, "run": name, "loss_val": math.nan if row["loss_val"] is None else row["loss_val"]}
            for name, curve in zip(runs, curves, strict=True)
            for row in curve
        ]
        return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))

    links = {name: pulled[one].get("url", "") for name, one in ids.items()}
    return RunTable(path, table.runs, table.countings, table.notes, read_curves, links)


def _api() -> Any:
    try:
        return connect(WAIT_S)
    except ConfigError as problem:
        raise ConfigError(f"source=wandb: {problem}; `wandb login`, or set WANDB_API_KEY") from None


def _filters(source: SourceConfig, study: str | None) -> dict[str, Any]:
    asked = {"group": study, "state": source.state}
    tags = {"tags": {"$in": [source.tag]}} if source.tag is not None else {}
    return {key: value for key, value in asked.items() if value is not None} | tags


def _pull(api: Any, path: str, asked: dict[str, Any], store: "_Store") -> dict[str, Pulled]:
    """Every run by id. What has ended and did not change since is not asked for a second time."""
    try:
        listed = list(api.runs(path, asked, per_page=LISTED))
    except ValueError:
        raise ConfigError(f"source.path={path}: no such project, or this key may not read it") from None
    found = {run.id: store.read(run.id, _version(run)) for run in listed}
    missing = [name for name, run in found.items() if run is None]
    for start in range(0, len(missing), PULLED):
        some = {"name": {"$in": missing[start : start + PULLED]}}
        for run in api.runs(path, some, per_page=PULLED, lazy=False):
            one = {
                "id": run.id,
                "name": run.name,
                "group": run.group,
                "state": run.state,
                "created": run.created_at,
                "url": run.url,
            }
            found[run.id] = one | {"config": dict(run.config), "summary": dict(run.summary_metrics)}
            if run.state in ENDED:
                store.write(run.id, _version(run), found[run.id])
    return {name: run for name, run in found.items() if run is not None}


def _version(run: Any) -> str:
    return f"{run.state} {run.heartbeat_at} {run.historyLineCount}"


def _curve(api: Any, path: str, run: Pulled, store: "_Store") -> list[dict[str, Any]]:
    """Rows of history that are rows of a curve, each once."""
    name = f"{run['id']}.curve"
    version = f"{run['state']} {run['summary'].get('_timestamp')}"
    rows = store.read(name, version)
    if rows is None:
        history = api.run(f"{path}/{run['id']}").history(samples=SAMPLES, pandas=False)
        rows = list({row["step"]: row for row in map(dashboard.row_of, history) if row is not None}.values())
        if run["state"] in ENDED:
            store.write(name, version, rows)
    return rows


def _ours(path: str, pulled: Mapping[str, Pulled]) -> tuple[RunTable, dict[str, str]]:
    """The table that source=local gives of the same runs, and the id of each run in it."""
    records = {name: _record(run) for name, run in pulled.items()}
    ours = {name: record for name, record in records.items() if record is not None}
    if not ours:
        keys = sorted({key for run in pulled.values() for key in _flat(run)})
        raise ConfigError(
            f"source.columns.N=null: the runs of {path} were not made by train.py: say which of their keys are "
            f"source.columns.N, .loss and .D or .C; keys: {', '.join(keys[:60])}"
        )
    notes = (
        [f"{len(pulled) - len(ours)} runs of the project are no training runs of ours"]
        if len(ours) < len(pulled)
        else []
    )
    # a run has one id, another only where it was trained again from the start: the latest that finished is the run
    order = sorted(ours, key=lambda name: (ours[name].status == "finished", pulled[name]["created"]))
    latest = {(ours[name].study, ours[name].run_id): name for name in order}
    if len(latest) < len(ours):
        notes.append(f"{len(ours) - len(latest)} runs were trained again: the latest that finished is taken")
    named = dict(_named(pulled, latest.values()))
    runs = pd.DataFrame([row_of(ours[named[name]], name) for name in sorted(named)], columns=COLUMNS)
    return RunTable(path, runs, COUNTINGS, tuple(notes)), named


def _named(pulled: Mapping[str, Pulled], ids: Collection[str]) -> Iterator[tuple[str, str]]:
    """Readable names that are unique: that of the run, with its id where another one has it too."""
    names = [pulled[one]["name"] for one in ids]
    for one, name in zip(ids, names, strict=True):
        yield (name if names.count(name) == 1 else f"{name} ({one})"), one


def _record(run: Pulled) -> RunRecord | None:
    """The record as the run logged it; one that says it is running is believed only while W&B hears of it."""
    record = dashboard.record_of(run["summary"])
    if record is not None and record.status == "running" and run["state"] in ENDED:
        record.status, record.error = "failed", f"{run['state']} on W&B before it said how it ended"
    return record


def _foreign(source: SourceConfig, path: str, pulled: Mapping[str, Pulled]) -> RunTable:
    """Runs that finished, through the map of columns; the others are named as what they are."""
    named = dict(_named(pulled, pulled))
    finished = [name for name in named if pulled[named[name]]["state"] == "finished"]
    if not finished:
        raise ConfigError(f"source.path={path}: none of {len(named)} runs has finished")
    raw = pd.DataFrame([_flat(pulled[named[name]]) | {"run": name} for name in finished])
    table = from_columns(raw, source, path, lambda i: f"run {finished[i]}")
    others = [
        {"run": name, "status": "running" if state == "running" else "failed", "reason": f"{state} on W&B"}
        for name, one in named.items()
        if (state := pulled[one]["state"]) != "finished"
    ]
    runs = pd.concat([table.runs, pd.DataFrame(others)], ignore_index=True) if others else table.runs
    links = {name: pulled[one].get("url", "") for name, one in named.items()}
    return RunTable(path, runs, table.countings, table.notes, links=links)


def _flat(run: Pulled) -> dict[str, Any]:
    """Scalars of config and summary under dotted names; where both have a name, the config's is `config.<name>`."""
    config, summary = dict(_scalars(run["config"])), dict(_scalars(run["summary"]))
    return {(f"config.{key}" if key in summary else key): value for key, value in config.items()} | summary


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if not prefix and key.startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}.")
        elif value in ("NaN", "Infinity", "-Infinity") or (isinstance(value, float) and not math.isfinite(value)):
            yield f"{prefix}{key}", math.nan
        elif isinstance(value, str | int | float):
            yield f"{prefix}{key}", value


class _Store:
    """What was pulled, a file each, with the version of it: anything unreadable or older is as good as absent."""

    def __init__(self, cache_dir: Path, server: str, path: str) -> None:
        self.place = cache_dir / "wandb" / quote(urlsplit(server).netloc, safe="") / path

    def read(self, name: str, version: str) -> Any:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads((self.place / f"{name}.json").read_text(encoding="utf-8"))
            if kept["version"] == version:
                return kept["value"]
        return None

    def write(self, name: str, version: str, value: Any) -> None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            self.place.mkdir(parents=True, exist_ok=True)
            atomic_write(self.place / f"{name}.json", json.dumps({"version": version, "value": value}))
