"""source=wandb: the same table as source=local, in a handful of requests, and other people's projects too."""

import json
import time

import pandas as pd
import pytest
from hydra import compose
from runs import record
from wandb_graphql import ENTITY, HISTORY, Run

from scaling import dashboard
from scaling.config import ConfigError
from scaling.report.config import register_schemas, typed_analyze
from scaling.report.write import read_source
from scaling.sources.config import ColumnsConfig, SourceConfig
from scaling.sources.local import read_local
from scaling.sources.select import select
from scaling.sources.wandb import read_wandb
from scaling.sync import sync
from scaling.training import session

ROW = {"step": 1, "tokens": 1024, "flops": 6e6, "epoch": 0.1, "loss_train": 5.0, "loss_val": None, "lr": 0.1}
ROW["phase"] = "stable"


@pytest.fixture
def source(wandb_server, tmp_path):
    return lambda **other: SourceConfig(
        **({"name": "wandb", "path": f"{ENTITY}/scaling", "cache_dir": str(tmp_path / "cache")} | other)
    )


@pytest.fixture
def put(wandb_server):
    """Put a run straight into the server's memory."""

    def put(name, summary, config=None, rows=(), project="scaling", **other):
        config = {key: {"value": value} for key, value in (config or {}).items()}
        lines = {HISTORY: dict(enumerate(json.dumps(dashboard.metrics_of(row)) for row in rows))}
        run = Run(ENTITY, project, name, config=config, summary=summary, lines=lines, **({"state": "finished"} | other))
        wandb_server.backend.runs[ENTITY, project, name] = run
        return run

    return put


def ours(put, name, one, **other):
    return put(name, dashboard.summary_of(one), display=name, group=one.study, **other)


def assert_same(remote, local):
    pd.testing.assert_frame_equal(remote.runs, local.runs)
    assert remote.countings == local.countings
    names = list(local.runs["run"])
    pd.testing.assert_frame_equal(remote.read_curves(names), local.read_curves(names))
    assert len(local.read_curves(names)) == 9 * len(names)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_sweep_comes_back_as_the_same_table(wandb_server, small, source, mode):
    configs = [small("logger=wandb", f"logger.mode={mode}", f"model={m}") for m in ("d16_l1", "d24_l1")]
    for config in configs:
        assert session.run(config, ["model=d16_l1"]).status == "finished"
    study = configs[0].run_dir.parent
    if mode == "offline":
        assert sync(study) == 0
    assert_same(read_wandb(source(), "default"), read_local(study))


def test_fifty_six_runs_in_a_handful_of_requests_and_once(wandb_server, source, put):
    for n in range(7):
        for d in range(8):
            one = record(1000 * (n + 1), 1024 * (d + 1))
            ours(put, f"r{n}{d}", one, rows=[ROW | {"step": i, "tokens": 1024 * i} for i in range(1, 25)])
    running = ours(put, "r", record(9000, 1024, status="running", loss_val=None), state="running")
    took = []
    for attempt in range(3):  # the machine may be busy
        wandb_server.requests.clear()
        began = time.perf_counter()
        table = read_wandb(source(cache_dir=f"{source().cache_dir}{attempt}"), "known")
        took.append(time.perf_counter() - began)
    assert min(took) < 2
    assert len(wandb_server.requests) <= 4, wandb_server.requests
    (chosen,) = select(table)
    assert len(chosen.used) == 56 and list(chosen.dropped["dropped"]) == ["running"]
    assert len(table.read_curves(list(chosen.used["run"]))) == 56 * 24

    wandb_server.requests.clear()
    again = read_wandb(source(cache_dir=f"{source().cache_dir}2"), "known")
    again.read_curves(list(chosen.used["run"]))
    pd.testing.assert_frame_equal(again.runs, table.runs)
    assert wandb_server.requests.count("Runs") == 2 and "RunFullHistory" not in wandb_server.requests  # the running one
    running.state, running.summary = "finished", dashboard.summary_of(record(9000, 1024))
    assert len(select(read_wandb(source(cache_dir=f"{source().cache_dir}2"), "known"))[0].used) == 57


def test_a_damaged_cache_is_pulled_again(source, put, tmp_path):
    ours(put, "a", record(1000, 1024))
    first = read_wandb(source())
    (file,) = (tmp_path / "cache").rglob("a.json")
    file.write_text(file.read_text()[:50])
    pd.testing.assert_frame_equal(read_wandb(source()).runs, first.runs)


def test_study_tag_and_state(source, put):
    ours(put, "a", record(1000, 1024, study="one"), tags=["x"])
    ours(put, "b", record(2000, 1024, study="two"), tags=["x", "y"])
    ours(put, "c", record(3000, 1024, study="two", status="failed"), state="failed")
    assert list(read_wandb(source()).runs["run"]) == ["a", "b", "c"]
    assert list(read_wandb(source(), "two").runs["run"]) == ["b", "c"]
    assert list(read_wandb(source(tag="x")).runs["run"]) == ["a", "b"]
    assert list(read_wandb(source(state="finished"), "two").runs["run"]) == ["b"]
    with pytest.raises(ConfigError, match=r'^source.path=lab/scaling: no runs with {"group": "three"}$'):
        read_wandb(source(), "three")
    with pytest.raises(ConfigError, match=r"^source.path=lab/gone: no such project, or this key may not read it$"):
        read_wandb(source(path="lab/gone"))


