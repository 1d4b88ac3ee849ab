"""The saved view on W&B, with the real client: its panels show what runs log, and there is one of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose

from scaling.config import ConfigError
from scaling.report import workspace, write
from scaling.report.config import register_schemas
from scaling.sources.local import read_local
from scaling.training import session

pytest.importorskip("wandb_workspaces", reason="it comes with the extra [workspace]")
ROOT = Path(__file__).parents[1]
STUDY = "half=1"  # the client reads filters as Python


@pytest.fixture
def study(wandb_server, small):
    """The directory of two sizes trained online, for real."""
    for model in ("d16_l1", "d24_l1"):
        config = small("logger=wandb", "logger.mode=online", f"study='{STUDY}'", f"model={model}", "tokens=5k")
        assert session.run(config).status == "finished"
    return config.run_dir.parent


@pytest.fixture
def analyze(hydra_conf, tmp_path):
    register_schemas()
    asked = ["workspace=true", f"study='{STUDY}'", f"output_dir={tmp_path}", "bootstrap=0"]
    return lambda *overrides: write.analyze(compose("analyze", overrides=[*asked, *overrides]))


def test_the_view_shows_what_runs_log_and_is_made_once(wandb_server, study, analyze, capsys):
    analyze()
    said = capsys.readouterr()
    (view,) = wandb_server.backend.views
    assert (view["entityName"], view["projectName"], view["type"]) == ("lab", "scaling", "project-view")
    address = f"workspace: {wandb_server.url}/lab/scaling?nw={view['name'].removeprefix('nw-').removesuffix('-v')}"
    assert said.out.splitlines()[-1] == address and said.err == ""
    runs = [run for run in wandb_server.runs("scaling") if run.job_type == "train"]
    assert len(runs) == 2 and len(wandb_server.runs("scaling")) == 3

    section = json.loads(view["spec"])["section"]
    (shown,) = section["panelBankConfig"]["sections"]
    points = [panel["config"] for panel in shown["panels"] if panel["viewType"] == "Scatter Plot"]
    curves = [panel["config"] for panel in shown["panels"] if panel["viewType"] == "Run History Line Plot"]
    assert [p["xAxis"] for p in points] == ["summary:flops", "summary:tokens"]
    assert [c["xAxis"] for c in curves] == ["flops", "tokens"]
    assert all(p["xAxisLogScale"] for p in points) and all(c["xLogScale"] for c in curves)
    for run in runs:
        for key in ("xAxis", "yAxis"):
            assert all(run.summary[p[key].removeprefix("summary:")] > 0 for p in points)
        for row in run.rows():
            assert all(row[key] > 0 for c in curves for key in (c["xAxis"], *c["metrics"]))
    assert {p["yAxis"] for p in points} == {"summary:final/val_loss"} and {*curves[0]["metrics"]} == {"train/loss"}

    (runset,) = section["runSets"]
    wanted = {item["key"]["name"]: item["value"] for item in runset["filters"]["filters"]}
    assert wanted == {"jobType": "train", "group": runs[0].group} and runs[0].group == runs[1].group == STUDY
    assert set(section["customRunColors"]) == {run.name for run in runs}
    assert len(set(section["customRunColors"].values())) == 2

    for edited in ("{}", '{"version": 99}', view["spec"]):  # by the app in forms unknown here, by people
        view["spec"] = edited
        assert address.endswith(workspace.save("lab", "scaling", read_local(study)))
        assert [kept["spec"] for kept in wandb_server.backend.views] == [edited]
    with pytest.raises(ValueError, match="Project `lab/gone` not found"):
        workspace.save("lab", "gone", read_local(study))
    analyze("log=false")
    assert capsys.readouterr().out.splitlines()[-1] == address
    assert wandb_server.requests.count("UpsertView2") == 1 and len(wandb_server.runs("scaling")) == 3


def test_a_key_that_is_refused_is_one_line_and_the_analysis_stays(wandb_server, study):
    command = [sys.executable, "analyze.py", "workspace=true", f"study='{STUDY}'", f"output_dir={study.parent}"]
    environment = os.environ | {"WANDB_API_KEY": "b" * 40}
    done = subprocess.run(
        [*command, "bootstrap=0"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == f"W&B left out: the key on this machine is refused by {wandb_server.url}\n"
    assert "report: " in done.stdout and "workspace: " not in done.stdout
    assert (study / "report" / "report.html").exists() and not wandb_server.backend.views


def test_what_cannot_be_made_is_said_before_any_work(analyze, tmp_path, monkeypatch):
    csv = tmp_path / "runs.csv"
    mapped = ("source=wandb", "source.path=lab/scaling", "source.columns.N=params")
    for overrides, message in {
        (): rf"^workspace=true: no run of {tmp_path}/{STUDY} went to W&B; what was synced is read by source=wandb$",
        ("source=csv", f"source.path={csv}"): "^workspace=true: no run of source=csv went to W&B;",
        mapped: "^workspace=true: its panels are of what train.py logs, not of runs that source.columns reads$",
    }.items():
        with pytest.raises(ConfigError, match=message):
            analyze(*overrides)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    needs = r"^workspace=true: needs the package wandb-workspaces, pip install .*\[workspace\]'$"
    with pytest.raises(ConfigError, match=needs):
        analyze()
