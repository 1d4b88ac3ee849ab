"""Studies side by side: what each reading gives, and which settings differ."""

import pytest
from omegaconf import OmegaConf
from runs import grid

from scaling.config import ConfigError
from scaling.report.compare import differences, readings, show, table
from scaling.report.config import CompareConfig
from scaling.sources.local import read_local
from scaling.sources.select import select


def chosen(study):
    return select(read_local(study))[0]


def test_settings_that_differ_are_named_and_others_are_not(tmp_path):
    grid(tmp_path / "ours", schedule="wsd")
    grid(tmp_path / "theirs", schedule="constant")
    said = list(differences({name: chosen(tmp_path / name) for name in ("ours", "theirs")}))
    assert said == ["- schedule: ours: wsd; theirs: constant"]


def test_one_study_is_read_under_both_counts_of_compute(tmp_path):
    grid(tmp_path / "ours")
    rows = list(readings("ours", chosen(tmp_path / "ours")))
    assert {(r.loss, r.counting.c_label) for r in rows} >= {("validation", "exact FLOPs"), ("validation", "6ND")}
    six = next(r for r in rows if r.counting.c_label == "6ND")
    assert six.line.all.a + six.line.all.b == pytest.approx(1)  # by construction
    assert len(list(table(rows))) == 2 + len(rows)
    assert six.interior and six.line.interior.a == pytest.approx(0.4, abs=0.06)  # the law's own a


def test_one_study_is_nothing_to_compare():
    with pytest.raises(ConfigError, match="studies=.*at least two"):
        show(OmegaConf.structured(CompareConfig(studies=("a", "a"))))
