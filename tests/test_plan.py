"""What a sweep needs before it starts: jobs and threads from a machine, times from runs, and nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

from scaling.cores import cpu_count
from scaling.launcher.machine import Gpu, Machine, Need, free_memory_mb, layout
from scaling.launcher.pace import Paces, Seen, Work, makespan

ROOT = Path(__file__).parents[1]
SMALL = [Need(600)] * 56
ON_GPU = [Need(2000, gpu_mb=1000)] * 56


@pytest.mark.parametrize(
    ("machine", "needs", "asked", "workers", "threads"),
    [
        (Machine(2, 20_000), SMALL, {}, 2, 1),  # a job a core
        (Machine(16, 64_000), SMALL, {}, 16, 1),
        (Machine(16, 64_000), SMALL[:4], {}, 4, 4),  # fewer jobs than cores: threads
        (Machine(64, 64_000), SMALL[:1], {}, 1, 8),  # but not without end
        (Machine(16, 64_000), SMALL, {"threads": 4}, 4, 4),
        (Machine(16, 64_000), SMALL, {"workers": 3}, 3, 5),
        (Machine(16, 3_600), SMALL, {}, 5, 3),  # memory for five
        (Machine(16, 100), SMALL, {}, 1, 8),  # one must always be tried
        (Machine(16, 128_000, (Gpu("0", 80_000),)), ON_GPU, {}, 8, 2),  # several share a device
        (Machine(4, 128_000, (Gpu("0", 80_000),)), ON_GPU, {}, 4, 1),  # as many as cores feed
        (Machine(16, 128_000, (Gpu("0", 4_000),)), ON_GPU, {}, 3, 5),  # as many as fit on it
        (Machine(16, 128_000, (Gpu("0", 80_000),)), SMALL, {}, 16, 1),  # a GPU that is not asked for
    ],
)
def test_jobs_and_threads_follow_from_the_machine(machine, needs, asked, workers, threads):
    chosen = layout(machine, needs, **asked)
    assert (chosen.workers, chosen.threads, chosen.slots) == (workers, threads, ())


def test_the_largest_job_counts():
    assert layout(Machine(8, 20_000), [*SMALL, Need(9_000)]).workers == 1


def test_every_worker_has_a_gpu_and_every_gpu_its_share():
    two = Machine(16, 128_000, (Gpu("2", 80_000), Gpu("5", 3_000)))
    slots = layout(two, ON_GPU).slots
    assert (slots.count("2"), slots.count("5")) == (8, 2)  # only two fit on the second
    assert slots[:2] == ("2", "5")
    assert layout(two, ON_GPU, workers=3).slots == ("2", "5", "2")


def test_more_than_fits_is_said():
    assert "room for about 1" in layout(Machine(16, 1_000), SMALL, workers=4).warning
    assert "GPU memory" in layout(Machine(16, 128_000, (Gpu("0", 4_000),)), ON_GPU, workers=6).warning
    assert not layout(Machine(16, 64_000), SMALL, workers=4).warning


def test_this_machine_is_what_this_process_may_use():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from scaling.cores import *; "
    one = subprocess.run([sys.executable, "-c", code + "print(cpu_count())"], capture_output=True, text=True, cwd=ROOT)
    assert one.stdout.strip() == "1"
    assert cpu_count() >= 1 and free_memory_mb() > 100


@pytest.mark.parametrize(
    ("seconds", "workers", "busy", "total"),
    [
        ([5, 4, 3, 3, 3], 2, [], 10),  # 9 can be had, but not by taking the next one when free
        ([5, 4, 3, 3, 3], 1, [], 18),
        ([1, 1], 3, [7], 7),
        ([2, 2], 2, [1, 3], 5),
        ([], 2, [4], 4),
        ([], 2, [], 0),
    ],
)
def test_makespan(seconds, workers, busy, total):
    assert makespan(seconds, workers, busy) == total


def test_a_shape_takes_its_own_pace_or_the_nearest_ones():
    paces, small, large = Paces(), Work(("s",), 1000, 10.0), Work(("l",), 1000, 1000.0)
    assert paces.seconds(small) is None
    paces.learn(small, Seen(100, 0.02, 2.0))
    paces.learn(small, Seen(500, 0.01, 1.0))  # the longer run knows the speed better
    paces.learn(large, Seen(500, 0.10, None))
    assert paces.seconds(small) == pytest.approx(1000 * 0.01 + 1.5)
    assert paces.seconds(small, done=400) == pytest.approx(600 * 0.01 + 1.5)
    assert paces.seconds(large) == pytest.approx(100)
    assert paces.seconds(Work(("m",), 1000, 20.0)) == pytest.approx(2 * 11.5)
    assert paces.knows(small, 500) and not paces.knows(small, 501)
    assert not paces.knows(large, 1)  # still running


@pytest.fixture
def train(corpus_dir, cache_dir, tmp_path):
    base = (
        "data=text tokenizer=bytes eval_tokens=4096 logger=none "
        f"data.path={corpus_dir} cache_dir={cache_dir} output_dir={tmp_path}/out"
    ).split()

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        flags = [o for o in overrides if o.startswith("-")]  # Hydra takes overrides in one piece
        command = [sys.executable, str(ROOT / "train.py"), *flags, *base, *(o for o in overrides if o not in flags)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def rows(stdout: str) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in stdout.splitlines()]
    head = next(line for line in lines if line[0] == "run")
    return [dict(zip(head, line, strict=False)) for line in lines if line[0].startswith("tiny-")]


@pytest.mark.slow
def test_a_dry_run_of_a_sweep_lists_what_would_be_done(train, tmp_path):
    from scaling import records

    asked = ("-m", "model=d16_l1,d24_l1", "tokens=5k,100k")
    plan = train(*asked, "dry_run=true")
    assert plan.returncode == 0, plan.stderr
    assert not (tmp_path / "out").exists()
    assert len(rows(plan.stdout)) == 4 and "4 to do" in plan.stdout and "2 of 2 shapes timed now" in plan.stdout
    one = train("model=d16_l1", "tokens=100k")
    assert one.returncode == 0, one.stderr
    (run_dir,) = records.run_dirs(tmp_path / "out" / "default")
    record = records.read(run_dir)
    again = train(*asked, "dry_run=true")
    assert "1 finished before, 3 to do" in again.stdout and "1 of 2 shapes timed now" in again.stdout
    planned = {row["run"]: row for row in rows(again.stdout)}
    row = planned[run_dir.name]
    assert row["note"] == "finished before" and row["seconds"] == ""
    assert [int(row[k]) for k in ("n_total", "n_non_embedding", "tokens", "steps")] == [
        *(record.n_total, record.n_non_embedding, record.tokens, record.tokens // 1024)
    ]
    assert float(row["flops"]) == pytest.approx(record.flops, rel=1e-5)
    (short,) = [row for name, row in planned.items() if "d16_l1-5k" in name]
    assert 0 < float(short["seconds"]) < record.wall_s + 1
    assert len(list((tmp_path / "out" / "default").iterdir())) == 1


def test_a_dry_run_of_one_run(train, tmp_path):
    plan = train("model=d16_l1", "tokens=5k", "dry_run=true")
    assert plan.returncode == 0, plan.stderr
    (row,) = rows(plan.stdout)
    assert row["steps"] == "4" and float(row["seconds"]) > 0 and float(row["memory_mb"]) > 50
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ("+family.options.tide=1", "family.options.tide=1: tiny takes tied"),
        ("data.path=/nowhere", "data.path=/nowhere"),
        ("hydra.launcher.jobs=0", "hydra.launcher.jobs=0"),
        ("seq_len=1048576 tokens.budget=100000000 eval_tokens=1048576", "seq_len=1048576: longer than"),
    ],
)
def test_what_no_job_could_do_is_said_once_before_any_starts(train, tmp_path, overrides, named):
    done = train("-m", "model=d16_l1,d24_l1", *overrides.split())
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert message.startswith("error: ") and named in message
    assert not (tmp_path / "out").exists()