def test_twice_and_unfinished_is_said(source, put):
    ours(put, "a", record(1000, 1024, loss_val=3.0), created="2026-01-01")
    ours(put, "a-r1", record(1000, 1024, loss_val=2.9), created="2026-01-02")
    ours(put, "a-r2", record(1000, 1024, status="running", loss_val=None), state="crashed", created="2026-01-03")
    ours(put, "b", record(2000, 1024, status="running", loss_val=None), state="crashed")
    put("other", {"accuracy": 1.0})
    (chosen,) = select(read_wandb(source()))
    assert list(chosen.used["loss"]) == [2.9]
    assert list(chosen.dropped["dropped"]) == ["failed: crashed on W&B before it said how it ended"]
    assert "2 runs were trained again: the latest that finished is taken" in chosen.notes
    assert "1 runs of the project are no training runs of ours" in chosen.notes


def test_anybodys_project_through_a_map_of_columns(source, put):
    for i, (n, d) in enumerate([(10, 100), (20, 100), (20, 400)]):
        config = {"model": {"params": n}, "lr": 0.1, "tokens": d}
        put(f"id{i}", {"val": {"loss": {"min": 3.0 - i / 10}}, "_step": 5, "lr": 0.0}, config, display="sweep")
    put("gone", {"val": {"loss": {"min": "NaN"}}}, {"model": {"params": 30}, "tokens": 100})
    put("still", {}, {"model": {"params": 30}}, state="crashed", display="still")
    columns = ColumnsConfig(N="model.params", D="tokens", loss="val.loss.min", lr="config.lr")
    table = read_wandb(source(columns=columns))
    (chosen,) = select(table)
    assert list(chosen.used["n"]) == [10, 20, 20] and list(chosen.used["loss"]) == [3.0, 2.9, 2.8]
    assert list(chosen.used["flops"]) == [6000, 12000, 48000] and "C is not in the file: C = 6 N D" in table.notes
    assert list(chosen.used["run"]) == ["sweep (id0)", "sweep (id1)", "sweep (id2)"]
    assert dict(zip(chosen.dropped["run"], chosen.dropped["dropped"], strict=True)) == {
        "gone": "no loss",
        "still": "failed: crashed on W&B",
    }
    with pytest.raises(ConfigError, match=r"^source.columns.N=null: the runs of lab/scaling were not made by train.py"):
        read_wandb(source())
    with pytest.raises(ConfigError, match=r"^source.columns.N=params: no such column in lab/scaling; columns: .*model"):
        read_wandb(source(columns=ColumnsConfig(N="params", D="tokens", loss="val.loss.min")))


def test_the_analysis_is_a_run_beside_its_runs(wandb_server, source, put, hydra_conf, tmp_path, capsys):
    from scaling.report import write

    for i, (n, d) in enumerate((n, d) for n in (10**5, 10**6, 10**7) for d in (10**7, 10**8, 10**9)):
        ours(put, f"known-{i}", record(n, d, run_id=f"r{i}"))
    register_schemas()
    asked = [f"source.path={ENTITY}/scaling", f"source.cache_dir={tmp_path}/c", f"output_dir={tmp_path}", "bootstrap=0"]
    write.analyze(compose("analyze", overrides=["source=wandb", "study=known", *asked]))
    (run,) = [run for run in wandb_server.runs("scaling") if run.job_type == "analysis"]
    assert (run.group, run.state, run.display) == ("known", "finished", "analysis of known")
    assert run.summary["runs_used"] == 9 and isinstance(run.summary["identified"], bool)
    assert run.summary["fit/alpha"] > 0 and run.summary["figures/loss_vs_compute"]["_type"] == "image-file"
    assert wandb_server.requests.count("upload") >= 4 and "on W&B: http" in capsys.readouterr().out
    assert len(read_wandb(source(), "known").runs) == 9  # and is not taken for one of them


def test_settings_reach_it_and_wrong_ones_are_named(source, put, hydra_conf, tmp_path, monkeypatch):
    register_schemas()
    ours(put, "a", record(1000, 1024))

    def read(*overrides):
        base = ["source=wandb", f"source.cache_dir={tmp_path}/cache", f"output_dir={tmp_path}"]
        return read_source(typed_analyze(compose("analyze", overrides=[*base, *overrides])))

    assert len(read("source.path=lab/scaling", "study=known").runs) == 1
    for overrides, message in {
        ("source.path=scaling",): "source.path=scaling: source=wandb needs entity/project",
        ("source.path=a/b", "source.state=odd"): "source.state=odd: must be one of finished, running,",
        ("source=local", "source.tag=x"): "source.tag=x: only source=wandb has a tag",
    }.items():
        with pytest.raises(ConfigError, match=f"^{message}"):
            read(*overrides)
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(
        ConfigError, match=r"^source=wandb: no key on this machine; `wandb login`, or set WANDB_API_KEY$"
    ):
        read("source.path=lab/scaling")
