"""Where text comes from: the same ids from hub and files, every character once, errors that say what to do."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from scaling.config import ConfigError, DataConfig, TokenizerConfig
from scaling.data import corpus
from scaling.data.corpus import SPLITS, Text, open_corpus
from scaling.data.packing import load_tokens

BYTES = TokenizerConfig("bytes", "bytes", 256)
BPE = TokenizerConfig("bpe", "bpe", 300)


def read(data: DataConfig, split: str) -> str:
    opened = open_corpus(data)
    assert isinstance(opened, Text)
    return "".join(opened.read(split))


def write_splits(root: Path, **splits: str) -> Path:
    root.mkdir(exist_ok=True)
    for split, text in splits.items():
        (root / f"{split}.txt").write_bytes(text.encode())
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let the hub hold a directory's text in the rows it serves: no line ends, blank lines empty."""

    def serve(root: Path) -> None:
        rows = {
            name: [line.strip() for line in (root / f"{split}.txt").read_text(encoding="utf-8").split("\n")[:-1]]
            for split, name in corpus.HUB_SPLITS.items()
        }
        served = datasets.DatasetDict({n: datasets.Dataset.from_dict({"text": r}) for n, r in rows.items()})
        monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: served)
        monkeypatch.setattr(corpus, "prepare_hub", lambda: None)

    corpus._hub_rows.cache_clear()
    yield serve
    corpus._hub_rows.cache_clear()


def test_hub_rows_and_local_files_give_one_store(hub: Any, tmp_path: Path) -> None:
    text = " \n = Title = \n \n Ein Wort , <unk> zwei \n\u3000 Senjō no Valkyria \n \n"
    root = write_splits(tmp_path / "w", train=text * 50, valid=text, test=text + " no line end ")
    hub(write_splits(tmp_path / "h", train=text * 50, valid=text, test=text + " no line end \n"))
    caches = tmp_path / "a", tmp_path / "b"
    local = load_tokens(DataConfig("wikitext2", str(root)), BPE, str(caches[0]))
    remote = load_tokens(DataConfig("wikitext2"), BPE, str(caches[1]))
    assert local.data_id == remote.data_id
    assert local.tokenizer_id == remote.tokenizer_id
    assert local.path.name == remote.path.name  # one cache entry serves both


def test_hub_rows_of_real_wikitext2_equal_local_files(hub: Any, data_root: Path, tmp_path: Path) -> None:
    root = data_root / "wikitext-2"
    hub(root)
    local, remote = DataConfig("wikitext2", str(root)), DataConfig("wikitext2")
    for split in SPLITS:
        text = read(local, split)
        assert text == read(remote, split)
        words = (root / f"{split}.txt").read_text(encoding="utf-8").split()
        assert text.split() == words  # nothing lost, nothing added
        assert re.search(r"[ \t]\n|\n[ \t]", text) is None


def test_hub_is_read_once_and_the_cache_from_then_on(hub: Any, tmp_path: Path, monkeypatch: Any) -> None:
    hub(write_splits(tmp_path / "h", train="a b c\n" * 9, valid="b\n", test="c\n"))
    first = load_tokens(DataConfig("wikitext2"), BYTES, str(tmp_path))
    corpus._hub_rows.cache_clear()
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the hub again"))
    assert load_tokens(DataConfig("wikitext2"), BYTES, str(tmp_path)).data_id == first.data_id


def test_hub_out_of_reach_says_both_ways_out(tmp_path: Path, monkeypatch: Any) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("nobody there")

    corpus._hub_rows.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(ConfigError, match=r"data\.path=DIR.* data=synthetic") as error:
        load_tokens(DataConfig("wikitext2"), BYTES, str(tmp_path))
    assert "\n" not in str(error.value)


