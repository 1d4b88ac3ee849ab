"""Hits a real sweep in every way that a night can, and checks that nothing is lost and nothing counted twice.

    python benchmarks/chaos.py [--seed N] [--only KIND …] [--write FILE]        (make chaos: the table of the docs)

A sweep of four small runs is left alone: the reference. Then the same line is started again and again and hit at
random moments, in a fresh study whenever one is done. After every fault, what was finished must be there bit for bit;
at its end a study must have every run once, each equal to the reference's to the last bit, no file left over, and
every row once on a W&B server (that of the tests, with the real client). The faults are in `benchmarks/faults.py`.
"""

import argparse
import contextlib
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

from wandb_server import WandbServer  # noqa: E402

from scaling import dashboard, records  # noqa: E402

BEGIN, END = "<!-- make chaos: begin -->", "<!-- make chaos: end -->"
SWEEP = "model=d16_l1,d24_l1 tokens.budget=300000,600000"
SHORT = ("SIGKILL to all of the sweep", "SIGTERM", "power cut: last.ckpt", "SIGKILL to a worker")
SHORT_SWEEP = "model=d16_l1 tokens.budget=200000,400000"
SETTINGS = (
    "-m data=wikitext2 tokenizer.kind=bpe tokenizer.vocab_size=300 eval_tokens=4096 trainer.checkpoint_every_s=0.3 "
    "family._target_=flaky.Flaky"
)
VOLATILE = ("study", "url", "overrides", "started", "ended", "wall_s", "tokens_per_s", "mfu", "peak_memory_mb")
FLAKY = '''
import os
from scaling.models.tiny import Tiny

class Flaky(Tiny):
    """A family that raises, or gives no numbers, from the batch on that the environment names."""
    seen = 0

    def forward(self, ids):
        fault, _, at = os.environ.get("CHAOS", "").partition(" ")
        self.seen += 1
        now = bool(fault) and self.seen >= int(at)
        if now and fault == "raise":
            raise RuntimeError("chaos")
        return super().forward(ids) * (float("nan") if now else 1.0)
'''
HUB = '''
from pathlib import Path

def load_dataset(repo, name):
    """The hub's rows, for when it is back."""
    files = {{"train": "train", "validation": "valid", "test": "test"}}
    return {{split: {{"text": (Path({0!r}) / f"{{f}}.txt").read_text().splitlines()}} for split, f in files.items()}}
'''


@dataclass
class Tally:
    """What became of one kind of fault. `moments` in seconds after the line was started."""

    hits: int = 0
    moments: list[float] = field(default_factory=list)
    finished: int = 0  # runs that stood by
    under_way: int = 0  # runs that were cut short, with a checkpoint
    problems: list[str] = field(default_factory=list)


