"""The sweep as a person sees it: one live line on a terminal, one line per run where there is none."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from scaling.launcher.local import Result


def show(results: Iterator["Result"], total: int, n_workers: int) -> Iterator["Result"]:
    """Pass results through, showing each."""
    print(f"{total} runs, {n_workers} side by side")
    if sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as progress:
            task = progress.add_task("sweep", total=total)
            for result in results:
                progress.update(task, advance=1, description=f"{result.run_name} {result.status}")
                yield result
        return
    started = time.perf_counter()
    for n, result in enumerate(results, 1):
        loss = f"  loss {result.loss_val:.4f}" if result.loss_val is not None else ""
        print(
            f"[{n:>{len(str(total))}}/{total}] {time.perf_counter() - started:6.1f} s  "
            f"{result.run_name}  {result.status}{loss}  {result.reason}".rstrip(),
            flush=True,
        )
        yield result
