"""Bad input of every kind: one clear line that names it, a non-zero exit, no traceback, nothing written."""

import json
import runpy
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import record

from scaling import records
from scaling.cli import register_plugins
from scaling.config import ConfigError, DataConfig, TokenizerConfig
from scaling.data.packing import load_tokens
from scaling.sources.config import ColumnsConfig, SourceConfig
from scaling.sources.csv import read_csv
from scaling.sources.local import read_local
from scaling.sources.select import select

ROOT = Path(__file__).parents[1]

# the words after `python`, and what the line must say
LINES = {
    # what Hydra reads
    "train.py model=": "Could not find 'model/'",
    "train.py model=[a": "no viable alternative",
    "train.py model=d99": "Could not find 'model/d99'",
    "train.py 'study=": "'study=",
    "train.py =3": "Got int",
    "train.py study": "study",
    "train.py ~model": "model",
    "train.py +study=3": "study",
    "train.py model.d_modle=3": "d_modle",
    "train.py ++nope=3": "nope: no such key",
    "train.py +data.nope=3": "data.nope: no such key",
    "train.py experiment=nope": "experiment/nope",
    "train.py study=${oc.env:NO_SUCH_VARIABLE}": "NO_SUCH_VARIABLE",
    "train.py study=${nope:x}": "nope",
    "train.py study=???": "study",
    "train.py --bogus": "unrecognized arguments: --bogus",
    "train.py --multirun=3": "--multirun",
    "train.py --multirun --cfg job": "Only one of",
    "train.py --config-name=nope": "'nope'",
    "train.py --config-dir=/no/such/place": "/no/such/place",
    "train.py hydra.mode=foo": "hydra.mode",
    "train.py +hydra.callbacks.x._target_=os.system +hydra.callbacks.x.command=ls": "os.system",
    # sweeps
    "train.py -m model=glob(zz*)": "model=glob(zz*): matches nothing",
    "train.py -m seed=range(5,2)": "seed",
    "train.py -m model=d16_l1,d99": "model/d99",
    "train.py -m seed=1,x": "seed",
    "train.py -m hydra.launcher.jobs=x": "hydra.launcher.jobs=x: must be a whole number above 0",
    "train.py -m hydra.launcher.jobs=0": "hydra.launcher.jobs=0",
    "train.py -m hydra.launcher._target_=os.system": "os.system",
    "train.py -m hydra.sweeper._target_=os.system": "os.system",
    "train.py -m hydra/launcher=joblib": "hydra/launcher/joblib",
    "train.py -m hydra.sweeper.params=3": "hydra.sweeper.params=3: must map keys",
    # values
    "train.py seed=-1": "seed=-1: must be 0 or above",
    "train.py seed=1.5": "seed",
    "train.py seed=null": "seed",
    "train.py seed=4294967296": "seed=4294967296: must be at most 4294967295",
    "train.py study=": "study=''",
    "train.py study=..": "study='..'",
    "train.py 'study=\"a\\tb\"'": "study=",
    "train.py output_dir=": "output_dir='': must be a directory that can be written",
    "train.py output_dir=/dev/null/x": "output_dir='/dev/null/x'",
    "train.py cache_dir=/dev/null": "cache_dir='/dev/null'",
    "train.py batch_size=1e3": "batch_size",
    "train.py tokens.budget=many": "tokens.budget",
    "train.py tokens.budget=1000000000000000000": "more than 100000000",
    "train.py model.d_model=10000000": "model.d_model=10000000: must be at most 1048576",
    "train.py model.n_heads=0": "model.n_heads=0: must be above 0",
    "train.py optim.lr=1e400": "optim.lr=inf",
    "train.py optim.lr_rule.base=nan": "optim.lr=nan",
    "train.py optim.weight_decay=inf": "optim.weight_decay=inf",
    "train.py optim.beta2=1": "optim.beta2=1.0: must be in [0, 1)",
    "train.py trainer.threads=0": "trainer.threads=0",
    "train.py trainer.threads=99999": "trainer.threads=99999",
    "train.py trainer.checkpoint_every_s=nan": "trainer.checkpoint_every_s=nan",
    "train.py ladder=x": "ladder",
    "train.py ladder=[5000]": "tokens.budget=100000: must be a rung",
    "train.py logger.mode=on": "logger.mode=on",
    "train.py logger.project=a/b": "logger.project='a/b'",
    "train.py family.name=a/b": "family.name='a/b'",
    # what may be named, and what it takes
    "train.py family._target_=os.system data=synthetic": "family._target_=os.system",
    "train.py family._target_=subprocess.Popen data=synthetic": "family._target_=subprocess.Popen",
    "train.py family._target_=torch.nn.Linear data=synthetic": "must be a subclass of LanguageModel",
    "train.py family._target_=scaling.models.base.LanguageModel data=synthetic": "must be a subclass of LanguageModel",
    "train.py family._target_=nope.Nope data=synthetic": "family._target_=nope.Nope",
    "train.py +family.options.x=1 data=synthetic": "family.options.x=1: tiny takes tied",
    "train.py family.options.tied=yes_please data=synthetic": "family.options.tied=yes_please: must be bool",
    # data
    "train.py data.name=x": "data.name=x",
    "train.py data=text": "data.path=null: data=text needs",
    "train.py data=text data.path=": "data.path=''",
    "train.py data=text data.path=/no/such/place": "data.path=/no/such/place",
    "train.py data=synthetic data.path=/tmp": "data=synthetic reads no files",
    "train.py data=synthetic data.options.n_symbols=1": "data.options.n_symbols=1: must be between",
    "train.py data=synthetic data.options.order=two": "data.options.order='two'",
    "train.py data=synthetic +data.options.x=1": "data.options.x=1",
    "train.py data=synthetic tokenizer=bytes": "tokenizer=bytes",
    # analysis
    "analyze.py study=nope": "study=nope: no runs",
    "analyze.py study=a/b": "study='a/b'",
    "analyze.py source=nope": "source/nope",
    "analyze.py source=csv": "source.path=null: source=csv needs",
    "analyze.py source=csv source.path=/no/such.csv": "source.path=/no/such.csv: no such file",
    "analyze.py source=csv source.path=/dev": "source.path=/dev: not a CSV file",
    "analyze.py source=wandb source.path=x": "source.path=x: source=wandb needs entity/project",
    "analyze.py source=wandb source.path=../x": "source.path=../x",
    "analyze.py bootstrap=-1": "bootstrap=-1",
    "analyze.py bootstrap=x": "bootstrap",
    "analyze.py out=/dev/null/x": "out='/dev/null/x'",
    "analyze.py nope=1": "nope",
    "analyze.py --config-name=status study=nope": "study=nope: no runs",
}