def test_out_of_reach_turns_the_clients_retries_off(monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    corpus.prepare_hub()
    assert corpus.os.environ["HF_HUB_OFFLINE"] == "1"


def test_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    body = "def f():\r\n\treturn 1  \n\n\n# ünï\n"
    root = write_splits(tmp_path, train=body * 3, valid=body, test="x")
    data = DataConfig("text", str(root))
    assert [read(data, split) for split in SPLITS] == [body * 3, body, "x"]


@pytest.mark.parametrize("line", ["wörd by wörd\n", "é"])
def test_one_file_is_cut_90_5_5_in_order(tmp_path: Path, line: str) -> None:
    body = line * 2000
    (tmp_path / "book.md").write_text(body, encoding="utf-8")
    data = DataConfig("text", str(tmp_path / "book.md"))
    parts = [read(data, split) for split in SPLITS]
    assert "".join(parts) == body
    assert [len(p) / len(body) for p in parts] == pytest.approx([0.9, 0.05, 0.05], abs=0.01)
    assert all(p.endswith(line) for p in parts)  # whole lines, and whole characters where there is no line


def test_several_files_are_one_body_of_text(tmp_path: Path) -> None:
    bodies = {f"{i}.txt": f"{i} line\n" * 300 for i in range(5)}
    for name, body in bodies.items():
        (tmp_path / name).write_text(body)
    (tmp_path / "notes.csv").write_text("not text of the corpus")
    data = DataConfig("text", str(tmp_path))
    whole = "\n".join(bodies.values())
    train, valid, test = (read(data, split) for split in SPLITS)
    assert train + valid + test == whole
    assert set((valid + test).split()) == {"4", "line"}


def test_blocks_do_not_cut_characters(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(corpus, "BLOCK", 7)
    body = "aé日𝄞\n" * 100
    root = write_splits(tmp_path, train=body, valid=body, test=body)
    assert read(DataConfig("text", str(root)), "train") == body


NOT_UTF8 = b"fine\n" * 10 + b"\xff\xfe broken"


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "gone", r"data\.path=.*gone: must be a directory"),
        ({"valid.txt": b"a"}, "", r"train\.txt is missing"),
        ({"train.txt": b"a", "test.txt": b"a"}, "", r"valid\.txt is missing"),
        ({"train.txt": b"", "valid.txt": b"a", "test.txt": b"a"}, "", r"train\.txt: must hold text, is empty"),
        ({"train.txt": NOT_UTF8, "valid.txt": b"a", "test.txt": b"a"}, "", r"train\.txt: must be UTF-8.*byte 50 "),
    ],
)
def test_local_errors_name_the_file(tmp_path: Path, files: dict[str, bytes], path: str, message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_tokens(DataConfig("wikitext2", str(tmp_path / path)), BYTES, str(tmp_path / "cache"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig("text"), r"data\.path=null: .*data\.path=DIR"),
        (DataConfig("text", "."), r"data\.path=\.: holds no \*\.txt"),
        (DataConfig("imagenet"), r"data\.name=imagenet: must be one of wikitext2, text, synthetic"),
        (DataConfig("wikitext2", None, {"rw": 1}), r"data\.options\.rw=1: .*raw \(bool\)"),
        (DataConfig("wikitext2", None, {"raw": "no"}), r"data\.options\.raw='no': .*raw \(bool\)"),
        (DataConfig("synthetic", None, {"n_symbols": 0}), r"data\.options\.n_symbols=0: must be between"),
        (DataConfig("synthetic", "x"), r"data\.path=x: .*reads no files"),
    ],
)
def test_settings_are_checked_by_name(data: DataConfig, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        open_corpus(data)


def test_a_changed_file_is_noticed(tmp_path: Path, caplog: Any) -> None:
    root = write_splits(tmp_path / "w", train="abc\n" * 10, valid="a\n", test="b\n")
    data = DataConfig("text", str(root))
    before = load_tokens(data, BYTES, str(tmp_path / "cache"))
    (root / "train.txt").write_text("abd\n" * 10)  # same size, perhaps the same tick of the clock
    with caplog.at_level(logging.INFO):
        after = load_tokens(data, BYTES, str(tmp_path / "cache"))
    assert bytes(after.train.astype("u1")) == b"abd\n" * 10
    assert before.data_id != after.data_id
