"""Every source gives the same table; what is not used is named; what cannot stand together is refused."""

import numpy as np
import pandas as pd
import pytest
from runs import record, write

from scaling.config import ConfigError
from scaling.sources.config import ColumnsConfig, SourceConfig
from scaling.sources.csv import read_csv
from scaling.sources.local import read_local
from scaling.sources.select import select, summary

ONE_LINE = r"^[^\n]*$"


def local(study, **options):
    (chosen,) = select(read_local(study), **options)
    return chosen


def csv(tmp_path, text, unit=None, **columns):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    return read_csv(SourceConfig(name="csv", path=str(path), unit=unit, columns=ColumnsConfig(**columns)))


def test_only_finished_runs_are_used_and_the_rest_is_named(tmp_path):
    write(
        tmp_path,
        record(1000, 1024),
        record(2000, 1024, status="diverged", error="loss is not finite at step 3", loss_val=None),
        record(3000, 1024, status="failed", error="RuntimeError: out of memory", loss_val=None),
        record(4000, 1024, status="running", loss_val=None),
        record(5000, 1024, loss_val=None),
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{")
    chosen = local(tmp_path)
    assert list(chosen.used["n_total"]) == [1000]
    why = dict(zip(chosen.runs["model"].fillna("broken"), chosen.runs["dropped"], strict=True))
    assert why["n2000"] == "diverged: loss is not finite at step 3"
    assert why["n3000"] == "failed: RuntimeError: out of memory"
    assert why["n4000"] == "running"
    assert why["n5000"] == "no loss"
    assert "not a readable record" in why["broken"]
    assert summary(chosen) == "1 of 6 runs (2 failed, 1 diverged, 1 running, 1 no loss)"


def test_a_study_without_usable_runs_is_one_line(tmp_path):
    write(tmp_path / "here", record(1000, 1024, status="running"))
    with pytest.raises(ConfigError, match="none of 1 runs can be used: 1 running"):
        local(tmp_path / "here")
    with pytest.raises(ConfigError, match=r"study=gone: no runs in .*; studies in .*: here$"):
        local(tmp_path / "gone")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_id", "d2"),
        ("tokenizer_id", "t2"),
        ("schedule", "cosine"),
        ("precision", "bf16"),
        ("eval", "full"),
        ("eval_tokens", 4096),
        ("family", "llama"),
        ("seq_len", 128),
    ],
)
def test_runs_that_differ_are_refused_or_grouped(tmp_path, key, value):
    write(tmp_path, record(1000, 1024), record(2000, 1024), record(3000, 1024, **{key: value}))
    with pytest.raises(ConfigError, match=ONE_LINE) as error:
        local(tmp_path)
    assert f"{key}: " in str(error.value) and str(value) in str(error.value) and "group_by=" in str(error.value)
    parts = select(read_local(tmp_path), group_by=key)
    assert sorted(len(part.used) for part in parts) == [1, 2]
    assert {str(value)} <= {part.label for part in parts}
    other = parts[0].dropped["dropped"]
    assert set(other) == {f"other {key}"}


def test_where_keeps_and_says_what_it_left_out(tmp_path):
    write(tmp_path, record(1000, 1024), record(2000, 1024, data_id="d2"))
    chosen = local(tmp_path, where="data_id == 'd2'")
    assert list(chosen.used["n_total"]) == [2000]
    assert list(chosen.dropped["dropped"]) == ["not where data_id == 'd2'"]
    with pytest.raises(ConfigError, match=r"where=nonsense < 3: .*columns: "):
        local(tmp_path, where="nonsense < 3")
    with pytest.raises(ConfigError, match="where=n_total: must be true or false"):
        local(tmp_path, where="n_total")
    with pytest.raises(ConfigError, match="group_by=nonsense: no such column"):
        local(tmp_path, group_by="nonsense")


def test_the_best_learning_rate_is_taken_over_its_seeds(tmp_path):
    write(
        tmp_path,
        *(record(1000, 1024, seed=s, lr=1e-2, loss_val=y) for s, y in enumerate((3.0, 3.2, 3.4))),
        *(record(1000, 1024, seed=s, lr=1e-3, loss_val=y) for s, y in enumerate((2.9, 3.5, 3.6))),  # one lucky seed
        record(2000, 1024, lr=1e-3),
    )
    chosen = local(tmp_path)
    assert list(chosen.used["lr"]) == [1e-2, 1e-2, 1e-2, 1e-3]
    assert "1 (N, D) have runs at several lr: the best of each is taken" in chosen.notes
    assert any("1 (N, D) have several seeds (3 runs)" in note for note in chosen.notes)


def test_twins_count_once(tmp_path):
    write(tmp_path, record(1000, 1024), record(1000, 1024), record(2000, 1024))
    chosen = local(tmp_path)
    assert len(chosen.used) == 2
    assert "1 runs are there twice: one of each is used" in chosen.notes


def test_every_count_of_n_and_c(tmp_path):
    write(tmp_path, record(1600, 1024, flops=1e9, vocab_size=10, d_model=7))
    write(tmp_path, record(3200, 1024, n_head=0, vocab_size=10, d_model=7, flops=3e9))  # tied head
    runs = local(tmp_path).used
    by_key = {c.key: (list(c.N(runs)), list(c.C(runs))) for c in read_local(tmp_path).countings}
    assert by_key["total"] == ([1600, 3200], [1e9, 3e9])
    assert by_key["non_embedding"] == ([1000, 2000], [1e9, 3e9])
    assert by_key["with_head"] == ([1000 + 200, 2000 + 70], [1e9, 3e9])
    assert by_key["total_6nd"] == ([1600, 3200], [6 * 1600 * 1024, 6 * 3200 * 1024])
    assert by_key["non_embedding_6nd"] == ([1000, 2000], [6 * 1000 * 1024, 6 * 2000 * 1024])


