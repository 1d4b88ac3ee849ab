"""Token ids on disk: built once by whoever comes first, then memory-mapped by every run.

The cache directory holds `tokens/<key>/` with one raw array a split, `token_bytes`, `tokenizer.json` and
`meta.json`; the key is a hash of the text and of the tokenizer's settings. An entry appears by one rename of
a finished directory, under a lock that frees itself when its holder dies.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from scaling.config import ConfigError, DataConfig, TokenizerConfig
from scaling.data.corpus import SPLITS, Text, open_corpus
from scaling.data.synthetic import Symbols
from scaling.records import atomic_write

log = logging.getLogger(__name__)

FORMAT = 1  # raise when the same text would give other ids
CHECKED = 1 << 24  # leading bytes of each array whose checksum is compared at every opening


@dataclass(frozen=True)
class TokenStore:
    """Three splits of token ids, 1-d and memory-mapped: uint16, or uint32 above 65,536 ids.

    `vocab_size` is the real one. `token_bytes` (vocab_size,) is the UTF-8 length of each id, None where tokens
    are not text. `data_id` is a hash of the ids and the vocabulary: what "same data" means. `entropies[j]` is
    the exact entropy of a token given the j before it, in nats, the last one being the entropy rate; None where
    that is not known. `path` is the cache entry, with tokenizer.json where there is a tokenizer.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocab_size: int
    token_bytes: np.ndarray | None
    data_id: str
    tokenizer_id: str
    entropies: tuple[float, ...] | None
    path: Path

    @property
    def entropy_rate(self) -> float | None:
        """Nats per token that no model of any size can beat, where it is known exactly."""
        return self.entropies[-1] if self.entropies else None

    def floor(self, seq_len: int) -> float | None:
        """Lowest loss (nats per token) within reach where a window's first target has one token before it.

        Above the entropy rate by what the first few targets of a window of `seq_len` lack in context.
        """
        if self.entropies is None:
            return None
        last = len(self.entropies) - 1
        return sum(self.entropies[min(seen, last)] for seen in range(1, seq_len + 1)) / seq_len


def load_tokens(data: DataConfig, tokenizer: TokenizerConfig, cache_dir: str) -> TokenStore:
    """The token ids of a corpus, from the cache or built into it. Raises ConfigError."""
    corpus = open_corpus(data)
    if isinstance(corpus, Text) == (tokenizer.kind == "symbols"):
        raise ConfigError(f"tokenizer={tokenizer.name}: data=synthetic takes tokenizer=symbols, nothing else does")
    root = Path(cache_dir).expanduser()
    try:
        (root / "tokens").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cache_dir={cache_dir}: must be a directory that can be written ({error})") from error
    content = corpus.stamp if isinstance(corpus, Symbols) else _content(corpus, root)
    entry = root / "tokens" / _digest(FORMAT, content, tokenizer.kind, *_settings(tokenizer))
    if (store := _opened(entry)) is None:
        with FileLock(f"{entry}.lock"):
            if (store := _opened(entry)) is None:
                if entry.exists():
                    aside = entry.with_suffix(".broken")
                    shutil.rmtree(aside, ignore_errors=True)
                    entry.rename(aside)
                    log.warning("%s is damaged: set aside as %s and built again", entry, aside.name)
                _build(entry, corpus, tokenizer)
                if isinstance(corpus, Text) and content != _content(corpus, None):
                    shutil.rmtree(entry)
                    raise ConfigError(f"data.path={data.path}: changed while it was read; start again")
                store = _opened(entry)
    assert store is not None
    if tokenizer.kind == "bpe" and store.vocab_size < tokenizer.vocab_size:
        log.info("tokenizer: the text gives %d ids, fewer than %d", store.vocab_size, tokenizer.vocab_size)
    if tokenizer.kind != "bpe" and tokenizer.vocab_size != store.vocab_size:
        raise ConfigError(f"tokenizer.vocab_size={tokenizer.vocab_size}: {store.tokenizer_id} has {store.vocab_size}")
    return store


def _settings(tokenizer: TokenizerConfig) -> list[Any]:
    """What besides the text decides the ids; a tokenizer.json counts by its content."""
    if tokenizer.kind == "bpe":
        return [tokenizer.vocab_size]
    if tokenizer.kind == "hub":
        file = Path(str(tokenizer.hub)).expanduser()
        return [hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else tokenizer.hub]
    return []


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


