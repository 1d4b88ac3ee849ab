"""`analyze.py budget=…`: hours, money and days as FLOPs, the answer in a few lines, and a train.py line that runs."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose
from runs import grid, record
from runs import write as put

from scaling import records
from scaling.config import ConfigError
from scaling.report import methods, parametric, write
from scaling.report.budget import BudgetConfig, devices
from scaling.report.config import AnalyzeConfig, register_schemas
from scaling.report.plan import Ask, make_plan
from scaling.report.plan_text import plan_lines
from scaling.report.tables import plain
from scaling.sources.config import SourceConfig
from scaling.sources.local import read_local
from scaling.sources.select import select

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def analyze(hydra_conf):
    register_schemas()

    def run(*arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            write.analyze(compose("analyze", overrides=[str(a) for a in arguments]))
        return out.getvalue()

    return run


@pytest.mark.parametrize(
    ("given", "flops"),
    [
        ({"budget": 1e15}, 1e15),
        ({"gpu_hours": 200, "device": "h100"}, 200 * 3600 * 0.4 * 989.4e12),
        ({"dollars": 5000, "price_per_hour": 2, "device": "h100", "mfu": 0.5}, 2500 * 3600 * 0.5 * 989.4e12),
        ({"deadline_days": 3, "gpus": 8, "device": "a100"}, 3 * 24 * 8 * 3600 * 0.4 * 312e12),
        ({}, None),
    ],
)
def test_a_budget_is_what_it_buys(given, flops):
    assert BudgetConfig(**given).flops() == (None if flops is None else pytest.approx(flops))


def test_every_device_has_a_peak_and_a_source():
    known = devices()
    assert {"h100", "h200", "a100"} <= set(known) and len(known) > 10
    assert all(1 < d.tflops < 1e4 and d.precision and len(d.source) > 20 for d in known.values())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["budget=1e15", "gpu_hours=3", "device=h100"], "budget=1e+15, gpu_hours=3: one budget at a time"),
        (["gpu_hours=3"], "gpu_hours=3: needs device="),
        (["dollars=3", "device=h100"], "dollars=3: needs price_per_hour="),
        (["budget=0"], "budget=0.0: must be above 0"),
        (["budget=1e15", "mfu=1.4"], "mfu=1.4: must be a share"),
        (["gpu_hours=3", "device=abacus"], "device=abacus: must be one of h200, h100"),
        (["budget=1e15", "inference_tokens=-1"], "inference_tokens=-1.0: must be 0 or above"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(analyze, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        analyze(*arguments)
    assert named in str(error.value) and not list(tmp_path.iterdir())


def plans(study):
    """ask(budget, …) -> the plan of a study and what is printed of it, with the law fitted once."""
    (selection,) = select(read_local(study))
    counting = selection.primary
    fits = (parametric.fit(selection, counting, "chinchilla", "huber", 20, 0),)
    answer = parametric.as_estimate(fits[0], fits)
    best, _, _ = methods.from_frontier(selection, counting, 0, 0)

    def ask(budget, inference_tokens=0.0):
        plan = make_plan(
            selection, fits, best, answer if answer.identified else None, Ask(budget, inference_tokens, study)
        )
        said = plan_lines(plan, AnalyzeConfig(study=study.name, budget=budget, source=SourceConfig("local")))
        return plan, "\n".join(said)

    return ask


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    root = tmp_path_factory.mktemp("known")
    grid(root / "known", noise=0.005)
    return plans(root / "known")


def test_beyond_what_was_measured_is_said_in_the_same_breath(known):
    plan, printed = known(1e20)
    N, loss = (line for line in printed.splitlines() if "EXTRAPOLATED" in line)
    assert "EXTRAPOLATED 1.67e+03 x" in N and "tokens per parameter" in N
    assert "EXTRAPOLATED 1.67e+03 x" in loss and "nats per token" in loss
    assert "no train.py line" in printed and "python train.py" not in printed
    data = json.loads(json.dumps(plain(plan), allow_nan=False))
    table, i = data["table"], data["asked"]
    assert table["C"][i] == 1e20 and table["N_low"][i] < table["N"][i] < table["N_high"][i]
    assert len(table["C"]) == 62 and len(table["extra_compute"][0]) == len(table["ratio"])
    assert all(np.diff(table["N"]) > 0) and all(np.diff(table["loss"]) < 0)


def test_within_what_was_measured_nothing_more_is_needed(known):
    plan, printed = known(1e16, 2e8)
    assert "EXTRAPOLATED" not in printed and "within the compute measured" in printed
    assert "200M tokens of inference included" in printed and "next sweep: none is needed" in printed
    assert plan.table.N[plan.asked] < known(1e16)[0].table.N[plan.asked]
    below, near, *_ = [c.N for c in plan.choices]
    assert below < near <= plan.table.N[plan.asked] and len(plan.choices) == 4
    assert re.search(r"round sizes, and the compute they waste: \S+ \+[\d.]+%, ", printed)


def test_where_nothing_is_identified_it_says_what_is_missing(tmp_path):
    put(tmp_path / "edge", *(record(n, d) for n in (1000, 1100) for d in (10**6, 10**7, 10**8, 10**9)))
    _, printed = plans(tmp_path / "edge")(1e12)
    assert "not identified: no law is identified" in printed and "python train.py" not in printed
    assert "best run seen within it: n1" in printed and "N max" in printed
    assert "larger sizes at" in printed
    assert re.search(r"next sweep, .*--config-name=design study=edge budget=", printed)


LAW = {"E": 1.5, "A": 100.0, "B": 173.0, "alpha": 0.5, "beta": 0.5}  # best near 20k parameters on 60k tokens


def trained_study(config, root):
    """Records of real shapes with losses of a known law, beside the settings of a run."""
    from dataclasses import asdict, replace

    from scaling.config import ModelConfig
    from scaling.models.base import Shape, build_meta

    for d, layers in ((8, 1), (16, 1), (24, 1), (32, 2), (48, 2)):
        model = ModelConfig(f"d{d}_l{layers}", d, 4 * d, layers, max(1, d // 16))
        one = replace(config, model=model)
        built = build_meta(one.family, Shape.of(one, 256))
        counts = built.counts()
        for tokens in (10240, 20480, 40960, 81920, 163840, 327680):
            run_dir = root / "made" / f"{model.name}-{tokens}"
            run_dir.mkdir(parents=True)
            loss = LAW["E"] + LAW["A"] / counts.n_total**0.5 + LAW["B"] / tokens**0.5
            record(
                counts.n_total,
                tokens,
                loss_val=loss,
                flops_per_token=built.flops_per_token(),
                flops=built.flops_per_token() * tokens,
                d_model=d,
                d_mlp=4 * d,
                n_layers=layers,
                n_heads=model.n_heads,
                family="tiny",
            ).write(run_dir)
            (run_dir / "config.yaml").write_text(yaml.safe_dump(asdict(one)))


def test_the_line_of_a_plan_runs_and_is_the_run_that_was_promised(small, tmp_path, cache_dir, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(cache_dir))
    trained_study(small("optim.lr=0.004", "schedule=cosine"), tmp_path)
    ask = plans(tmp_path / "made")
    plan, printed = ask(5e9)
    (line,) = re.findall(r"^  (python train\.py .*)$", printed, re.M)
    assert "optim.lr=0.004" in line and "schedule=cosine" in line and "data=text" in line
    command = [sys.executable, str(ROOT / "train.py"), *shlex.split(line)[2:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    new = [r for r in map(records.read, records.run_dirs(tmp_path / "made")) if r.run_id and "-" not in r.run_id]
    assert [(r.n_total, r.tokens, r.flops, r.lr, r.status) for r in new] == [
        (plan.run.N, plan.run.tokens, plan.run.C, 0.004, "finished")
    ]
    assert plan.run.C == pytest.approx(5e9, rel=0.05) and plan.run.extra_compute < 0.05
    _, dear = ask(1e12)
    assert "no train.py line: D = " in dear and "different ones" in dear


def test_the_critical_batch_of_a_study_at_several_batch_sizes(tmp_path):
    """Curves on McCandlish's hyperbola, S = S_min + E_min / B, with B_crit = 16 sequences of 64 tokens."""
    from scaling.report.batch import critical_batch_of

    losses = np.geomspace(5, 3, 12)
    least = 200 * (5 / losses) ** 6  # S_min of each loss
    for batch in (4, 8, 16, 32, 64):
        one = record(10**6, 10**6, batch_size=batch, loss_val=3.0 + batch / 1e4)
        run_dir = tmp_path / "study" / f"b{batch}"
        run_dir.mkdir(parents=True)
        one.write(run_dir)
        tokens = least * (1 + 16 / batch) * batch * 64
        rows = [f"{t:.0f},{6e6 * t},{y},,stable,0.1" for t, y in zip(tokens, losses, strict=True)]
        (run_dir / "curve.csv").write_text("tokens,flops,loss_train,loss_val,phase,epoch\n" + "\n".join(rows))
    (selection,) = select(read_local(tmp_path / "study"))
    assert len(selection.used) == 1  # one (N, D), of which the analysis takes the best batch size
    found, why = critical_batch_of(selection)
    assert why == "" and found is not None and len(found.trade_offs) >= 3
    assert [t.B_crit for t in found.trade_offs] == pytest.approx([16 * 64] * len(found.trade_offs), rel=0.02)
