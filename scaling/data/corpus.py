"""Where text comes from: WikiText-2 (hub or local), any text files, or a synthetic source of symbols.

A corpus is opened cheaply and read as a stream, so that its size is bounded by the disk and not by memory.
"""

import codecs
import inspect
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from scaling.config import ConfigError, DataConfig
from scaling.data.synthetic import Symbols, synthetic

SPLITS = ("train", "valid", "test")
SHARES = (0.90, 0.95)  # where one body of text is cut into train, valid and test
BLOCK = 1 << 20  # bytes read at a time
SETTLED_S = 1.0  # a file changed more recently than this may change again within one tick of its time stamp
HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Text:
    """A corpus of text: `read(split)` streams it in blocks of any size, the same text at every call.

    `stamp` changes whenever the text may have changed; None where only reading the text can tell.
    """

    stamp: str | None
    read: Callable[[str], Iterator[str]]


class Part(NamedTuple):
    """Bytes [start, stop) of one file."""

    path: Path
    start: int
    stop: int


def open_corpus(data: DataConfig) -> Text | Symbols:
    """The corpus that `data` names, its options checked; nothing of size is read. Raises ConfigError."""
    if data.name not in CORPORA:
        raise ConfigError(f"data.name={data.name}: must be one of {', '.join(CORPORA)}")
    corpus = CORPORA[data.name]
    parameters = dict(inspect.signature(corpus).parameters)
    if parameters.pop("path", None) is None and data.path is not None:
        raise ConfigError(f"data.path={data.path}: data={data.name} reads no files; leave data.path out")
    allowed = ", ".join(f"{name} ({p.annotation.__name__})" for name, p in parameters.items()) or "none"
    for name, value in data.options.items():
        if name not in parameters or type(value) is not parameters[name].annotation:
            raise ConfigError(f"data.options.{name}={value!r}: the options of data={data.name} are {allowed}")
    return corpus(**({"path": data.path} if data.path is not None else {}), **data.options)


def wikitext2(path: str | None = None, raw: bool = False) -> Text:
    """WikiText-2 (Merity et al. 2016) from the Hugging Face hub, or from train/valid/test.txt in `path`.

    Every line is stripped and lines are joined by one newline: hub and files give the same text. What the hub
    gave once stays in the cache and is used from then on.
    """
    if path is not None:
        parts = _three_files(_directory(path))
        if parts is None:
            raise ConfigError(f"data.path={path}: must hold train.txt, valid.txt and test.txt; train.txt is missing")
        return Text(_stamp("wikitext2", parts), lambda split: _stripped(_lines(_decoded(parts[split]))))
    name = "wikitext-2-raw-v1" if raw else "wikitext-2-v1"
    return Text(f"hub {HUB_REPO} {name}", lambda split: _stripped(_hub_rows(name)[HUB_SPLITS[split]]))


def text(path: str | None = None) -> Text:
    """Text as it stands: train/valid/test.txt in the directory `path`, or any file(s) cut 90/5/5 in order.

    A lone train.txt, a single file or all *.txt of a directory (sorted, joined by a newline) is one body of
    text: its last tenth, cut at line ends, is validation and then test.
    """
    if path is None:
        raise ConfigError("data.path=null: data=text needs data.path=DIR or data.path=FILE")
    root = Path(path).expanduser()
    if root.is_file():
        parts = _tail_split([root])
    else:
        files = sorted(p for p in _directory(path).glob("*.txt") if p.is_file())
        if not files:
            raise ConfigError(f"data.path={path}: holds no *.txt file")
        lone = [root / "train.txt"] if (root / "train.txt") in files else files
        parts = (_three_files(root) if len(files) > 1 else None) or _tail_split(lone)
    return Text(_stamp("text", parts), lambda split: _decoded(parts[split]))


CORPORA: dict[str, Callable[..., Text | Symbols]] = {
    "wikitext2": wikitext2,
    "text": text,
    "synthetic": synthetic,
}


# ---------------------------------------------------------------------------------------------- local files


