"""The sweep: side by side, isolated from each other, going on when one fails, finishing what is missing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling import records

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sweep(corpus_dir, cache_dir, tmp_path):
    base = (
        "-m data=text tokenizer=bytes eval_tokens=4096 logger=none model=d16_l1,d24_l1 tokens=5k,10k "
        f"data.path={corpus_dir} cache_dir={cache_dir} output_dir={tmp_path}"
    ).split()

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *base, *overrides], cwd=tmp_path, capture_output=True, text=True
        )

    return run


def by_name(study: Path) -> dict[str, records.RunRecord]:
    return {path.name: records.read(path) for path in records.run_dirs(study)}


def test_two_by_two_then_nothing_left_to_do(sweep, tmp_path):
    first = sweep()
    assert first.returncode == 0, first.stderr
    runs = by_name(tmp_path / "default")
    assert len(runs) == 4 and {r.status for r in runs.values()} == {"finished"}
    assert len({r.loss_val for r in runs.values()}) == 4
    lines = [line for line in first.stdout.splitlines() if re.match(r"\[\d/4\]", line)]
    assert len(lines) == 4
    longest = max(runs, key=lambda name: runs[name].flops)
    assert first.stdout.index(longest) <= first.stdout.index(min(runs, key=lambda name: runs[name].flops))
    again = sweep()
    assert again.returncode == 0 and "4 skipped" in again.stdout
    assert by_name(tmp_path / "default") == runs


def test_a_run_is_the_same_alone_and_in_a_crowd(sweep, small, tmp_path):
    from scaling.training import session

    sweep("hydra.launcher.jobs=2")
    config = small("model=d24_l1", "tokens=10k", f"output_dir={tmp_path}/alone")
    assert session.run(config).loss_val == by_name(tmp_path / "default")[config.run_name].loss_val


def test_one_failing_job_costs_only_itself(sweep, tmp_path):
    blocked = tmp_path / "default"
    blocked.mkdir()
    done = sweep("optim.lr=1e-3")
    victim = next(path for path in records.run_dirs(blocked))
    (victim / "record.json").unlink()
    (victim / "curve.csv").unlink()
    (victim / "curve.csv").mkdir()  # the job cannot write its curve: it raises in the middle of training
    done = sweep("optim.lr=1e-3")
    assert done.returncode == 1
    runs = by_name(blocked)
    assert sorted(r.status for r in runs.values()) == ["failed"] + ["finished"] * 3
    assert runs[victim.name].error.startswith("IsADirectoryError")
    assert "Traceback" in (victim / "train.log").read_text()
    assert "1 failed" in done.stdout and "2 finished" not in done.stdout.splitlines()[-1]
    assert done.stdout.splitlines()[-1].startswith(f"{victim.name}\tfailed\t\tIsADirectoryError")
    (victim / "curve.csv").rmdir()
    healed = sweep("optim.lr=1e-3")
    assert healed.returncode == 0 and "3 skipped" in healed.stdout and "1 finished" in healed.stdout


def test_a_dead_worker_costs_its_job_one_retry(sweep, tmp_path):
    """A worker killed in the middle of a run: the sweep starts the run again and finishes it."""
    study = tmp_path / "default"
    base = sweep.__closure__[0].cell_contents
    command = [sys.executable, str(ROOT / "train.py"), *base, "model=d32_l2", "tokens=100k", "hydra.launcher.jobs=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(study.glob("*/curve.csv")):
        time.sleep(0.05)
    (lock,) = study.glob("*/.lock")
    (worker,) = holders(lock)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "trying once more" in err
    (record,) = by_name(study).values()
    assert record.status == "finished"


@pytest.fixture
def long_sweep(corpus_dir, cache_dir, tmp_path):
    """Starts a sweep of several long runs and waits until two of them are training."""
    base = (
        "-m data=text tokenizer=bytes eval_tokens=4096 logger=none study=long model=d16_l1,d32_l2 tokens=50k,100k "
        f"hydra.launcher.jobs=2 data.path={corpus_dir} cache_dir={cache_dir} output_dir={tmp_path}"
    ).split()
    command = [sys.executable, str(ROOT / "train.py"), *base]
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, process_group=0))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(list(tmp_path.glob("long/*/curve.csv"))) < 2:
            time.sleep(0.05)
        return started[-1]

    yield start, command
    for process in started:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["ctrl-c reaches the whole group", "sigterm the parent alone"],
)
def test_a_stopped_sweep_leaves_whole_records_and_the_same_line_finishes_it(long_sweep, tmp_path, number, to_all):
    start, command = long_sweep
    process = start()
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err and "Traceback" not in out
    assert "2 interrupted" in out and "2 not started" in out and "the same line" in out
    runs = by_name(tmp_path / "long")
    assert [(r.status, r.error) for r in runs.values()] == [("failed", "interrupted: start it again to go on")] * 2
    assert all((tmp_path / "long" / name / "last.ckpt").exists() for name in runs)
    deadline = time.monotonic() + 30
    while (left := in_group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    finished = by_name(tmp_path / "long")
    assert len(finished) == 4 and {r.status for r in finished.values()} == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2], ids=["ctrl-c", "a scheduler's warning"])
def test_a_stopped_run_goes_on_where_it_was(corpus_dir, cache_dir, tmp_path, number):
    base = (
        "data=text tokenizer=bytes eval_tokens=4096 logger=none model=d32_l2 tokens=100k trainer.threads=1 "
        f"data.path={corpus_dir} cache_dir={cache_dir}"
    ).split()

    def command(output: str) -> list[str]:
        return [sys.executable, str(ROOT / "train.py"), *base, f"output_dir={tmp_path / output}"]

    pipe = subprocess.PIPE
    process = subprocess.Popen(command("stopped"), cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("stopped/*/*/curve.csv")):
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in out and "Traceback" not in err
    for output in ("stopped", "straight"):
        subprocess.run(command(output), cwd=tmp_path, check=True, capture_output=True)
    (resumed,) = by_name(tmp_path / "stopped" / "default").values()
    (straight,) = by_name(tmp_path / "straight" / "default").values()
    assert (resumed.status, resumed.loss_val) == ("finished", straight.loss_val)


def in_group(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(os.path.realpath(fd) == str(path) for fd in (process / "fd").iterdir()):
                    found.append(int(process.name))
            except OSError:
                continue
    return found
