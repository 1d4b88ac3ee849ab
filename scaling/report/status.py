"""How a study is doing, from its records alone, while it runs too."""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from scaling import records
from scaling.config import ConfigError, to_dataclass
from scaling.records import RunRecord
from scaling.report.config import StatusConfig
from scaling.report.style import count

HEAD = ("run", "status", "tokens", "", "loss", "tokens/s", "age", "")
COLOURS = {"finished": "green", "running": "cyan", "diverged": "yellow", "failed": "red", "unreadable": "red"}


def show(cfg: DictConfig) -> None:
    """A table on a terminal, plain tab-separated lines in a pipe. Raises ConfigError where there are no runs."""
    config = to_dataclass(cfg, StatusConfig)
    study = Path(config.output_dir) / config.study
    rows = [_row(run_dir) for run_dir in records.run_dirs(study)]
    if not rows:
        raise ConfigError(f"study={config.study}: no runs in {study}")
    total = ", ".join(f"{n} {status}" for status, n in Counter(row[1] for row in rows).most_common())
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in (("run", "status", "done", "share", *HEAD[4:7], "error"), *rows)))
        print(f"{len(rows)} runs: {total}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in HEAD:
        side: Literal["left", "right"] = "left" if title in ("run", "status") else "right"
        table.add_column(title, justify=side, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(row[0], f"[{COLOURS[row[1]]}]{row[1]}[/]", *map(escape, row[2:]))
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} runs: {total}")


def _row(run_dir: Path) -> tuple[str, ...]:
    try:
        record = records.read(run_dir)
    except records.RecordError as error:
        return (run_dir.name, "unreadable", *[""] * 5, str(error))
    loss = record.loss_val if record.loss_val is not None else record.loss_train
    return (
        run_dir.name,
        record.status,
        f"{count(record.tokens_done)}/{count(record.tokens)}",
        f"{record.tokens_done / record.tokens:.0%}" if record.tokens else "",
        f"{loss:.4f}" if loss is not None else "",
        count(record.tokens_per_s) if record.tokens_per_s is not None else "",
        _age(record, run_dir),
        record.error or "",
    )


def _age(record: RunRecord, run_dir: Path) -> str:
    """Since it ended; of a running one, since it last said so."""
    try:
        then = datetime.fromisoformat("" if record.status == "running" else record.ended or "").timestamp()
    except ValueError:
        then = (run_dir / records.FILE).stat().st_mtime
    seconds = max(0.0, datetime.now(UTC).timestamp() - then)
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds:.0f} s"
