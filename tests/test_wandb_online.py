"""W&B with the real client against a server on this machine: every row once, failures shown, nobody waits."""

import json
import os
import re
import time

import pytest
from wandb_server import KEY

from scaling import dashboard, records, sync
from scaling.config import ConfigError
from scaling.launcher.preflight import wandb_mode
from scaling.sources.config import SourceConfig
from scaling.sources.local import read_local
from scaling.sources.wandb import read_wandb
from scaling.training import session

ONLINE = ("logger=wandb", "logger.mode=online")
OFFLINE = ("logger=wandb", "logger.mode=offline")


def train(small, *overrides):
    config = small(*overrides)
    outcome = session.run(config)
    return config, outcome


def rows_on(server, config, attempt=0):
    run = server.run("scaling", dashboard.run_id(config.study, config.run_hash, attempt))
    return [dashboard.row_of(row) for row in run.rows()]


def test_a_run_is_on_the_server_as_it_is_on_disk(wandb_server, small):
    config, outcome = train(small, *ONLINE, "trainer.checkpoint_every_s=1e9")
    assert outcome.status == "finished"
    (run,) = wandb_server.runs("scaling")
    assert run.name == f"default-{config.run_hash}" and run.display == config.run_name
    assert (run.group, run.job_type, run.tags, run.state) == ("default", "train", ["tiny"], "finished")
    assert run.config["model"]["value"]["d_model"] == 16
    assert rows_on(wandb_server, config) == dashboard.read_curve(config.run_dir)
    record = records.read(config.run_dir)
    assert run.summary["final/val_loss"] == record.loss_val and run.summary["tokens"] == record.tokens
    everything = json.dumps([run.config, run.summary]) + "".join(
        path.read_text(errors="replace") for path in config.run_dir.rglob("*") if path.is_file()
    )
    assert KEY not in everything
