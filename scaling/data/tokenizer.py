"""Text to token ids: byte-level BPE trained on the spot, plain bytes, or a tokenizer from the hub."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from scaling.config import ConfigError, TokenizerConfig
from scaling.data.corpus import prepare_hub

UNKNOWN = "<unk>"  # WikiText-2 has this word in its text; it is one token
PIECE = 1 << 16  # characters encoded at a time
BATCH = 16  # pieces encoded side by side


@dataclass(frozen=True)
class Tokenizer:
    """`encode` maps a text's pieces to arrays of ids below `vocab_size`; `token_bytes` is (vocab_size,).

    `json` is the tokenizer in the format of the `tokenizers` library; None for bytes.
    """

    id: str
    vocab_size: int
    token_bytes: np.ndarray
    encode: Callable[[Iterable[str]], Iterator[np.ndarray]]
    json: str | None = None


def build_tokenizer(config: TokenizerConfig, train: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer that `config` names; `train()` streams the text a BPE learns from. Raises ConfigError."""
    if config.kind == "bytes":
        return Tokenizer("bytes", 256, np.ones(256, np.int32), _encode_bytes)
    if config.kind == "bpe":
        return _wrapped("bpe", train_bpe(train(), config.vocab_size))
    return _wrapped("hub", _from_hub(str(config.hub)))


def pieces(blocks: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """A stream of text in pieces of at most `size` characters, the same whatever the blocks were.

    Cut before a space or line end that follows a letter or digit, where GPT-2's pattern cuts anyway: the ids of
    the pieces are those of the whole text. Text without such a place is cut at `size`.
    """
    text = ""
    for block in blocks:
        text += block
        start = 0
        while len(text) - start >= size:
            stop = _last_cut(text, start, start + size)
            yield text[start:stop]
            start = stop
        text = text[start:]
    if text:
        yield text


def train_bpe(blocks: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; GPT-2's bytes and pattern): <unk>, 256 bytes, merges."""
    least = 1 + len(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < least:
        raise ConfigError(f"tokenizer.vocab_size={vocab_size}: a byte-level BPE needs at least {least}")
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(pieces(blocks), trainer)
    return bpe


def _last_cut(text: str, start: int, stop: int) -> int:
    for i in range(stop - 1, start, -1):
        if text[i] in " \n" and text[i - 1].isalnum():
            return i
    return stop


def _encode_bytes(blocks: Iterable[str]) -> Iterator[np.ndarray]:
    for block in blocks:
        yield np.frombuffer(block.encode(), np.uint8)


def _wrapped(kind: str, library: tokenizers.Tokenizer) -> Tokenizer:
    def encode(blocks: Iterable[str]) -> Iterator[np.ndarray]:
        stream = pieces(blocks)
        while batch := list(islice(stream, BATCH)):
            for encoding in library.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoding.ids, np.uint32)

    text = library.to_str()
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    token_bytes = _token_bytes(library)
    return Tokenizer(f"{kind}-{len(token_bytes)}-{digest}", len(token_bytes), token_bytes, encode, text)


def _token_bytes(library: tokenizers.Tokenizer) -> np.ndarray:
    """(vocab,) bytes of each id: byte-level tokens are spelled with one character a byte."""
    added = {i: token.content for i, token in library.get_added_tokens_decoder().items()}
    vocab = library.get_vocab(with_added_tokens=True)
    sizes = np.zeros(max(vocab.values()) + 1, np.int32)
    for token, i in vocab.items():
        sizes[i] = len(added[i].encode()) if i in added else len(token)
    return sizes


def _from_hub(name: str) -> tokenizers.Tokenizer:
    """`name` is a model on the hub or a tokenizer.json on disk; byte-level only, as bytes must be countable."""
    path = Path(name).expanduser()
    if not path.is_file():
        prepare_hub()
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name, "tokenizer.json"))
        except Exception as error:
            raise ConfigError(
                f"tokenizer.hub={name}: could not be loaded from the Hugging Face hub ({type(error).__name__}); "
                "give tokenizer.hub=FILE (a tokenizer.json), or take tokenizer=bpe4k"
            ) from error
    try:
        library = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(f"tokenizer.hub={name}: must be a tokenizer.json ({error})") from error
    layout = json.loads(library.to_str())
    if not _byte_level(layout["decoder"]) or "true" in _prefix_space(layout["pre_tokenizer"]):
        raise ConfigError(f"tokenizer.hub={name}: must be a byte-level tokenizer without a prefix space")
    library.no_truncation()
    library.no_padding()
    return library


def _byte_level(decoder: Any) -> bool:
    return decoder is not None and "ByteLevel" in json.dumps(decoder)


def _prefix_space(pre_tokenizer: Any) -> str:
    return json.dumps(pre_tokenizer).partition('"add_prefix_space": ')[2][:4]