class Chaos:
    """Studies below one scratch directory, and what befalls them."""

    def __init__(self, scratch: Path, seed: int, sweep: str = SWEEP) -> None:
        self.scratch, self.rng, self.sweep = scratch, random.Random(seed), sweep.split()
        self.corpus, self.cache, self.outputs = scratch / "corpus", scratch / "cache", scratch / "outputs"
        self._write_corpus()
        (scratch / "flaky.py").write_text(FLAKY)
        (scratch / "hub").mkdir()
        (scratch / "hub" / "datasets.py").write_text(HUB.format(str(self.corpus)))
        (scratch / "home").mkdir()
        self.outputs.mkdir(exist_ok=True)
        self.server = WandbServer()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HF_", "SCALING_"))}
        self.env = kept | self.server.environment(scratch / "home")
        self.env |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{scratch}", "OMP_NUM_THREADS": "1"}
        self.env |= {"WANDB_FINISH_TIMEOUT": "5", "HF_ENDPOINT": "http://127.0.0.1:9"}
        self.tallies: dict[str, Tally] = {}
        self.kind, self.span = "left alone", 1.0
        self.study, self.said, self.cut = self.outputs / "reference", scratch / "said", list[Path]()
        self.n_lines = 0
        self.reference = self._leave_alone()
        self._fresh_study()

    # ---------------------------------------------------------------------------------------- the line

    def start(self, *overrides: str, mode: str = "offline", hub: bool = False, **env: str) -> subprocess.Popen[bytes]:
        """The line, in a process group of its own; what it says goes to a file."""
        places = [f"study={self.study.name}", f"output_dir={self.outputs}", f"cache_dir={self.cache}"]
        data = [] if hub else [f"data.path={self.corpus}"]
        words = [*SETTINGS.split(), *self.sweep, *places, *data, f"logger.mode={mode}", *overrides]
        self.n_lines += 1
        self.said = self.scratch / f"said-{self.n_lines}"
        with self.said.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *words],
                **{"cwd": self.scratch, "env": self.env | env, "stdout": out, "stderr": out, "process_group": 0},
            )

    def moment(self, process: subprocess.Popen[bytes], share: float = 1.0) -> bool:
        """Waits for a random moment of the line, most often in (the first `share` of) training. Does it run still?"""
        began, known = time.monotonic(), set(self.checkpoints())
        if self.rng.random() < 0.8:
            while process.poll() is None and set(self.checkpoints()) <= known:
                time.sleep(0.01)
        until = time.monotonic() + self.rng.uniform(0, share * self.span)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if running := process.poll() is None:
            self.tally.moments.append(time.monotonic() - began)
        return running

    def checkpoints(self) -> list[tuple[Path, int]]:
        found = []
        for file in self.study.glob("*/last.ckpt"):
            with contextlib.suppress(OSError):
                found.append((file, file.stat().st_mtime_ns))
        return found

    # ---------------------------------------------------------------------------------------- what must hold

    @property
    def tally(self) -> Tally:
        return self.tallies.setdefault(self.kind, Tally())

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.tally.problems.append(f"{self.study.name}: {what}")
            said = self.said.read_text(errors="replace")[-3000:]
            print(f"NOT SURVIVED  {self.kind}: {self.study.name}: {what}\n{said}", file=sys.stderr, flush=True)

    def finished_files(self) -> dict[Path, bytes]:
        """Content of finished runs' files, but for the lock and what W&B's client says of itself."""
        found: dict[Path, bytes] = {}
        for record in records.readable(self.study):
            if record.status == "finished":
                (run,) = self.study.glob(f"*-{record.run_id}")
                files = [file for file in run.rglob("*") if file.is_file() and "logs" not in file.parts]
                found |= {file: file.read_bytes() for file in files if file.name != ".lock"}
        return {file: was for file, was in found.items() if not self.is_cut(file)}

    def is_cut(self, file: Path) -> bool:
        """Whether it is of a run with a file that was damaged."""
        return any(cut.parent in file.parents for cut in self.cut)

    def hit(self, kind: str, fault: Callable[["Chaos"], bool]) -> None:
        """One fault, on a study that is not done yet; `fault` says whether it came in time."""
        for _ in range(5):
            finished = sum(record.status == "finished" for record in records.readable(self.study))
            if finished == len(self.reference):
                self.finish()
                self._fresh_study()
            self.kind, before = kind, self.finished_files()
            if fault(self):
                break
        else:
            self.expect(False, "the fault never came in time")
        deadline = time.monotonic() + 120  # an orphaned worker ends its run
        while (held := any(map(locked, self.study.glob("*/.lock")))) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.expect(not held, "a run is still held")
        changed = [str(file) for file, was in before.items() if not self.is_cut(file) and content(file) != was]
        self.expect(not changed, f"finished, and touched: {', '.join(changed)}")
        self.expect("Traceback" not in self.said.read_text(errors="replace"), "a traceback")
        self.tally.hits += 1
        self.tally.finished += sum(file.name == records.FILE for file in before)
        self.tally.under_way += len(self.checkpoints())

    def finish(self) -> None:
        """The same line, left alone, finishes the study."""
        code = self.start().wait()
        self.expect(code == 0, f"the same line ends with {code}")
        self.check_study()

    def check_study(self) -> None:
        """Every run once, as it was when left alone, nothing left over; every row once on the server."""
        runs = {path.name: path for path in self.study.iterdir() if path.is_dir()}
        self.expect(runs.keys() == self.reference.keys(), f"its runs are {sorted(runs)}")
        for name, run in runs.items():
            now, alone = result_of(run), self.reference[name]
            other = ", ".join(f"{key}: {now[key]} for {was}" for key, was in alone.items() if now[key] != was)
            self.expect(not other, f"{name} is not what it was when left alone: {other}")
            names = [path.name for path in run.iterdir()]
            self.expect(not [n for n in names if n.endswith(".tmp") or n == "last.ckpt"], f"{name}: left over: {names}")
            self.expect(len(list(run.glob("wandb/*run-*"))) == 1, f"{name}: several W&B directories")
            for file in (file for file in self.cut if file.parent == run):
                named = f"{file.name} was damaged: set aside as {file.name}.damaged-" in (run / "train.log").read_text()
                self.expect(named and bool(list(run.glob(f"{file.name}.damaged-*"))), f"{name}: {file.name} not named")
        command = [sys.executable, "-m", "scaling.sync", str(self.study)]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        self.expect(done.returncode == 0, f"sync: {done.stdout}{done.stderr}")
        for run in runs.values():
            name = dashboard.run_id(self.study.name, records.read(run).run_id)
            rows = [dashboard.row_of(row) for row in self.server.run("scaling", name).rows()]
            self.expect(rows == dashboard.read_curve(run), f"{run.name}: the server's rows are not its curve")
        there = [run for run in self.server.runs("scaling") if run.group == self.study.name]
        self.expect(len(there) == len(runs), f"{len(there)} runs on the server")

    # ---------------------------------------------------------------------------------------- places

    def close(self) -> None:
        self.server.stop()

    def _fresh_study(self) -> None:
        self.study, self.cut = self.outputs / f"study{self.n_lines}", []

    def _write_corpus(self) -> None:
        words = ["".join(self.rng.choices("abcdefghij", k=self.rng.randint(2, 6))) for _ in range(300)]
        zipf = [1 / (rank + 1) for rank in range(300)]
        self.corpus.mkdir()
        for split, lines in (("train", 3000), ("valid", 300), ("test", 300)):
            rows = (" ".join(self.rng.choices(words, zipf, k=12)) for _ in range(lines))
            (self.corpus / f"{split}.txt").write_text("\n".join(rows) + "\n")

    def _leave_alone(self) -> dict[str, dict[str, object]]:
        """The results to come back to; `span` becomes how long the line trains."""
        process, began = self.start(), 0.0
        while process.poll() is None:
            began = began or (time.monotonic() if self.checkpoints() else 0.0)
            time.sleep(0.02)
        assert process.returncode == 0 and began, self.said.read_text()
        self.span = time.monotonic() - began
        return {run.name: result_of(run) for run in records.run_dirs(self.study)}


