"""Token ids and the cache they live in: they decode to the text, one build for many processes, damage is mended."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from scaling.config import ConfigError, DataConfig, TokenizerConfig
from scaling.data.packing import TokenStore, load_tokens
from scaling.data.tokenizer import pieces, train_bpe

BPE = TokenizerConfig("bpe", "bpe", 400)
BYTES = TokenizerConfig("bytes", "bytes", 256)


@pytest.fixture
def store(corpus_dir: Path, cache_dir: Path) -> TokenStore:
    return load_tokens(DataConfig("text", str(corpus_dir)), BPE, str(cache_dir))


def library(store: TokenStore) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(store.path / "tokenizer.json"))


def test_bpe_decodes_to_the_text(store: TokenStore, corpus_dir: Path) -> None:
    for split in ("train", "valid", "test"):
        text = (corpus_dir / f"{split}.txt").read_text()
        ids = getattr(store, split)
        assert library(store).decode(ids.tolist(), skip_special_tokens=False) == text
        assert store.token_bytes is not None
        assert store.token_bytes[ids].sum() == len(text.encode())


def test_splits_are_memory_mapped_and_small(store: TokenStore) -> None:
    for ids in (store.train, store.valid, store.test):
        assert isinstance(ids, np.memmap)
        assert ids.dtype == np.uint16
        assert ids.max() < store.vocab_size == 400
        with pytest.raises(ValueError, match="read-only"):
            ids[0] = 1


def test_more_than_65536_ids_take_four_bytes(tmp_path: Path, corpus_dir: Path) -> None:
    vocab = {c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    big = tokenizers.Tokenizer(tokenizers.models.BPE(vocab | {"rare": 70_000}, []))
    big.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    big.decoder = tokenizers.decoders.ByteLevel()
    big.save(str(tmp_path / "tokenizer.json"))
    hub = TokenizerConfig("big", "hub", 70_001, str(tmp_path / "tokenizer.json"))
    store = load_tokens(DataConfig("text", str(corpus_dir)), hub, str(tmp_path))
    assert store.train.dtype == np.uint32
    assert store.vocab_size == 70_001


def test_bytes_are_the_text(corpus_dir: Path, cache_dir: Path) -> None:
    store = load_tokens(DataConfig("text", str(corpus_dir)), BYTES, str(cache_dir))
    assert store.train.astype(np.uint8).tobytes() == (corpus_dir / "train.txt").read_bytes()
    assert store.token_bytes is not None
    assert store.token_bytes.tolist() == [1] * 256
    assert store.vocab_size == 256


TRICKY = "It's 1999 , isn't <unk> it ?  \n\n = = Título = = \n\n\n  日本語の 2nd <unk><unk>\tx \n"


@pytest.mark.parametrize("size", [5, 17, 64, 1 << 16])
def test_pieces_give_the_ids_of_the_whole_text(size: int) -> None:
    text = TRICKY * 20
    bpe = train_bpe([text], 350)
    cut = list(pieces(iter(text.splitlines(keepends=True)), size))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= size
    if size > 5:  # a word longer than a piece cannot be kept whole
        assert [i for p in cut for i in bpe.encode(p).ids] == bpe.encode(text).ids


def test_pieces_do_not_depend_on_blocks() -> None:
    text = TRICKY * 20
    assert list(pieces([text], 40)) == list(pieces(list(text), 40))


def test_unk_is_one_token() -> None:
    bpe = train_bpe([TRICKY * 5], 300)
    ids = bpe.encode("the <unk> of<unk>").ids
    assert ids.count(bpe.token_to_id("<unk>")) == 2
    assert bpe.decode(ids, skip_special_tokens=False) == "the <unk> of<unk>"


def test_bpe_is_the_same_every_time(corpus_dir: Path, tmp_path: Path) -> None:
    stores = [load_tokens(DataConfig("text", str(corpus_dir)), BPE, str(tmp_path / name)) for name in "ab"]
    assert stores[0].data_id == stores[1].data_id
    assert stores[0].tokenizer_id == stores[1].tokenizer_id


def test_a_text_too_small_for_the_vocabulary_says_so(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "t.txt").write_text("ab ab ab\n" * 100)
    with caplog.at_level(logging.INFO):
        store = load_tokens(DataConfig("text", str(tmp_path)), BPE, str(tmp_path / "cache"))
    assert 257 <= store.vocab_size < 400
    assert f"{store.vocab_size} ids, fewer than 400" in caplog.text


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (TokenizerConfig("t", "bpe", 100), r"tokenizer\.vocab_size=100: .* at least 257"),
        (TokenizerConfig("t", "bytes", 300), r"tokenizer\.vocab_size=300: bytes has 256"),
        (TokenizerConfig("symbols", "symbols", 64), r"tokenizer=symbols: "),
        (TokenizerConfig("t", "hub", 10, "wordlevel.json"), r"tokenizer\.hub=.*byte-level"),
    ],
)
def test_tokenizer_errors_name_the_key(
    tokenizer: TokenizerConfig, message: str, corpus_dir: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save("wordlevel.json")
    with pytest.raises(ConfigError, match=message):
        load_tokens(DataConfig("text", str(corpus_dir)), tokenizer, str(tmp_path / "cache"))


def test_a_saved_tokenizer_serves_as_hub_tokenizer(store: TokenStore, corpus_dir: Path, tmp_path: Path) -> None:
    hub = TokenizerConfig("mine", "hub", 400, str(store.path / "tokenizer.json"))
    again = load_tokens(DataConfig("text", str(corpus_dir)), hub, str(tmp_path))
    assert again.data_id == store.data_id


LOAD = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from scaling.config import DataConfig, TokenizerConfig
from scaling.data import packing
{before}
store = packing.load_tokens(DataConfig("text", sys.argv[1]), TokenizerConfig("bpe", "bpe", 400), sys.argv[2])
print(store.data_id, int(store.train.sum()))
"""


