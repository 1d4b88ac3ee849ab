"""`python analyze.py` as people run it: what it prints, what it leaves, what it refuses."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose
from runs import ALPHA, BETA, grid, record
from runs import write as put

from scaling.config import ConfigError
from scaling.report import status, write
from scaling.report.config import register_schemas

ROOT = Path(__file__).parents[1]
TRUE_A = BETA / (ALPHA + BETA)


@pytest.fixture(scope="module")
def analyze(hydra_conf):
    """analyze("study=x", …) -> what it printed, without the start of a process."""
    register_schemas()

    def run(*arguments, verb=("analyze", write.analyze)):
        name, main = verb
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main(compose(name, overrides=[str(a) for a in arguments]))
        return out.getvalue()

    return run


def process(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "analyze.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a study whose law is known, and what was printed."""
    root = tmp_path_factory.mktemp("known")
    grid(root / "known")
    put(root / "known", record(123, 1024, status="diverged", error="loss is not finite", loss_val=None))
    done = process("study=known", f"output_dir={root}", "bootstrap=50", cwd=root)
    assert done.returncode == 0, done.stderr
    return root / "known" / "report", done.stdout, root


def test_it_leaves_the_report_and_nothing_else(report):
    out, _, root = report
    names = {"report.html", "runs.csv", "frontier.csv", "fits.json"}
    assert {p.name for p in out.iterdir()} == names | {"figures"}
    drawn = (
        "loss_vs_compute",
        "efficient_frontier",
        "allocation",
        "isoflop_slices",
        "exponents",
        "residuals",
        "hold_out",
    )
    for name in (*drawn, "grid_bias"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 10_000
        assert (out / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    assert [p.name for p in root.iterdir()] == ["known"]


def test_it_prints_the_answer_in_a_few_lines(report):
    out, stdout, _ = report
    assert len(stdout.splitlines()) < 25
    assert "known: 117 of 118 runs (1 diverged)" in stdout
    assert "b = 1 - a by construction" in stdout
    assert "answer: N_opt ~ C^0.40 [0.40, 0.40]" in stdout
    assert stdout.strip().endswith(f"report: {out / 'report.html'}")


def test_the_frontier_regression_of_interior_points_is_near_the_truth(report):
    out, _, _ = report
    fits = json.loads((out / "fits.json").read_text())
    (row,) = [
        e for e in fits["estimates"] if e["method"] == "frontier, interior points" and e["counting"] == "total, 6ND"
    ]
    assert row["identified"]
    assert abs(row["a"] - TRUE_A) < 0.06
    assert row["a"] + row["b"] == pytest.approx(1)
    assert fits["dropped"] == [{"run": fits["dropped"][0]["run"], "why": "diverged: loss is not finite"}]


def test_tables_hold_every_run_and_every_frontier(report):
    out, _, _ = report
    runs = pd.read_csv(out / "runs.csv")
    assert len(runs) == 118 and runs["dropped"].notna().sum() == 1
    frontier = pd.read_csv(out / "frontier.csv")
    assert set(frontier["counting"]) == {"total", "non_embedding", "with_head", "total_6nd", "non_embedding_6nd"}
    total = frontier[frontier["counting"] == "total"]
    assert total["C"].is_monotonic_increasing and total["loss"].is_monotonic_decreasing
    assert set(total["run"]) <= set(runs["run"])


def test_a_grid_of_edges_is_not_identified(analyze, tmp_path):
    put(tmp_path / "edge", *(record(n, d) for n in (1000, 1100) for d in (10**6, 10**7, 10**8, 10**9)))
    printed = analyze("study=edge", f"output_dir={tmp_path}", "bootstrap=0")
    assert "not identified" in printed
    assert "are the edge of the grid, no optima" in printed


def test_one_run_is_reported_without_a_slope(analyze, tmp_path):
    put(tmp_path / "one", record(1000, 1024))
    printed = analyze("study=one", f"output_dir={tmp_path}", "bootstrap=0")
    assert "1 of 1 runs" in printed and "not identified" in printed


def test_csv_and_out(analyze, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"{n},{n * 20},{5 - i}" for i, n in enumerate((1e3, 1e4)))
    (tmp_path / "theirs.csv").write_text("N,D,loss\n" + rows)
    analyze("source=csv", "source.path=theirs.csv", "bootstrap=0")
    assert (tmp_path / "outputs/theirs/report/report.html").exists()
    analyze("source=csv", "source.path=theirs.csv", "bootstrap=0", "out=elsewhere")
    assert (tmp_path / "elsewhere/report.html").exists()


def test_group_by_makes_a_report_for_each(analyze, tmp_path):
    put(tmp_path / "mixed", *(record(n, d, data_id=k) for k in ("wiki", "books") for n in (10, 20) for d in (64, 128)))
    with pytest.raises(ConfigError, match=r"data_id: .*group_by=data_id"):
        analyze("study=mixed", f"output_dir={tmp_path}")
    assert not (tmp_path / "mixed/report").exists()
    analyze("study=mixed", f"output_dir={tmp_path}", "group_by=data_id", "bootstrap=0")
    assert {p.name for p in (tmp_path / "mixed/report").iterdir()} == {"wiki", "books"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=gone"], "study=gone: no runs in"),
        (["study=a/b"], "study='a/b': must be a plain name"),
        (["bootstrap=1"], "bootstrap=1: must be 0"),
        (["seed=-1"], "seed=-1: must be 0 or above"),
        (["source=csv"], "source.path=null: source=csv needs the path of a file"),
        (["source.columns.N=x"], "source.columns.N=x: source=local knows its columns"),
        (["source=csv", "source.path=gone.csv"], "source.path=gone.csv: no such file"),
        (["source=csv", "source.path=x", "source.unit=decibel"], "source.unit=decibel: must be one of nats, bits"),
        (["+sauce=csv"], "sauce: no such key"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(analyze, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        analyze(*arguments)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["sauce=csv"], ["source=excel"], ["--config-name=status", "study=gone"]])
def test_the_process_ends_with_one_line_and_non_zero(tmp_path, arguments):
    done = process(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert arguments[-1].split("=")[1] in line or arguments[-1].split("=")[0] in line
    assert not list(tmp_path.iterdir())


def test_rejected_settings_wait_for_no_library():
    code = (
        "import sys; sys.argv = ['analyze.py', 'bootstrap=-1']\n"
        "import runpy\n"
        "try: runpy.run_path('analyze.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print({'torch', 'lightning', 'matplotlib', 'plotly', 'pandas', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_status_while_a_study_runs(analyze, tmp_path):
    put(
        tmp_path / "live",
        record(1000, 1024),
        record(2000, 2048, status="running", tokens_done=1024, loss_val=None, loss_train=5.5, tokens_per_s=2500.0),
        record(3000, 1024, status="failed", error="RuntimeError: out of memory", loss_val=None),
    )
    *rows, total = analyze("study=live", f"output_dir={tmp_path}", verb=("status", status.show)).splitlines()
    cells = [row.split("\t") for row in rows]
    assert cells[0][:4] == ["run", "status", "done", "share"]
    running = next(row for row in cells if row[1] == "running")
    assert running[2:6] == ["1.02k/2.05k", "50%", "5.5000", "2.5k"]
    assert next(row for row in cells if row[1] == "failed")[-1] == "RuntimeError: out of memory"
    assert total == "3 runs: 1 finished, 1 running, 1 failed"
