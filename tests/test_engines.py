"""Sweeps that an engine runs: submitit's local executor; real SLURM and Ray have `make test-slurm`, `make test-ray`."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import record, write
from test_multirun import by_name, holders

from scaling.cli import environment_of_jobs
from scaling.sources.local import read_local
from scaling.training import session

ROOT = Path(__file__).parents[1]
needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="submitit is not installed: pip install -e '.[slurm]'"
)


@pytest.fixture
def command(corpus_dir, cache_dir, tmp_path):
    base = (
        "-m data=text tokenizer=bytes eval_tokens=4096 logger=none hydra/launcher=slurm_local trainer.threads=1 "
        f"model=d16_l1 data.path={corpus_dir} cache_dir={cache_dir} output_dir=outputs"
    ).split()
    return lambda *overrides: [sys.executable, str(ROOT / "train.py"), *base, *overrides]


@needs_submitit
def test_a_sweep_of_jobs_goes_on_when_one_fails_and_the_same_line_finishes_it(command, small, tmp_path):
    def sweep() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command("tokens=5k,10k"), cwd=tmp_path, capture_output=True, text=True)

    configs = [small(f"tokens={budget}", f"output_dir={tmp_path / 'outputs'}") for budget in ("5k", "10k")]
    (configs[0].run_dir / "curve.csv").mkdir(parents=True)  # cannot be written: this run raises in its middle
    done = sweep()
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{configs[0].run_name}\tfailed\t\tIsADirectoryError")
    alone = session.run(small("tokens=10k", f"output_dir={tmp_path / 'alone'}"))
    assert by_name(tmp_path / "outputs/default")[alone.run_name].loss_val == alone.loss_val
    (configs[0].run_dir / "curve.csv").rmdir()
    healed = sweep()
    assert healed.returncode == 0, healed.stderr
    assert "1 finished, 1 skipped" in healed.stdout or "1 skipped, 1 finished" in healed.stdout


@needs_submitit
@pytest.mark.slow
def test_a_preempted_job_is_requeued_and_ends_as_if_nothing_had_been(command, small, tmp_path):
    overrides = ["model=d32_l2", "tokens=100k"]
    process = subprocess.Popen(command(*overrides), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    study = tmp_path / "outputs/default"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(study.glob("*/curve.csv")):
        time.sleep(0.05)
    (lock,) = study.glob("*/.lock")
    (worker,) = holders(lock)
    os.kill(worker, signal.SIGUSR2)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    (log,) = study.glob(".submitit/*/*.out")
    assert log.read_text().count("Starting with") == 2
    (resumed,) = by_name(study).values()
    alone = session.run(small(*overrides, f"output_dir={tmp_path / 'alone'}"))
    assert (resumed.status, resumed.loss_val) == ("finished", alone.loss_val)
    assert len({path.parent for path in study.glob("*/last.ckpt")}) == 0


def test_a_missing_plugin_is_named_with_what_installs_it(tmp_path):
    for launcher, module, extra in (("slurm", "submitit", "slurm"), ("ray", "ray", "ray")):
        if importlib.util.find_spec(module) is None:
            line = ["-m", f"hydra/launcher={launcher}", "tokens=5k,10k"]
            done = subprocess.run(
                [sys.executable, str(ROOT / "train.py"), *line], cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 2 and f".[{extra}]" in done.stderr and len(done.stderr.splitlines()) == 1


def test_jobs_elsewhere_get_what_they_need_of_the_environment(monkeypatch):
    for name, value in {"WANDB_API_KEY": "k", "WANDB_SERVICE": "2-1-tcp", "SCALING_CACHE": "/c", "HOME": "/h"}.items():
        monkeypatch.setenv(name, value)
    sent = environment_of_jobs()
    assert sent["WANDB_API_KEY"] == "k" and sent["SCALING_CACHE"] == "/c"
    assert "WANDB_SERVICE" not in sent and "HOME" not in sent


def test_a_study_split_over_two_clusters_merges_by_copying(tmp_path):
    sizes = range(1000, 9000, 1000)
    parts = {"one": [n for n in sizes if n < 5000], "two": [n for n in sizes if n >= 5000]}
    for cluster, own in parts.items():
        for n in own:
            write(tmp_path / cluster, record(n, 10 * n))
    write(tmp_path / "whole", *(record(n, 10 * n) for n in sizes))
    shutil.copytree(tmp_path / "one", tmp_path / "merged")
    shutil.copytree(tmp_path / "two", tmp_path / "merged", dirs_exist_ok=True)
    merged, whole = (read_local(tmp_path / name).runs.drop(columns="run") for name in ("merged", "whole"))
    assert len(merged) == 8
    assert merged.sort_values("n_total", ignore_index=True).equals(whole.sort_values("n_total", ignore_index=True))
