"""W&B offline with the real client: one run a job, rows with exact axes, a summary to plot from, no key anywhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling import records
from scaling.config import ConfigError
from scaling.launcher.preflight import wandb_mode
from scaling.training import session


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_without_a_key_all_is_offline(no_key):
    assert wandb_mode("auto") == ("offline", "no key on this machine")
    assert wandb_mode("none") == ("none", "") and wandb_mode("offline") == ("offline", "")
    with pytest.raises(ConfigError, match="^logger.mode=online: no key on this machine; allowed: auto, offline"):
        wandb_mode("online")


def test_two_jobs_of_one_process_are_two_offline_runs(no_key, small, tmp_path):
    configs = [small("logger=wandb", "logger.mode=offline", f"model={m}") for m in ("d16_l1", "d24_l1")]
    for config in configs:
        assert session.run(config).status == "finished"
    for config in configs:
        run_dir = tmp_path / "default" / config.run_name
        (offline,) = run_dir.glob("wandb/offline-run-*/*.wandb")
        rows, seen = inspect(offline)
        record = records.read(run_dir)
        assert seen["id"] == f"default-{config.run_hash}" and seen["name"] == config.run_name
        assert seen["group"] == "default" and seen["tags"] == ["tiny"]
        assert [row["tokens"] for row in rows] == [1024 * n for n in range(1, 10)]
        assert rows[-1]["flops"] == record.flops and rows[-1]["train/loss"] == record.loss_train
        assert seen["config"]["model"]["d_model"] == config.model.d_model
        assert seen["summary"]["final/val_loss"] == record.loss_val
        assert {"n_total", "tokens", "flops", "status"} <= seen["summary"].keys()
        assert seen["exit_code"] == 0


def test_a_diverged_run_is_shown_as_failed(no_key, small, tmp_path):
    config = small("logger=wandb", "logger.mode=offline", "optim.lr=1e30", "optim.grad_clip=null")
    assert session.run(config).status == "diverged"
    (offline,) = (tmp_path / "default").glob("*/wandb/offline-run-*/*.wandb")
    assert inspect(offline)[1]["exit_code"] == 1


def inspect(path: Path) -> tuple[list[dict], dict]:
    """History rows and the rest of an offline run, through W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    seen: dict = {"summary": {}}
    rows = []
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        match entry["type"]:
            case "history":
                rows.append(entry["history"]["item"])
            case "summary":
                seen["summary"] |= entry["summary"]["update"]
            case "run" if "id" not in seen:
                run = entry["run"]
                seen |= {"id": run["run_id"], "name": run["display_name"], "group": run["run_group"]}
                seen |= {"tags": run["tags"], "config": run["config"]["update"]}
            case "exit":
                seen["exit_code"] = entry["exit"].get("exit_code", 0)
    return rows, seen
