"""Bigger than the toy by configuration alone: what must hold long before somebody pays for it."""

import resource

import numpy as np
import torch

from scaling.data.datamodule import Chunks
from scaling.models.base import Shape, build_meta
from scaling.training.ranks import count


def test_gpt2_small_has_its_published_size(hydra_conf):
    """124,439,808 parameters: GPT-2 small's (Radford et al. 2019), counted on the meta device."""
    config = hydra_conf("experiment=gpt2_124m", "data.path=/nowhere")
    counts = build_meta(config.family, Shape.of(config, config.tokenizer.vocab_size)).counts()
    assert counts.n_total == 124_439_808
    assert counts.n_non_embedding == 12 * 7_087_872 + 2 * 768
    assert config.batch_size * config.seq_len == 2**19
    assert 19 < config.tokens.budget / counts.n_total < 21
    assert count(config, torch.device("cpu")) == 1


def test_it_takes_a_vocabulary_that_needs_no_network(hydra_conf):
    line = ["experiment=gpt2_124m", "tokenizer=bpe4k", "tokenizer.vocab_size=32768", "data.path=/nowhere"]
    config = hydra_conf(*line, "trainer=ddp", "trainer.recompute=true")
    assert (config.tokenizer.kind, config.tokenizer.vocab_size) == ("bpe", 32768)
    assert (config.trainer.devices, config.trainer.recompute) == (None, True)
    n_total = build_meta(config.family, Shape.of(config, 32768)).counts().n_total
    assert n_total == 124_439_808 - (50257 - 32768) * 768


def test_a_batch_of_a_corpus_larger_than_memory_costs_a_batch(tmp_path):
    """32 GiB of tokens in a file with holes: a chunk touches its own pages, whatever the corpus."""
    path = tmp_path / "train.bin"
    with path.open("wb") as file:
        file.truncate(1 << 35)
    split = np.memmap(path, "<u2", "r")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = Chunks(split, [8], batch_size=16, seq_len=1024, seed=0).steps(0, 8)
    assert chunk.shape == (8, 16, 1025)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 600  # the order of the epoch's 16.8 M sequences, and 128 of them
