"""Numbers and tables for people: rich on a terminal, tab-separated lines in a pipe."""

import sys
from collections import Counter
from collections.abc import Sequence

from scaling.launcher.plan import Plan, Planned

HEAD = ("run", "N", "N non-emb", "D", "steps", "C", "time", "memory", "")
COLOURS = {"finished": "green", "diverged": "yellow", "interrupted": "yellow", "failed": "red"}
PLAIN = ("run", "n_total", "n_non_embedding", "tokens", "steps", "flops", "seconds", "memory_mb", "note")


def print_plan(plan: Plan) -> None:
    """Every run; exact numbers in a pipe, readable ones on a terminal."""
    if sys.stdout.isatty():
        print_table(HEAD, [_readable(run) for run in plan.runs])
    else:
        print("\n".join("\t".join(row) for row in [PLAIN, *map(_exact, plan.runs)]))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned on a terminal, tab-separated lines without a head in a pipe."""
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row).rstrip() for row in rows))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for n, title in enumerate(head):
        left = n == 0 or title in ("", "ended", "reason")
        table.add_column(title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _exact(run: Planned) -> tuple[str, ...]:
    times = ("", "") if run.skip else (f"{run.seconds:.2f}", f"{run.memory_mb or 0:.0f}")
    size = run.size
    return (
        *(
            run.config.run_name,
            str(size.n_total),
            str(size.n_non_embedding),
            str(run.work.tokens),
            str(run.config.steps),
        ),
        *(f"{run.work.flops:.6g}", *times, run.skip),
    )


def _readable(run: Planned) -> tuple[str, ...]:
    times = ("", "") if run.skip else (duration(run.seconds), f"{run.memory_mb or 0:.0f} MB")
    size = run.size
    return (
        *(run.config.run_name, count(size.n_total), count(size.n_non_embedding), count(run.work.tokens)),
        *(str(run.config.steps), f"{run.work.flops:.2g}", *times, run.skip),
    )


def count(value: float) -> str:
    """1234567 -> 1.23M"""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """7.3 s, 4 min 10 s, 3 h 05 min"""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def summary(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.most_common())
