"""A sweep laid out before it is paid for: within its budget, around the optimum, and run by train.py as written."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose

from scaling import records
from scaling.config import ConfigError
from scaling.laws import LawError
from scaling.laws.design import Limits, _error, isoflop_sweep, of_pairs, rectangle, simulate
from scaling.laws.grid_bias import EPOCH
from scaling.laws.plan import Cost
from scaling.report.config import register_schemas
from scaling.report.design import design

ROOT = Path(__file__).parents[1]
SIZES = np.geomspace(1e6, 1e11, 6)
COST = Cost(SIZES, 6 * SIZES)
WIDE = Limits(1e6, 1e11, 1e7, 1e13)


def test_slices_lie_around_the_optimum_and_cost_what_they_may():
    sweep = isoflop_sweep(EPOCH, COST, 1e21, 0.005, WIDE)
    assert sweep.total == pytest.approx(1e21, rel=1e-6) and len(sweep.N) <= WIDE.runs
    assert pytest.approx(6 * sweep.N * sweep.D) == sweep.C
    law, total = EPOCH, EPOCH["alpha"] + EPOCH["beta"]
    G = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / total)  # Hoffmann et al. 2022, eq. 4
    slices = np.split(np.arange(len(sweep.C)), np.flatnonzero(np.diff(np.log(sweep.C)) > 0.01) + 1)
    assert len(slices) >= 3
    for rows in slices:
        best = G * (sweep.C[rows[0]] / 6) ** (law["beta"] / total)
        assert len(rows) >= 3 and sweep.N[rows].min() < best < sweep.N[rows].max()
    grid = rectangle(sweep, EPOCH, COST, WIDE)
    assert grid.total == pytest.approx(sweep.total, rel=1e-3)
    assert len(np.unique(grid.N)) * len(np.unique(grid.D)) == len(grid.N)


def test_the_expected_interval_holds_the_truth_and_is_that_of_the_linear_theory():
    N, D = np.meshgrid(np.geomspace(1e8, 1e10, 6), np.geomspace(2e9, 2e11, 6))
    sweep = of_pairs("a good grid", COST, N, D)
    found = simulate(sweep, EPOCH, 0.003, draws=60, seed=1)
    assert found.low < found.a < found.high and found.a == pytest.approx(0.5126, abs=1e-3)
    # Huber's objective at a small delta is nearly absolute: between 1 and 1.25 (Laplace against normal) times
    assert 0.8 < found.sd / _error(EPOCH, sweep, 0.003) < 1.6
    twice = simulate(sweep, EPOCH, 0.006, draws=60, seed=1)
    assert twice.sd == pytest.approx(2 * found.sd, rel=0.25)


def test_what_cannot_be_laid_out_says_what_stands_in_the_way():
    with pytest.raises(LawError, match=r"^budget = 1e\+21 FLOPs: no 3 slices .* D = 1e\+07 and 2e\+07 around"):
        isoflop_sweep(EPOCH, COST, 1e21, 0.005, Limits(1e6, 1e11, 1e7, 2e7))


TINY = "data=synthetic data.options.n_symbols=16 data.options.order=1 data.options.train_tokens=2000000"
SETTINGS = f"{TINY} tokenizer.vocab_size=16 eval_tokens=4096 logger=none"
PRIOR = "prior={E:2,A:20,B:60,alpha:0.4,beta:0.4}"


def designed(*arguments):
    register_schemas()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        design(compose("design", overrides=[str(a) for a in arguments]))
    return out.getvalue()


@pytest.fixture
def laid_out(hydra_conf, tmp_path, cache_dir, monkeypatch):
    """What was printed, and the directory of the experiment."""
    monkeypatch.setenv("SCALING_CACHE", str(cache_dir))
    out = tmp_path / "conf" / "experiment"
    out.mkdir(parents=True)
    printed = designed(
        "budget=1e11", f'train="{SETTINGS}"', PRIOR, f"out={out}", "draws=12", "max_runs=16", "rectangle=true"
    )
    return printed, out


def test_the_experiment_is_what_was_printed(laid_out, hydra_conf):
    printed, out = laid_out
    runs, spent = re.search(r"designed \(.*?\): (\d+) runs, (\S+) FLOPs", printed).groups()
    assert 9 <= int(runs) <= 16 and 5e10 < float(spent) <= 1e11
    assert len(re.findall(r"a = 0\.500 would be found within \[", printed)) == 2
    written = yaml.safe_load((out / "designed.yaml").read_text())["hydra"]["sweeper"]
    assert len(written["runs"]) == int(runs) and written["params"]["data"] == "synthetic"
    configs = [hydra_conf(*SETTINGS.split(), *line.split()) for line in written["runs"]]
    assert len({c.run_name for c in configs}) == int(runs)
    with pytest.raises(ConfigError, match=r"^name=designed: .* is there already"):
        designed("budget=1e11", f"out={out}")


@pytest.mark.slow
def test_a_designed_sweep_is_planned_and_trained(laid_out, tmp_path):
    printed, out = laid_out
    runs, spent = re.search(r"designed \(.*?\): (\d+) runs, (\S+) FLOPs", printed).groups()
    line = [sys.executable, str(ROOT / "train.py"), "--config-dir", str(out.parent), "-m", "experiment=designed"]
    line.append(f"output_dir={tmp_path}")
    dry = subprocess.run([*line, "dry_run=true"], capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    planned = float(re.search(rf"{runs} to do, (\S+) FLOPs", dry.stdout).group(1))
    assert planned == pytest.approx(float(spent), rel=0.01)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [r.status for r in records.readable(tmp_path / "designed")] == ["finished"] * int(runs)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["budget=null"], "budget=null: what may the sweep cost?"),
        (["budget=1e12", "name=a/b"], "name=a/b: must be a plain name"),
        (["budget=1e12", "draws=3"], "draws=3: must be at least 12"),
        (["budget=1e12", "out=/nowhere"], "out=/nowhere: no such directory"),
        (["budget=1e12", "prior.alpha=-1"], "must be E, A, B, alpha and beta, each above 0"),
        (["budget=1e12", "study=x", 'train="data=text"'], "a pilot brings its own settings"),
    ],
)
def test_a_design_that_cannot_be_is_one_line(hydra_conf, arguments, named):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        designed(*arguments)
    assert named in str(error.value)