@pytest.fixture
def answer(tmp_path, monkeypatch, capsys):
    """What an entry point says and how it ends, run in this process as a shell would run it."""
    register_plugins()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the entry points set it; it is to be as it was
    launcher = import_module("hydra_plugins.scaling_local")  # by name alone: other tests may have renewed the namespace
    monkeypatch.setattr(launcher, "warm_up", lambda: None)  # nothing here gets as far as training
    monkeypatch.syspath_prepend(ROOT)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hydra = GlobalHydra.instance()
    composing, hydra.hydra = hydra.hydra, None

    def run(script: str, *words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [script, *words])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
            code: object = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    yield run
    hydra.hydra = composing
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_cannot_be_meant(answer, tmp_path, line):
    script, *words = line.split(" ")
    if words[0].startswith("'") and words[0].endswith("'"):
        words = [words[0][1:-1]]
    code, out, err = answer(script, *words)
    assert (code, out) == (2, ""), err
    (message,) = err.splitlines()
    assert message.startswith("error: ") and LINES[line] in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["train.py --bogus", "train.py data=text data.path=", "analyze.py study=nope"])
def test_a_line_that_cannot_be_meant_in_a_process_of_its_own(tmp_path, line):
    script, *words = line.split()
    done = subprocess.run([sys.executable, str(ROOT / script), *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def one_line(said: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(said.value)
    return str(said.value)


# ---------------------------------------------------------------------------------------------------- records

WHOLE = asdict(record(1000, 1024))
RECORDS = {
    "empty": b"",
    "cut": json.dumps(WHOLE).encode()[:200],
    "zeros": b"\0" * 500,
    "not-utf8": b'{"schema": 1, "run_id": "\xff"}',
    "deep": b"[" * 100_000,
    "a-list": b"[]",
    "a-number": b"3",
    "null": b"null",
    "nothing-in-it": b"{}",
    "schema-newer": json.dumps(WHOLE | {"schema": 2}).encode(),
    "schema-text": json.dumps(WHOLE | {"schema": "1"}).encode(),
    "status-unknown": json.dumps(WHOLE | {"status": "lost"}).encode(),
    "status-list": json.dumps(WHOLE | {"status": []}).encode(),
    "tokens-text": json.dumps(WHOLE | {"tokens": "many"}).encode(),
    "tokens-null": json.dumps(WHOLE | {"tokens": None}).encode(),
    "tokens-huge": json.dumps(WHOLE).replace('"tokens": 1024', '"tokens": 1e999').encode(),
    "n-is-true": json.dumps(WHOLE | {"n_total": True}).encode(),
    "n-is-a-map": json.dumps(WHOLE | {"n_total": {"x": 1}}).encode(),
    "loss-text": json.dumps(WHOLE | {"loss_val": "3.1"}).encode(),
    "run-id-number": json.dumps(WHOLE | {"run_id": 7}).encode(),
    "error-map": json.dumps(WHOLE | {"error": {}}).encode(),
    "overrides-text": json.dumps(WHOLE | {"overrides": "x"}).encode(),
    "versions-list": json.dumps(WHOLE | {"versions": []}).encode(),
    "pickle": b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_is_none(tmp_path, answer, name):
    run_dir = tmp_path / "outputs" / "default" / "a-run"
    run_dir.mkdir(parents=True)
    (run_dir / "record.json").write_bytes(RECORDS[name])
    with pytest.raises(records.RecordError, match="record.json: ") as said:
        records.read(run_dir)
    one_line(said)
    code, out, err = answer("analyze.py")
    assert (code, out) == (2, "") and "none of 1 runs can be used: 1 failed" in err and len(err.splitlines()) == 1
    code, out, err = answer("analyze.py", "--config-name=status")
    assert (code, err) == (0, "") and "a-run\tunreadable" in out
    assert (run_dir / "record.json").read_bytes() == RECORDS[name] and len(list(run_dir.iterdir())) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(sorted(WHOLE)), json_values, min_size=1, max_size=3))
def test_any_record_is_read_or_refused(tmp_path, changes):
    """Whatever stands in its fields: an analysis takes it or names it, and the status page shows it."""
    from scaling.report.status import _row

    run_dir = tmp_path / "a-run"
    run_dir.mkdir(exist_ok=True)
    (run_dir / "record.json").write_text(json.dumps(WHOLE | changes))
    assert all(isinstance(cell, str) for cell in _row(run_dir))
    try:
        (chosen,) = select(read_local(tmp_path))
        assert len(chosen.used) == 1
    except ConfigError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------------------------------------------- tables

TABLES = {
    "empty": (b"", "not a CSV file"),
    "blank": (b"\n\n\n", "not a CSV file"),
    "head-alone": (b"N,D,loss\n", "no rows"),
    "zeros": (b"\0" * 100, "no rows"),
    "not-utf8": (b"N,D,loss\n\xff\xfe,1,1\n", "not a CSV file"),
    "ragged": (b"N,D,loss\n1,2,3\n1,2,3,4,5\n", "not a CSV file"),
    "open-quote": (b'N,D,loss\n"1,2,3\n', "not a CSV file"),
    "no-n": (b"n,D,loss\n1,1,1\n", "source.columns.N=null"),
    "no-loss": (b"N,D\n1,1\n", "source.columns.loss=null"),
    "no-d-no-c": (b"N,loss\n1,1\n", "source.columns.D=null"),
    "twice": (b"N, N,D,loss\n1,1,1,1\n", "two columns are named N"),
    "text-in-n": (b"N,D,loss\nbig,1,1\n", "source.columns.N=N: line 2 is big"),
    "negative": (b"N,D,loss\n1,-1,1\n", "source.columns.D=D: line 2 is -1"),
    "zero-loss": (b"N,D,loss\n1,1,0\n", "source.columns.loss=loss: line 2 is 0"),
    "infinite": (b"N,D,loss\n1,inf,1\n", "source.columns.D=D: line 2 is inf"),
    "perplexities": (b"N,D,loss\n1,1,50\n1,2,40\n", "say source.unit=perplexity"),
    "only-empty-cells": (b"N,D,loss\n,,\n,,\n", "none of 2 runs can be used"),
    "a-page": (b"<html>\n<body>404</body>\n", "source.columns.N=null"),
    "json": (b'{"N": [1]}\n', "source.columns.N=null|no rows"),
    "a-date": (b"N,D,loss\n2024-01-01,1,1\n", "source.columns.N=N: line 2 is 2024-01-01"),
}


def read_table(path: Path) -> None:
    select(read_csv(SourceConfig(name="csv", path=str(path), columns=ColumnsConfig())))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none(tmp_path, name):
    content, says = TABLES[name]
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(ConfigError) as said:
        read_table(tmp_path / "runs.csv")
    assert any(part in one_line(said) for part in says.split("|"))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zip", "zst", "tar"])
def test_a_table_that_is_not_packed_as_it_says(tmp_path, ending):
    path = tmp_path / f"runs.csv.{ending}"
    path.write_bytes(b"N,D,loss\n1,1,1\n")
    with pytest.raises(ConfigError, match=r"not a CSV file") as said:
        read_table(path)
    one_line(said)


odd = st.sampled_from(["", '"', "1,2", "nan"])
cells = st.one_of(st.text(max_size=6), st.floats().map(repr), st.integers().map(str), odd)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.permutations(["N", "D", "C", "loss"]), rows=st.lists(st.lists(cells, max_size=5), max_size=4))
def test_any_table_is_read_or_refused(tmp_path, head, rows):
    (tmp_path / "runs.csv").write_text("\n".join([",".join(head), *(",".join(row) for row in rows)]), errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            read_table(tmp_path / "runs.csv")
    except ConfigError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------------------------------------------- text and tokens

BYTES = TokenizerConfig("bytes", "bytes", 256)
TOKENIZERS = {
    "empty": b"",
    "cut": b'{"version": "1.0", "mod',
    "a-list": b"[]",
    "not-utf8": b"\xff\xfe",
    "no-model": b'{"version": "1.0"}',
    "deep": b"[" * 100_000,
    "pickle": RECORDS["pickle"],
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_is_none(tmp_path, corpus_dir, name):
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZERS[name])
    config = TokenizerConfig("mine", "hub", 300, str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match=r"tokenizer\.hub=.*must be a tokenizer.json") as said:
        load_tokens(DataConfig("text", str(corpus_dir)), config, str(tmp_path / "cache"))
    one_line(said)
    assert not [p for p in (tmp_path / "cache" / "tokens").iterdir() if p.suffix != ".lock"]


TEXTS = {"empty": b"", "short": b"a\n", "ff": b"\xff" * 100, "half-a-character": b"a b\n" * 50 + b"\xc3"}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_none(tmp_path, name):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_bytes(TEXTS[name])
    with pytest.raises(ConfigError, match=r"data\.path=") as said:
        load_tokens(DataConfig("text", str(tmp_path / "text")), BYTES, str(tmp_path / "cache"))
    one_line(said)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_cached_tokens_is_mended(tmp_path, corpus_dir, data):
    """One file of the cache cut, overwritten or filled with anything: the tokens are what they were."""
    source = DataConfig("text", str(corpus_dir))
    store = load_tokens(source, BYTES, str(tmp_path))
    ids = store.train.copy()
    file = data.draw(st.sampled_from(sorted(store.path.iterdir(), key=str)))
    raw = file.read_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    file.write_bytes(raw[:at] + data.draw(st.binary(max_size=20)))
    again = load_tokens(source, BYTES, str(tmp_path))
    assert again.data_id == store.data_id and np.array_equal(again.train, ids)


def test_the_cases_are_many():
    assert len(LINES) + len(RECORDS) + len(TABLES) + len(TOKENIZERS) + len(TEXTS) >= 130
