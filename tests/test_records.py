"""Records: whole or not at all, and readable by whoever has only the file."""

import json
import math

import pytest

from scaling import records
from scaling.records import RecordError, RunRecord


def record(**values) -> RunRecord:
    return RunRecord(run_id="abc", study="s", family="tiny", model="d16_l1", **values)


def test_a_record_comes_back_as_it_was(tmp_path):
    written = record(loss_val=4.25, tokens=1024, versions={"torch": "2"}, overrides=["model=d16_l1"])
    written.write(tmp_path)
    assert records.read(tmp_path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_loss_that_is_not_a_number_is_not_known(tmp_path):
    record(loss_val=math.nan, loss_train=math.inf).write(tmp_path)
    json.loads((tmp_path / "record.json").read_text(), parse_constant=pytest.fail)
    assert records.read(tmp_path).loss_val is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a readable record"),
        ('{"schema": 1, "run_id": "a"', "not a readable record"),
        ("[]", "schema 'list'"),
        ('{"schema": 99}', "schema 99, this version reads 1"),
        ('{"schema": 1, "run_id": "a", "study": "s", "family": "f"}', "no model, status"),
        ('{"schema": 1, "run_id": "a", "study": "s", "family": "f", "model": "m", "status": "lost"}', "status 'lost'"),
    ],
)
def test_what_is_no_record_is_named(tmp_path, text, said):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RecordError, match="^[^\n]*$") as error:
        records.read(tmp_path)
    assert said in str(error.value) and "record.json" in str(error.value)


def test_a_writer_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    record(loss_val=1.0).write(tmp_path)
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        record(loss_val=2.0).write(tmp_path)
    assert records.read(tmp_path).loss_val == 1.0