def result_of(run: Path) -> dict[str, object]:
    """All of a run that must be the same whenever it is trained."""
    record = {key: value for key, value in asdict(records.read(run)).items() if key not in VOLATILE}
    return record | {"curve": (run / dashboard.CURVE).read_bytes()}


def content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def locked(path: Path) -> bool:
    with path.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def table(tallies: dict[str, Tally]) -> str:
    """One row a kind, for the docs."""
    lines = [
        "| fault | times | seconds after the start | runs finished before | runs cut short | lost or doubled |",
        "|---|---|---|---|---|---|",
    ]
    for kind, t in tallies.items():
        when = f"{min(t.moments):.1f}-{max(t.moments):.1f}" if t.moments else "-"
        lines.append(
            f"| {kind} | {t.hits} | {when} | {t.finished} | {t.under_way} | {'; '.join(t.problems) or 'none'} |"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def scratch_directory() -> Iterator[tuple[Path, bool]]:
    """A directory, and whether `outputs` in it is a file system of its own, which can be filled: not always allowed."""
    scratch = Path(tempfile.mkdtemp(prefix="chaos-"))
    outputs = scratch / "outputs"
    outputs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "chaos", str(outputs)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield scratch, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(outputs)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)


def main(words: Sequence[str]) -> int:
    from faults import FAULTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="kinds whose name holds one of these words")
    parser.add_argument("--short", action="store_true", help="four kinds, once each, on two runs: for CI")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table into, between its markers")
    args = parser.parse_args(words)
    chosen = [f for f in FAULTS if not args.only or any(word in f.kind for word in args.only)]
    chosen = [replace(f, times=1) for f in chosen if f.kind in SHORT] if args.short else chosen
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its directory goes with it
    with scratch_directory() as (scratch, mounted):
        chaos = Chaos(scratch, args.seed, SHORT_SWEEP if args.short else SWEEP)
        hits = [fault for fault in chosen for _ in range(fault.times)]
        chaos.tallies = {fault.kind: Tally() for fault in chosen}
        random.Random(args.seed).shuffle(hits)
        for n, fault in enumerate(hits, 1):
            chaos.hit(fault.kind, fault.strike)
            print(f"[{n}/{len(hits)}] {time.monotonic() - began:5.0f} s  {fault.kind}", flush=True)
        chaos.kind = hits[-1].kind
        chaos.finish()
        chaos.close()
    problems = sum(len(t.problems) for t in chaos.tallies.values())
    text = table(chaos.tallies) + (
        f"\n\n{len(hits)} faults, seed {args.seed}, {time.monotonic() - began:.0f} s on {os.cpu_count()} cores, "
        f"{chaos.n_lines} starts of the line; disk full: {'a file system of its own' if mounted else 'RLIMIT_FSIZE'}."
    )
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(BEGIN)
        args.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