def _content(corpus: Text, cache: Path | None) -> list[str]:
    """Hash of each split's text; remembered in `cache` by the corpus' stamp, so that a run need not read it."""
    memo = cache / "sources" / f"{_digest(corpus.stamp)}.json" if cache and corpus.stamp else None
    if memo is not None:
        try:
            return list(json.loads(memo.read_text()))
        except (OSError, ValueError, TypeError):
            pass
    hashes = []
    for split in SPLITS:
        sha = hashlib.sha256()
        for block in corpus.read(split):
            sha.update(block.encode())
        hashes.append(sha.hexdigest())
    if memo is not None:
        memo.parent.mkdir(exist_ok=True)
        atomic_write(memo, json.dumps(hashes))
    return hashes


def _opened(entry: Path) -> TokenStore | None:
    """The entry memory-mapped, or None where it is absent or damaged."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        if (json_crc := meta.get("tokenizer_crc")) is not None and json_crc != _crc(entry / "tokenizer.json"):
            return None
        arrays = {name: _mapped(entry / f"{name}.bin", **spec) for name, spec in meta["arrays"].items()}
        return TokenStore(
            **{split: arrays[split] for split in SPLITS},
            vocab_size=meta["vocab_size"],
            token_bytes=arrays.get("token_bytes"),
            data_id=meta["data_id"],
            tokenizer_id=meta["tokenizer_id"],
            entropies=tuple(meta["entropies"]) if meta["entropies"] else None,
            path=entry,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path, dtype: str, size: int, crc: int) -> np.ndarray:
    array = np.memmap(path, dtype, "r")
    if array.size != size or zlib.crc32(array.data.cast("B")[:CHECKED]) != crc:
        raise ValueError(f"{path} is damaged")
    return array


def _crc(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _build(entry: Path, corpus: Text | Symbols, config: TokenizerConfig) -> None:
    """Make a whole entry beside its place, then rename it there."""
    part = entry.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a builder that died
    part.mkdir()
    log.info("building tokens in %s", entry)
    try:
        _fill(part, corpus, config)
        part.rename(entry)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _fill(part: Path, corpus: Text | Symbols, config: TokenizerConfig) -> None:
    arrays: dict[str, dict[str, Any]] = {}
    meta: dict[str, Any]
    if isinstance(corpus, Symbols):
        meta = {"vocab_size": corpus.n_symbols, "tokenizer_id": f"symbols-{corpus.n_symbols}"}
        meta["entropies"] = corpus.entropies()
        streams = {split: corpus.read(split) for split in SPLITS}
    else:
        from scaling.data.tokenizer import build_tokenizer

        built = build_tokenizer(config, partial(corpus.read, "train"))
        meta = {"vocab_size": built.vocab_size, "tokenizer_id": built.id, "entropies": None}
        streams = {split: built.encode(corpus.read(split)) for split in SPLITS}
        arrays["token_bytes"], _ = _write(part / "token_bytes.bin", [built.token_bytes], "<u4")
        if built.json is not None:
            atomic_write(part / "tokenizer.json", built.json)
            meta["tokenizer_crc"] = _crc(part / "tokenizer.json")
    dtype = "<u2" if meta["vocab_size"] <= 1 << 16 else "<u4"
    hashes = {}
    for split, stream in streams.items():
        arrays[split], hashes[split] = _write(part / f"{split}.bin", stream, dtype)
        if not arrays[split]["size"]:
            raise ConfigError(f"data: the {split} split must hold text, is empty")
    meta["data_id"] = _digest(meta["vocab_size"], *hashes.values())
    atomic_write(part / "meta.json", json.dumps(meta | {"arrays": arrays}, indent=1))


def _write(path: Path, chunks: Iterable[np.ndarray] | Iterator[np.ndarray], dtype: str) -> tuple[dict[str, Any], str]:
    """Append chunks to a raw file: what is needed to open it again, and the SHA-256 of its bytes."""
    sha, crc, size = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        for chunk in chunks:
            raw = chunk.astype(dtype).tobytes()
            file.write(raw)
            sha.update(raw)
            crc = zlib.crc32(raw[: max(CHECKED - size, 0)], crc)
            size += len(raw)
        file.flush()
        os.fsync(file.fileno())
    return {"dtype": dtype, "size": size // np.dtype(dtype).itemsize, "crc": crc}, sha.hexdigest()