def _directory(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ConfigError(f"data.path={path}: must be a directory with train.txt, valid.txt and test.txt")
    return root


def _three_files(root: Path) -> dict[str, list[Part]] | None:
    """The three files of `root`, or None where it has no train.txt or nothing beside it."""
    files = {split: root / f"{split}.txt" for split in SPLITS}
    there = [split for split in SPLITS if files[split].is_file()]
    if "train" not in there:
        return None
    for split in SPLITS:
        if split not in there:
            raise ConfigError(f"data.path={root}: {split}.txt is missing; train.txt, valid.txt and test.txt are needed")
    return {split: [Part(file, 0, _size(file))] for split, file in files.items()}


def _size(file: Path) -> int:
    size = file.stat().st_size
    if size == 0:
        raise ConfigError(f"data.path={file}: must hold text, is empty")
    return size


def _tail_split(files: list[Path]) -> dict[str, list[Part]]:
    sizes = [_size(file) for file in files]
    total = sum(sizes)
    cuts = [0, *(_line_start(files, sizes, int(share * total)) for share in SHARES), total]
    if not cuts[0] < cuts[1] < cuts[2] < cuts[3]:
        raise ConfigError(f"data.path={files[0]}: {total} bytes are too few to be cut into train, valid and test")
    parts: dict[str, list[Part]] = {}
    for split, begin, end in zip(SPLITS, cuts[:-1], cuts[1:], strict=True):
        parts[split], offset = [], 0
        for file, size in zip(files, sizes, strict=True):
            start, stop = max(begin - offset, 0), min(end - offset, size)
            if start < stop:
                parts[split].append(Part(file, start, stop))
            offset += size
    return parts


def _line_start(files: list[Path], sizes: list[int], offset: int) -> int:
    """First line start at or after a byte offset into the joined files; a character's where lines are long."""
    base = 0
    for file, size in zip(files, sizes, strict=True):
        if offset < base + size:
            with file.open("rb") as handle:
                handle.seek(offset - base)
                block = handle.read(BLOCK)
            end = block.find(b"\n") + 1
            inside = end or next((i for i, byte in enumerate(block) if byte & 0xC0 != 0x80), len(block))
            return offset + inside
        base += size
    return base


def _stamp(kind: str, parts: dict[str, list[Part]]) -> str | None:
    stats = {str(part.path.resolve()): part.path.stat() for split in SPLITS for part in parts[split]}
    if any(time.time() - s.st_ctime < SETTLED_S for s in stats.values()):
        return None
    return json.dumps([kind, *((p, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p, s in stats.items())])


def _decoded(parts: Iterable[Part]) -> Iterator[str]:
    """The parts as text, with a newline between files."""
    for i, part in enumerate(parts):
        if i:
            yield "\n"
        decoder = codecs.getincrementaldecoder("utf-8")()
        with part.path.open("rb") as handle:
            handle.seek(position := part.start)
            while position < part.stop:
                block = handle.read(min(BLOCK, part.stop - position))
                pending = len(decoder.getstate()[0])
                position += len(block)
                try:
                    yield decoder.decode(block, final=not block or position == part.stop)
                except UnicodeDecodeError as error:
                    at = position - len(block) - pending + error.start
                    raise ConfigError(f"data.path={part.path}: must be UTF-8 text, byte {at} is not") from None
                if not block:
                    raise ConfigError(f"data.path={part.path}: became shorter while it was read")


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        yield from lines
    if rest:
        yield rest


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        yield f"\n{line.strip()}" if i else line.strip()


# ---------------------------------------------------------------------------------------------- the hub

HUB_REPO = "Salesforce/wikitext"
HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


@cache
def _hub_rows(name: str) -> dict[str, Iterable[str]]:
    """Rows of text by hub split, from the hub or its local cache. Raises ConfigError within seconds."""
    prepare_hub()
    import datasets  # slow, and needed nowhere else

    try:
        loaded: Any = datasets.load_dataset(HUB_REPO, name)
    except Exception as error:
        raise ConfigError(
            f"data=wikitext2: {HUB_REPO} could not be loaded from the Hugging Face hub ({type(error).__name__}); "
            "give data.path=DIR with train.txt, valid.txt and test.txt, or take data=synthetic"
        ) from error
    return {split: loaded[split]["text"] for split in HUB_SPLITS.values()}


def prepare_hub() -> None:
    """Out of reach, the hub's clients retry for half a minute: tell them to look into their cache alone.

    To be called before `datasets` or `huggingface_hub` is imported, which is when they read the environment.
    """
    reached = threading.Event()

    def knock() -> None:  # in a thread, as no time limit reaches the name look-up
        try:
            url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # it answered
        except OSError:
            return
        reached.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    if not reached.is_set():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if (client := sys.modules.get("huggingface_hub")) is not None:  # some other library was quicker
            client.constants.HF_HUB_OFFLINE = True
