"""`analyze.py` from its settings to the files it leaves: source -> selection -> analysis -> writers."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from scaling import memory
from scaling.cores import side_by_side
from scaling.report.config import AnalyzeConfig, typed_analyze

if TYPE_CHECKING:
    from scaling.report.analysis import Analysis
    from scaling.sources.table import RunTable


def analyze(cfg: DictConfig) -> None:
    """One report, or one for each value of `group_by`. Raises ConfigError before anything is written."""
    config = typed_analyze(cfg)
    from scaling.report import wandb_run

    wandb_run.check(config)
    memory.keep_freed()
    from scaling.report.analysis import analyse  # pandas and scipy, once the settings are known to be good
    from scaling.report.plan import Ask
    from scaling.report.plan_text import plan_lines
    from scaling.report.tables import answer
    from scaling.sources.select import select

    runs_dir = config.runs_dir if config.source.name == "local" else None
    ask = Ask(config.flops(), config.inference_tokens, runs_dir)
    table = read_source(config)
    selections = select(table, where=config.where, group_by=config.group_by)
    from rich.console import Console
    from rich.live import Live

    written = []
    for selection in selections:
        out = config.report_dir / _plain(selection.label) if selection.label else config.report_dir
        # nothing where there is no terminal, and no thread: the work is spread over forks of this process
        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as status:
            say = partial(status.update, refresh=True)
            analysis = analyse(selection, bootstrap=config.bootstrap, seed=config.seed, ask=ask, say=say)
        print(answer(analysis, config.name))
        if analysis.plan is not None and analysis.plan.budget is not None:
            print("\n".join(plan_lines(analysis.plan, config)))
        sys.stdout.flush()  # what people came for, before the pictures are drawn
        print(f"report: {write_report(analysis, config.name, out)}")
        written.append((analysis, out))
    from scaling.report import families

    analyses = [analysis for analysis, _ in written]
    if families.comparable(analyses, config.group_by):
        print(families.write(families.compare(analyses, config.bootstrap, config.seed), config.report_dir), end="")
        print(f"comparison: {config.report_dir / 'comparison.md'}")
    for line in wandb_run.publish(written, config):
        print(line)


def read_source(config: AnalyzeConfig) -> RunTable:
    """The table of runs that the settings name. Raises ConfigError."""
    if config.source.name == "csv":
        from scaling.sources.csv import read_csv

        return read_csv(config.source)
    if config.source.name == "wandb":
        from scaling.sources.wandb import read_wandb

        return read_wandb(config.source, config.study)
    from scaling.sources.local import read_local

    return read_local(config.runs_dir)


def write_report(analysis: Analysis, name: str, out: Path) -> Path:
    """Files of one analysis below `out`; returns the page."""
    from scaling.report import figures, tables
    from scaling.report.page import render

    (out / "figures").mkdir(parents=True, exist_ok=True)
    files: list[partial[Any]] = [partial(render.write, analysis, name, out), partial(tables.write, analysis, out)]
    files += [partial(figures.write, analysis, figure, out / "figures") for figure in figures.FIGURES]
    side_by_side(_call, files)
    return out / "report.html"


def _call(write: partial[Any]) -> None:
    write()


def _plain(label: str) -> str:
    """A value of a column as a directory's name."""
    return "".join(c if c.isalnum() or c in "-_.=" else "_" for c in label).strip(".") or "_"