def start(corpus_dir: Path, cache: Path, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOAD.format(before=before), str(corpus_dir), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_many_processes_build_once(corpus_dir: Path, tmp_path: Path) -> None:
    slow = "import time; build = packing._build; packing._build = lambda *a: (time.sleep(.5), build(*a))"
    jobs = [start(corpus_dir, tmp_path, slow) for _ in range(4)]
    outputs = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum(err.count("building tokens") for _, err in outputs) == 1


def test_a_builder_that_dies_leaves_nothing_behind(corpus_dir: Path, tmp_path: Path) -> None:
    dying = (
        "import os, signal; write = packing._write\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "packing._write = lambda path, *a: die() if 'valid' in path.name else write(path, *a)"
    )
    job = start(corpus_dir, tmp_path, dying)
    job.communicate()
    assert job.returncode == -9
    store = load_tokens(DataConfig("text", str(corpus_dir)), BPE, str(tmp_path))
    assert len(store.test)
    assert sorted(p.suffix for p in (tmp_path / "tokens").iterdir()) == ["", ".lock"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "meta", "absent"])
def test_a_damaged_entry_is_built_again(damage: str, corpus_dir: Path, tmp_path: Path, caplog: Any) -> None:
    data = DataConfig("text", str(corpus_dir))
    good = load_tokens(data, BPE, str(tmp_path))
    want, file = good.train.copy(), good.path / "train.bin"
    raw = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(raw[:-100])
    elif damage == "flip":
        file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "absent":
        file.unlink()
    else:
        (good.path / "meta.json").write_text('{"arrays": {"tra')
    again = load_tokens(data, BPE, str(tmp_path))
    assert np.array_equal(again.train, want)
    assert again.data_id == good.data_id
    (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert "damaged" in line
    assert "\n" not in line


def test_data_id_is_what_the_ids_are(corpus_dir: Path, cache_dir: Path) -> None:
    by_name = {
        name: load_tokens(DataConfig(name, str(corpus_dir)), BYTES, str(cache_dir)).data_id
        for name in ("text", "wikitext2")
    }
    assert by_name["text"] != by_name["wikitext2"]  # the last line end is stripped


def test_a_cache_that_cannot_be_written_is_named(corpus_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cache_dir=.*file: must be a directory that can be written"):
        load_tokens(DataConfig("text", str(corpus_dir)), BYTES, str(tmp_path / "file"))


def test_opening_a_cached_entry_is_cheap(corpus_dir: Path, cache_dir: Path, store: TokenStore) -> None:
    took = []
    for _ in range(20):
        start = time.perf_counter()
        load_tokens(DataConfig("text", str(corpus_dir)), BPE, str(cache_dir))
        took.append(time.perf_counter() - start)
    assert min(took) < 0.02


def test_real_wikitext2(data_root: Path, tmp_path: Path) -> None:
    """BPE of 4096 ids on the real text: decodes to it, <unk> as often as the text has it."""
    root = data_root / "wikitext-2"
    store = load_tokens(DataConfig("wikitext2", str(root)), TokenizerConfig("bpe4k", "bpe", 4096), str(tmp_path))
    text = (root / "train.txt").read_text(encoding="utf-8")
    decoded = library(store).decode(store.train.tolist(), skip_special_tokens=False)
    assert decoded == "\n".join(line.strip() for line in text.split("\n")[:-1])
    unk = library(store).token_to_id("<unk>")
    assert (store.train == unk).sum() == text.count("<unk>") == 54_625
    meta = json.loads((store.path / "meta.json").read_text())
    assert meta["vocab_size"] == store.vocab_size == 4096
