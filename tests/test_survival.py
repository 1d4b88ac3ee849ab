"""What a night can do to a run: half-written files are set aside and named, and it ends as if left alone."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scaling import records
from scaling.config import ConfigError
from scaling.training import session
from scaling.training.module import Training

SAVING = "trainer.checkpoint_every_s=1e-9"  # after every chunk


def files(run_dir: Path) -> dict[str, bytes]:
    """All but the lock and the log, which a second look may add to."""
    return {p.name: p.read_bytes() for p in run_dir.iterdir() if p.is_file() and p.name not in (".lock", "train.log")}


@pytest.fixture
def stopped(small, monkeypatch):
    """A run that was cut short with a checkpoint, and the result it is to have."""
    config = small(SAVING)
    alone = session.run(replace(config, study="alone"))

    def close(module, lr):
        real(module, lr)
        if len(module.rows) == 5:
            raise RuntimeError("out of memory")

    real = Training._close_window
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_close_window", close)
        assert session.run(config).status == "failed"
    assert (config.run_dir / "last.ckpt").exists()
    return config, alone


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("record.json", "cut"),
        ("record.json", "empty"),
        ("curve.csv", "cut"),
        ("curve.csv", "zeros"),
        ("config.yaml", "cut"),
    ],
)
def test_a_finished_run_with_half_a_file_is_mended(small, name, how):
    config = small()
    first = session.run(config)
    whole = (config.run_dir / name).read_bytes()
    half = whole[: len(whole) // 2]
    torn = {"cut": half, "zeros": half + b"\0" * (len(whole) - len(half)), "empty": b""}[how]
    (config.run_dir / name).write_bytes(torn)
    again = session.run(config)
    assert again.loss_val == first.loss_val
    assert again.status == ("skipped" if name == "config.yaml" else "finished")  # its numbers were not touched
    (aside,) = config.run_dir.glob(f"{name}.damaged-*")
    assert aside.read_bytes() == torn
    assert again.reason.endswith(f"{name} was damaged: set aside as {aside.name}")
    if name != "record.json":  # which has times in it
        assert (config.run_dir / name).read_bytes() == whole
    third = session.run(config)
    assert (third.status, third.reason) == ("skipped", "finished before")


def test_a_curve_that_ends_with_a_whole_row_too_early_is_noticed(small):
    config = small()
    session.run(config)
    whole = (config.run_dir / "curve.csv").read_text()
    (config.run_dir / "curve.csv").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert "curve.csv was damaged" in session.run(config).reason
    assert (config.run_dir / "curve.csv").read_text() == whole


@pytest.mark.parametrize("how", ["left", "cut", "zeros", "text", "pickle"])
def test_a_stopped_run_ends_as_if_left_alone_whatever_became_of_its_checkpoint(stopped, how, tmp_path):
    config, alone = stopped
    last = config.run_dir / "last.ckpt"
    data = last.read_bytes()
    if how == "pickle":
        torch.save({"training": {"steps_done": 1}, "run": Payload(tmp_path / "was here")}, last)
    elif how != "left":
        last.write_bytes({"cut": data[:-100], "zeros": data[:999] + b"\0" * (len(data) - 999), "text": b"x"}[how])
    again = session.run(config)
    assert (again.status, again.loss_val) == ("finished", alone.loss_val)
    curve = (config.run_dir / "curve.csv").read_bytes()
    assert curve == (config.run_dir.parents[1] / "alone" / config.run_name / "curve.csv").read_bytes()
    assert not last.exists() and not (tmp_path / "was here").exists()
    asides = [path.name for path in config.run_dir.glob("last.ckpt.damaged-*")]
    assert again.reason == ("" if how == "left" else f"last.ckpt was damaged: set aside as {asides[0]}")


class Payload:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_of_other_data_is_not_gone_on_from(stopped, corpus_dir, tmp_path):
    config, _ = stopped
    (tmp_path / "other").mkdir()
    for split in ("train", "valid", "test"):
        text = (corpus_dir / f"{split}.txt").read_text()
        (tmp_path / "other" / f"{split}.txt").write_text(text[len(text) // 3 :])
    other = replace(config, data=replace(config.data, path=str(tmp_path / "other")))
    again = session.run(other)
    assert again.status == "finished" and again.reason.startswith("last.ckpt was foreign: set aside as ")
    assert again.loss_val == session.run(replace(other, study="fresh")).loss_val


def test_a_run_goes_on_with_the_threads_it_began_with(stopped):
    config, _ = stopped
    began = torch.get_num_threads()
    assert session.run(replace(config, trainer=replace(config.trainer, threads=began + 1))).status == "finished"
    assert torch.get_num_threads() == began


def test_a_run_that_another_sweep_finished_meanwhile_is_left_as_it_is(small, monkeypatch):
    config = small()
    first = session.run(config)
    before = files(config.run_dir)
    answers = iter([None])  # at the first look it was still running
    real = session.finished_before
    monkeypatch.setattr(session, "finished_before", lambda *args: next(answers, None) or real(*args))
    answered = session.run(config)
    assert (answered.status, answered.loss_val) == ("skipped", first.loss_val)
    assert files(config.run_dir) == before


def test_a_record_of_another_version_is_refused_not_overwritten(small):
    config = small()
    session.run(config)
    path = config.run_dir / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    before = files(config.run_dir)
    with pytest.raises(ConfigError, match=r"^study=default: .*record.json: schema 99, this version reads 1; [^\n]*$"):
        session.run(config)
    assert files(config.run_dir) == before


def test_what_a_killed_writer_left_is_cleared_away(stopped):
    config, _ = stopped
    for name in (".record.json.123.tmp", ".curve.csv.123.tmp", ".last.ckpt.tmp"):
        (config.run_dir / name).write_text("half")
    session.run(config)
    assert not list(config.run_dir.glob(".*.tmp"))


def test_a_loss_that_is_no_number_at_the_very_end_is_divergence(small, monkeypatch):
    monkeypatch.setattr(session, "evaluate", lambda *args: float("nan"))
    config = small()
    assert session.run(config).reason == "validation loss is nan"
    assert records.read(config.run_dir).status == "diverged"


def test_the_record_is_the_last_word(small, monkeypatch):
    """Cut off while W&B is being told, a run is not finished yet: it is told again."""

    def cut_off(tracker, record):
        raise KeyboardInterrupt

    config = small()
    with monkeypatch.context() as patch:
        patch.setattr(session.Tracker, "finish", cut_off)
        with pytest.raises(KeyboardInterrupt):
            session.run(config)
    assert records.read(config.run_dir).status == "running"
    assert session.run(config).status == "finished"
