"""W&B with the real client against a server on this machine: every row once, failures shown, nobody waits."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
from wandb_server import KEY

from scaling import dashboard, records
from scaling.config import ConfigError
from scaling.launcher.preflight import wandb_mode
from scaling.sync import sync
from scaling.training import session
from scaling.training.module import Training

ROOT = Path(__file__).parents[1]
SAVING = "trainer.checkpoint_every_s=1e-9"  # after every chunk


@pytest.fixture
def online(small, wandb_server):
    return lambda *overrides: small("logger=wandb", "logger.mode=online", *overrides)


@pytest.fixture
def offline(small, wandb_server):
    return lambda *overrides: small("logger=wandb", "logger.mode=offline", *overrides)


@pytest.fixture
def at_row(monkeypatch):
    """at_row(5, do): once the fifth window of a run has ended, `do` happens."""

    def plan(n, do):
        def close(module, lr):
            real(module, lr)
            if len(module.rows) == n:
                monkeypatch.setattr(Training, "_close_window", real)
                do()

        real = Training._close_window
        monkeypatch.setattr(Training, "_close_window", close)

    return plan


def on_server(server, config, attempt=0):
    return server.run("scaling", dashboard.run_id(config.study, config.run_hash, attempt))


def assert_rows_once(server, config):
    """The curve on the server is the one on disk, each row once and in its order."""
    run = on_server(server, config)
    curve = dashboard.read_curve(config.run_dir)
    assert [dashboard.row_of(row) for row in run.rows()] == curve and len(curve) == 9
    assert [row["_step"] for row in run.rows()] == list(range(9))


def raise_(error):
    raise error


def test_a_run_is_on_the_server_as_it_is_on_disk(wandb_server, online, capsys):
    config = online()
    assert session.run(config).status == "finished"
    (run,) = wandb_server.runs("scaling")
    assert run.name == f"default-{config.run_hash}" and run.display == config.run_name
    assert (run.group, run.job_type, run.tags, run.state) == ("default", "train", ["tiny"], "finished")
    assert run.config["model"]["value"]["d_model"] == 16
    assert_rows_once(wandb_server, config)
    record = records.read(config.run_dir)
    assert run.summary["final/val_loss"] == record.loss_val and run.summary["tokens"] == record.tokens
    assert dashboard.record_of(run.summary) == records.RunRecord(**(vars(record) | {"versions": {}, "overrides": []}))
    assert sync(config.run_dir.parent) == 0 and capsys.readouterr().out.endswith(": 1 there already\n")
    files = [path.read_bytes() for path in config.run_dir.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in file for file in files)


def test_what_failed_online_is_shown_so_and_taken_up_again(wandb_server, online, at_row):
    config = online(SAVING)
    at_row(5, lambda: raise_(RuntimeError("out of memory")))
    assert session.run(config).status == "failed"
    assert on_server(wandb_server, config).state == "failed"
    assert on_server(wandb_server, config).summary["error"] == "RuntimeError: out of memory"
    assert session.run(config).status == "finished"
    assert_rows_once(wandb_server, config)
    run = on_server(wandb_server, config)
    assert run.state == "finished" and "error" not in run.summary and len(wandb_server.runs("scaling")) == 1


def test_trained_again_is_another_run(wandb_server, online):
    config = online()
    session.run(config)
    assert session.run(online("force=true")).status == "finished"
    first, second = on_server(wandb_server, config), on_server(wandb_server, config, attempt=1)
    assert len(first.rows()) == len(second.rows()) == 9 and len(wandb_server.runs("scaling")) == 2


DIE = """
import os, pickle, signal, sys, time
from scaling.training import session
from scaling.training.callbacks import Heartbeat
from scaling.training.tracking import Tracker
Heartbeat.__init__.__defaults__ = (0.0,)  # rows go out at once
real = Tracker.log
def log(tracker, rows):
    real(tracker, rows)
    if len(rows) == 5:
        time.sleep(3)  # rows reach the disk, and the server
        os.kill(os.getpid(), signal.SIGKILL)
