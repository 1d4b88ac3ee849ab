"""The analysis on W&B, beside the runs that it is about: a run of its own (figures, tables, fits, the answer), a view.

Only where those runs are online too and the key works; nothing that W&B does can fail an analysis that is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling.account import connect
from scaling.config import ConfigError
from scaling.report import workspace
from scaling.report.analysis import Analysis
from scaling.report.config import AnalyzeConfig


def check(config: AnalyzeConfig) -> None:
    """Raises ConfigError where a view is asked for that cannot be made, before any work."""
    if not config.workspace:
        return
    workspace.check_installed()
    if config.source.maps_columns:
        raise ConfigError("workspace=true: its panels are of what train.py logs, not of runs that source.columns reads")
    if _project(config) is None:
        where = config.runs_dir if config.source.name == "local" else f"source={config.source.name}"
        raise ConfigError(f"workspace=true: no run of {where} went to W&B; what was synced is read by source=wandb")


def publish(written: Sequence[tuple[Analysis, Path]], config: AnalyzeConfig) -> Iterator[str]:
    """A line with the address of each thing that is now on W&B; what went wrong is a line on stderr."""
    place = _project(config) if config.log or config.workspace else None
    if place is None:
        return
    try:
        api, (entity, project) = connect(), place
        for analysis, out in written if config.log else ():
            yield f"on W&B: {_log(analysis, config, out, entity, project)}"
        if config.workspace:
            owner = entity or api.settings["entity"] or api.default_entity or ""
            yield f"workspace: {workspace.save(owner, project, written[0][0].selection.table)}"
    except ConfigError as problem:
        print(f"W&B left out: {problem}", file=sys.stderr)
    except Exception as error:  # the client has no one base of its errors
        print(f"W&B left out: {next(iter(str(error).splitlines()), type(error).__name__)}", file=sys.stderr)


def summary_of(analysis: Analysis) -> dict[str, Any]:
    """What the run's summary holds: the answer, or that there is none, and the counts behind it."""
    best, chosen = analysis.answer, analysis.selection
    values: dict[str, Any] = {"runs_used": len(chosen.used), "runs_dropped": len(chosen.dropped)}
    values["identified"] = best is not None
    if best is not None:
        values |= {"method": best.method, "a": best.a, "b": best.b}
        if best.a_ci is not None:
            values |= {"a_low": best.a_ci[0], "a_high": best.a_ci[1]}
    first = analysis.fits[0].found if analysis.fits else None
    if first is not None:
        values |= {f"fit/{key}": value for key, value in first.params.items()}
    return values


def _log(analysis: Analysis, config: AnalyzeConfig, out: Path, entity: str | None, project: str) -> str:
    import wandb

    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True,
        x_disable_machine_info=True, x_save_requirements=False, init_timeout=30.0, finish_timeout=60.0,
    )  # fmt: skip
    run = wandb.init(
        entity=entity,
        project=project,
        group=workspace.study_of(analysis.selection.table),
        job_type="analysis",
        name=f"analysis of {config.name}",
        dir=out,
        reinit="create_new",
        settings=settings,
    )
    try:
        run.summary.update(summary_of(analysis))
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted((out / "figures").glob("*.png"))})
        for name in ("frontier.csv", "fits.json", "runs.csv", "report.html"):
            run.save(str(out / name), base_path=str(out), policy="now")
        url = str(run.url)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
    return url


def _project(config: AnalyzeConfig) -> tuple[str | None, str] | None:
    """Entity and project of the runs, where they are on W&B."""
    if config.source.name == "wandb" and config.source.path:
        entity, project = config.source.path.split("/")
        return entity, project
    online = next(config.runs_dir.glob("*/wandb/run-*"), None) if config.source.name == "local" else None
    if online is None:
        return None
    from scaling.report.recipe import read_config

    try:
        logger = read_config(online.parents[1]).logger
    except ConfigError:
        return None
    return logger.entity, logger.project
