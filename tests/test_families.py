"""Families side by side: a compute multiplier that is known is found; every family goes through the sweep."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import SIZES, TOKENS, loss, record, write

from scaling import records
from scaling.laws import LawError, compute_multiplier, frontier
from scaling.report import families
from scaling.report.analysis import analyse
from scaling.sources.local import read_local
from scaling.sources.select import select

ROOT = Path(__file__).parents[1]
N, D = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS))


def grid_frontier(cost=1.0, noise=0.0, seed=0):
    """The known law at `cost` times its compute."""
    y = np.array([loss(n, d) for n, d in zip(N, D, strict=True)])
    y *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(y)))
    return frontier(N, D, cost * 6.0 * N * D, y)


def test_a_known_multiplier_is_found_at_every_loss():
    found = compute_multiplier(grid_frontier(), grid_frontier(cost=2.5), draws=20)
    np.testing.assert_allclose(found.ratio, 2.5, rtol=1e-9)
    assert found.mean == pytest.approx(2.5)
    back = compute_multiplier(grid_frontier(cost=2.5), grid_frontier(), draws=0)
    assert back.mean == pytest.approx(1 / 2.5) and np.isnan(back.ci).all()
    assert (np.diff(found.loss) < 0).all() and (np.diff(found.C) > 0).all()


def test_its_interval_covers_the_truth_under_noise():
    inside = []
    for seed in range(12):
        theirs = grid_frontier(cost=2.5, noise=0.003, seed=100 + seed)
        low, high = compute_multiplier(grid_frontier(noise=0.003, seed=seed), theirs, draws=60).mean_ci
        inside.append(low <= 2.5 <= high)
    assert sum(inside) >= 9


def test_losses_that_only_one_reaches_are_not_compared():
    with pytest.raises(LawError, match="no loss is reached by both"):
        compute_multiplier(frontier(N, D, N * D, 3 + 1 / np.log(D)), frontier(N, D, N * D, 1 + 1 / np.log(D)))


def test_a_study_of_families_is_compared(tmp_path):
    """`other` takes twice the compute of `tiny` for everything."""
    cells = [(int(n), int(d)) for n in SIZES[::2] for d in TOKENS[::2]]
    write(tmp_path / "a", *(record(n, d) for n, d in cells))
    write(
        tmp_path / "a", *(record(n, d + 1, family="other", flops=12.0 * n * d, loss_val=loss(n, d)) for n, d in cells)
    )
    analyses = [analyse(one, bootstrap=8) for one in select(read_local(tmp_path / "a"), group_by="family")]
    assert families.comparable(analyses, "family") and not families.comparable(analyses[:1], "family")
    text = families.write(families.compare(analyses, 8, 0), tmp_path / "report")
    assert "| tiny | 35 |" in text and "| other | 35 |" in text
    assert "| 1 |" in text and "2.00 x [" in text
    assert (tmp_path / "report/figures/comparison.png").stat().st_size > 10_000
    assert len((tmp_path / "report/comparison.csv").read_text().splitlines()) == 10
    analyses[1].selection.runs["data_id"] = "elsewhere"
    assert not families.comparable(analyses, "family")


def test_every_family_goes_through_one_sweep_and_one_analysis(tmp_path, cache_dir):
    sweep = ["-m", "experiment=smoke", "family=glob(*)", "model=d16_l1", "tokens=5k", "logger=none"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *sweep, f"output_dir={tmp_path}", f"cache_dir={cache_dir}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    runs = [records.read(path) for path in records.run_dirs(tmp_path / "smoke")]
    assert {r.family for r in runs} == {path.stem for path in (ROOT / "conf" / "family").iterdir()}
    assert {r.status for r in runs} == {"finished"}
    assert all(r.n_active < r.n_total if r.family == "moe" else r.n_active == r.n_total for r in runs)
    refused = ["study=smoke", f"output_dir={tmp_path}", "bootstrap=0"]
    done = subprocess.run([sys.executable, str(ROOT / "analyze.py"), *refused], capture_output=True, text=True)
    assert done.returncode == 2 and "group_by=family" in done.stderr
    done = subprocess.run(
        [sys.executable, str(ROOT / "analyze.py"), *refused, "group_by=family"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "comparison:" in done.stdout and (tmp_path / "smoke/report/comparison.md").exists()