Tracker.log = log
session.run(pickle.load(sys.stdin.buffer))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_killed_run_goes_on_without_losing_or_doubling_a_row(wandb_server, small, mode):
    config = small("logger=wandb", f"logger.mode={mode}", SAVING)
    quick = os.environ | {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
    died = subprocess.run([sys.executable, "-c", DIE], input=pickle.dumps(config), cwd=ROOT, env=quick, check=False)
    assert died.returncode == -9 and records.read(config.run_dir).status == "running"
    if mode == "online":
        assert len(on_server(wandb_server, config).rows()) == 5  # one more than the checkpoint knows of
    wandb_server.requests.clear()
    assert sync(config.run_dir.parent) == 0 and not wandb_server.requests  # it has not ended
    assert session.run(config).status == "finished"
    if mode == "offline":
        assert not wandb_server.runs("scaling") and len(list(config.run_dir.glob("wandb/*run-*"))) == 1
    assert sync(config.run_dir.parent) == 0
    assert_rows_once(wandb_server, config)
    assert on_server(wandb_server, config).state == "finished"


def test_a_server_that_dies_holds_nobody_up_and_loses_no_row(wandb_server, online, at_row, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    config = online()
    at_row(4, wandb_server.stop)
    began = time.monotonic()
    assert session.run(config).status == "finished"
    next_one = online("model=d24_l1")
    assert session.run(next_one).status == "finished"
    assert time.monotonic() - began < 30
    assert "stays offline" in (next_one.run_dir / "train.log").read_text()
    wandb_server.start()
    assert on_server(wandb_server, config).state == "running"
    assert sync(config.run_dir.parent) == 0
    assert ": 2 uploaded\n" in capsys.readouterr().out
    for one in (config, next_one):
        assert_rows_once(wandb_server, one)
        assert on_server(wandb_server, one).state == "finished"


def test_sync_uploads_once_and_names_what_did_not_go(wandb_server, offline, at_row, capsys):
    good, bad = offline(SAVING), offline("model=d24_l1")
    study = good.run_dir.parent
    at_row(5, lambda: raise_(RuntimeError("out of memory")))
    assert session.run(good).status == "failed"
    assert session.run(bad).status == "finished"
    (file,) = bad.run_dir.glob("wandb/offline-run-*/*.wandb")
    whole = file.read_bytes()
    file.write_bytes(whole[:5])
    assert sync(study) == 1
    said = capsys.readouterr()
    assert ": 1 uploaded, 1 failed\n" in said.out and bad.run_name in said.err and good.run_name not in said.err
    assert on_server(wandb_server, good).state == "failed" and len(on_server(wandb_server, good).rows()) == 5

    file.write_bytes(whole)
    assert session.run(good).status == "finished"  # the server has five of its rows by now
    assert sync(study) == 0
    assert ": 2 uploaded\n" in capsys.readouterr().out
    for config in (good, bad):
        assert_rows_once(wandb_server, config)
        assert on_server(wandb_server, config).state == "finished"
    wandb_server.requests.clear()
    assert sync(study) == 0 and not wandb_server.requests


def test_the_preflight_asks_the_server_and_does_not_wait_for_it(wandb_server, monkeypatch):
    assert wandb_mode("auto") == wandb_mode("online") == ("online", "")
    monkeypatch.setenv("WANDB_API_KEY", "b" * 40)
    assert wandb_mode("auto") == ("offline", f"the key on this machine is refused by {wandb_server.url}")
    with pytest.raises(ConfigError, match=r"^logger.mode=online: the key on this machine is refused by [^\n]*$"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb_server.stop()
    began = time.monotonic()
    assert wandb_mode("auto") == ("offline", f"no answer from {wandb_server.url} within 3 s")
    assert time.monotonic() - began < 20  # 3 s, and the start of a client on a busy machine


def test_sync_without_an_account_is_one_line(wandb_server, offline, monkeypatch):
    config = offline()
    session.run(config)
    monkeypatch.delenv("WANDB_API_KEY")
    command = [sys.executable, "-m", "scaling.sync", str(config.run_dir.parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: no key on this machine\n")
