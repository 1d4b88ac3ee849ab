"""The sweep as a person sees it: a live table on a terminal, one line per run where there is none."""

import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from scaling import records
from scaling.kernels.build import why_not
from scaling.launcher.pace import Paces, Seen, makespan
from scaling.launcher.plan import Planned
from scaling.launcher.table import COLOURS, count, duration
from scaling.records import RunRecord


class Ended(Protocol):
    @property
    def run_name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def loss_val(self) -> float | None: ...


def place(device: str, precision: str) -> str:
    """Where a run is trained, and by what if it is not what it could be."""
    missing = why_not() if device == "cpu" else ""
    return f"{device} in {precision}" + (f", {missing}" if missing else "")


class Display:
    """Told what ends and what runs, shows it. `runs` are in the order in which they start; `before` is not shown.

    Time left: every run still to do at the pace of its shape, as finished and running records have it, on the
    workers there are.
    """

    def __init__(self, runs: Sequence[Planned], workers: int, paces: Paces, before: int) -> None:
        self.waiting = {run.config.run_name: run for run in runs}
        self.workers, self.paces = workers, paces
        self.total, self.done = len(runs) + before, before
        self.began = time.perf_counter()
        self.live = Live(auto_refresh=False, transient=True) if sys.stdout.isatty() else None
        places = sorted({place(run.size.device, run.size.precision) for run in runs})
        print(f"{workers} side by side, on {', '.join(places)}", flush=True)

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def ended(self, result: Ended) -> None:
        run = self.waiting.pop(result.run_name)
        self.done += 1
        if result.status == "finished":
            self.paces.learn_record(records.read(run.config.run_dir))
        loss = f"  loss {result.loss_val:.4f}" if result.loss_val is not None else ""
        head = f"[{self.done:>{len(str(self.total))}}/{self.total}] {time.perf_counter() - self.began:6.1f} s  "
        tail = f"{loss}  {result.reason}".rstrip()
        if self.live:
            colour = COLOURS.get(result.status, "default")
            self.live.console.print(
                f"\\{head}{result.run_name}  [{colour}]{result.status}[/]{escape(tail)}", highlight=False
            )
        else:
            left = self._left({})
            more = f"  about {duration(left)} left" if left else ""
            print(f"{head}{result.run_name}  {result.status}{tail}{more}", flush=True)

    def refresh(self, running: set[str]) -> None:
        """Once a second: the running records as they are now."""
        if self.live is None:
            return
        now = {name: record for name in self.waiting if name in running and (record := self._record(name))}
        for name, record in now.items():
            if record.tokens_per_s:
                pace = Seen(record.tokens_done, 1 / record.tokens_per_s, None)
                self.paces.learn(self.waiting[name].work, pace)
        self.live.update(Group(*self._picture(now)), refresh=True)

    def _record(self, name: str) -> RunRecord | None:
        try:
            record = records.read(self.waiting[name].config.run_dir)
        except records.RecordError:
            return None
        return record if record.status == "running" else None

    def _left(self, running: dict[str, RunRecord]) -> float | None:
        busy = [self.paces.seconds(self.waiting[name].work, r.tokens_done) for name, r in running.items()]
        rest = [self.paces.seconds(run.work) for name, run in self.waiting.items() if name not in running]
        known = [seconds for seconds in rest if seconds is not None]
        if not self.paces.seen:
            return None
        return makespan(known, self.workers, [seconds for seconds in busy if seconds is not None])

    def _picture(self, running: dict[str, RunRecord]) -> Iterator[Table]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("running", "tokens", "", "loss", "tokens/s", "left"):
            table.add_column(title, justify="left" if title == "running" else "right", no_wrap=True)
        for name, record in running.items():
            work = self.waiting[name].work
            left = self.paces.seconds(work, record.tokens_done)
            table.add_row(
                name,
                f"{count(record.tokens_done)}/{count(work.tokens)}",
                f"{record.tokens_done / work.tokens:.0%}",
                f"{record.loss_train:.4f}" if record.loss_train is not None else "",
                count(record.tokens_per_s) if record.tokens_per_s else "",
                duration(left) if left is not None else "",
            )
        yield table
        left = self._left(running)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            "sweep",
            ProgressBar(self.total, self.done, width=40),
            f"{self.done}/{self.total}",
            duration(time.perf_counter() - self.began),
            f"about {duration(left)} left" if left is not None else "",
        )
        yield line