def test_curves_are_read_for_the_runs_named(tmp_path):
    write(tmp_path, record(1000, 1024), record(2000, 1024))
    table = read_local(tmp_path)
    first, second = table.runs["run"]
    (tmp_path / first / "curve.csv").write_text(
        "step,tokens,flops,loss_train,loss_val,lr,phase,epoch\n1,512,5e3,8.0,,0.1,warmup,0.5\n2,1024,1e4,7.0,7.5,0.1,stable,1\n"
    )
    curves = table.read_curves([first, second])
    assert list(curves["run"]) == [first, first]
    assert list(curves["phase"]) == ["warmup", "stable"]
    assert list(curves["flops"]) == [5e3, 1e4]
    assert np.isnan(curves["loss_val"][0]) and curves["loss_val"][1] == 7.5


def test_csv_fills_in_what_is_missing_and_says_so(tmp_path):
    table = csv(tmp_path, "Model Size,Training FLOP,loss\n10,6000,3\n20,6000,2.5\n", N="Model Size", C="Training FLOP")
    assert list(table.runs["tokens"]) == [100, 50]
    assert "D is not in the file: D = C / (6 N)" in table.notes
    table = csv(tmp_path, "N,D,loss\n10,100,3\n")
    assert list(table.runs["flops"]) == [6000]
    assert "C is not in the file: C = 6 N D" in table.notes
    assert [c.key for c in table.countings] == ["given_6nd"]
    table = csv(tmp_path, "N,D,C,loss,U\n10,100,9000,3,50\n")
    assert [c.key for c in table.countings] == ["given", "given_6nd"]
    assert list(table.countings[0].C(table.runs)) == [9000]
    assert list(table.countings[1].C(table.runs)) == [6000]
    assert list(table.runs["tokens_unique"]) == [50]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("N,D,loss\n1,1,1\n", {"N": "size"}, "source.columns.N=size: no such column in runs.csv; columns: N, D, loss"),
        ("n,D,loss\n1,1,1\n", {}, "source.columns.N=null: runs.csv has no column named N; columns: n, D, loss"),
        ("N,loss\n1,1\n", {}, "source.columns.D=null: runs.csv has no column named D or C, one is needed"),
        ("N,D,loss\n1,1,1\n1,-2,1\n", {}, "source.columns.D=D: line 3 is -2"),
        ("N,D,loss\n1,1,0\n", {}, "source.columns.loss=loss: line 2 is 0"),
        ("N,D,loss\n1,1,x\n", {}, "source.columns.loss=loss: line 2 is x; every value must be a number above 0"),
        ("N,D,loss\ninf,1,1\n", {}, "source.columns.N=N: line 2 is inf"),
        ("N,D,loss\n", {}, "no rows"),
        ("N,D,val_ppl\n1,1,2\n", {"loss": "val_ppl"}, "say source.unit=perplexity (or nats)"),
        ("N,D,loss\n1,1,20\n1,2,30\n", {}, "a median of 25 is no loss in nats per token"),
        ("N,D,val_bpb\n1,1,1\n", {"loss": "val_bpb"}, "say source.unit=bits (or nats)"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, columns, message):
    with pytest.raises(ConfigError, match=ONE_LINE) as error:
        csv(tmp_path, text, **columns)
    assert message in str(error.value)


def test_units_are_converted_when_told(tmp_path):
    text = "N,D,ppl\n1,1,20\n1,2,30\n"
    assert np.allclose(csv(tmp_path, text, "perplexity", loss="ppl").runs["loss"], np.log([20, 30]))
    assert np.allclose(csv(tmp_path, text, "bits", loss="ppl").runs["loss"], np.log(2) * np.array([20, 30]))
    assert list(csv(tmp_path, text, "nats", loss="ppl").runs["loss"]) == [20, 30]


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"source.path=.*gone.csv: no such file"):
        read_csv(SourceConfig(name="csv", path=str(tmp_path / "gone.csv")))


def test_csv_rows_without_a_loss_twins_and_wrong_units(tmp_path):
    table = csv(tmp_path, "N,D,loss,set\n10,100,3,a\n10,100,3,a\n20,100,,a\n30,100,2,a\n")
    (chosen,) = select(table)
    assert list(chosen.used["run"]) == ["line 2", "line 5"]
    assert list(chosen.dropped["dropped"]) == ["the same run twice", "no loss"]
    table = csv(tmp_path, "N,D,C,loss\n10,100,6e-9,3\n")
    assert any("are N, D and C in parameters, tokens and FLOPs?" in note for note in table.notes)
    table = csv(tmp_path, "N,D,loss,set\n10,100,3,a\n30,100,2,b\n")
    assert [part.label for part in select(table, group_by="set")] == ["a", "b"]


def test_epochs_file_reads_as_it_is(data_root):
    path = data_root / "published/epoch/svg_extracted_data.csv"
    columns = ColumnsConfig(N="Model Size", C="Training FLOP")
    (chosen,) = select(read_csv(SourceConfig(name="csv", path=str(path), columns=columns)))
    assert len(chosen.used) == 245
    raw = pd.read_csv(path)
    assert np.allclose(chosen.used["tokens"], raw["Training FLOP"] / 6 / raw["Model Size"])
