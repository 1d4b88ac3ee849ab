"""The source whose truth is known: exact entropies against closed forms, brute force and its own samples."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scaling.config import ConfigError, DataConfig, TokenizerConfig, TrainConfig
from scaling.data import synthetic
from scaling.data.packing import load_tokens
from scaling.data.synthetic import Markov, transitions


def stream(p: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(Markov(p).sample(n, [seed])))


def test_entropies_of_a_two_state_chain_are_the_closed_form() -> None:
    a, b = 0.2, 0.05
    h = lambda q: -q * math.log(q) - (1 - q) * math.log(1 - q)  # noqa: E731
    h0, h1 = Markov(np.array([[1 - a, a], [b, 1 - b]])).entropies()
    assert h0 == pytest.approx(h(a / (a + b)), abs=1e-12)
    assert h1 == pytest.approx((b * h(a) + a * h(b)) / (a + b), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_entropy_rate_equals_that_of_the_chain_of_contexts(order: int) -> None:
    """Independently: the chain of contexts as one big matrix, its stationary vector by linear algebra."""
    v = 3
    p = transitions(v, order, seed=4)
    n = v**order
    big = np.zeros((n, n))
    for context in range(n):
        for symbol in range(v):
            big[context, (context * v + symbol) % n] += p.reshape(n, v)[context, symbol]
    system = np.vstack([big.T - np.eye(n), np.ones(n)])
    pi = np.linalg.lstsq(system, np.append(np.zeros(n), 1), rcond=None)[0]
    rate = -(pi[:, None] * p.reshape(n, v) * np.log(p.reshape(n, v))).sum()
    assert Markov(p).stationary.ravel() == pytest.approx(pi, abs=1e-10)
    assert len(Markov(p).entropies()) == order + 1
    assert Markov(p).entropies()[-1] == pytest.approx(rate, abs=1e-10)


def test_entropies_of_independent_symbols_are_all_the_same() -> None:
    p = np.broadcast_to([0.5, 0.25, 0.25], (3, 3, 3))
    assert Markov(p).entropies() == pytest.approx([1.5 * math.log(2)] * 3)


@pytest.mark.parametrize(("v", "order"), [(16, 1), (24, 2), (8, 3)])
def test_samples_have_the_exact_entropy_rate(v: int, order: int) -> None:
    p = transitions(v, order, seed=1)
    ids = stream(p, 200_000)
    surprise = -np.log(p[tuple(ids[j : len(ids) - order + j] for j in range(order + 1))])
    batches = surprise[: len(surprise) // 200 * 200].reshape(200, -1).mean(1)  # neighbours are dependent
    z = (batches.mean() - Markov(p).entropies()[-1]) / (batches.std(ddof=1) / math.sqrt(200))
    assert abs(z) < 4


def test_samples_visit_contexts_as_often_as_the_stationary_distribution_says() -> None:
    p = transitions(6, 2, seed=2)
    ids = stream(p, 300_000)
    seen = np.bincount(ids[:-1] * 6 + ids[1:], minlength=36) / (len(ids) - 1)
    assert seen == pytest.approx(Markov(p).stationary.ravel(), abs=0.01)


def test_first_symbol_is_stationary_too() -> None:
    p = transitions(4, 1, seed=3)
    first = np.array([stream(p, 1, seed)[0] for seed in range(500)])
    expected = Markov(p).stationary @ p
    assert np.bincount(first, minlength=4) / 500 == pytest.approx(expected, abs=0.08)


def test_a_stream_does_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    p = transitions(10, 2, seed=0)
    whole = stream(p, 1000)
    monkeypatch.setattr(synthetic, "BLOCK", 37)
    assert np.array_equal(stream(p, 1000), whole)


def test_transitions_are_probabilities_with_a_heavy_tail_of_contexts() -> None:
    p = transitions(48, 2, seed=0)
    assert p.sum(-1) == pytest.approx(np.ones((48, 48)))
    mass = np.sort(Markov(p).stationary.ravel())[::-1].cumsum()
    assert mass[230] > 0.5  # a tenth of the contexts
    assert mass[1150] < 0.999  # half of them


def test_each_order_leaves_something_to_learn() -> None:
    """Unigrams, bigrams and trigrams are each worth learning."""
    h0, h1, h2 = Markov(transitions(96, 2, seed=0)).entropies()
    assert h0 < math.log(96)
    assert h0 - h1 > 0.3
    assert h1 - h2 > 0.1


OPTIONS = {"n_symbols": 12, "train_tokens": 5000, "valid_tokens": 700, "test_tokens": 600}
SYMBOLS = TokenizerConfig("symbols", "symbols", 12)


def test_store_holds_the_source_and_its_truth(tmp_path: Path) -> None:
    store = load_tokens(DataConfig("synthetic", None, OPTIONS), SYMBOLS, str(tmp_path))
    assert [len(store.train), len(store.valid), len(store.test)] == [5000, 700, 600]
    assert store.train.dtype == np.uint16
    assert store.vocab_size == 12
    assert store.token_bytes is None
    assert store.entropies == pytest.approx(Markov(transitions(12, 2, 0)).entropies())
    assert store.entropy_rate == store.entropies[-1]
    assert not np.array_equal(store.train[:600], store.test)
    _, h1, h2 = store.entropies
    assert store.floor(16) == pytest.approx((h1 + 15 * h2) / 16)
    assert store.floor(1) == pytest.approx(h1)


def test_seed_decides_the_data(tmp_path: Path) -> None:
    def data_id(cache: str, seed: int) -> str:
        data = DataConfig("synthetic", None, OPTIONS | {"seed": seed})
        return load_tokens(data, SYMBOLS, f"{tmp_path}/{cache}").data_id

    assert data_id("a", 5) == data_id("b", 5)
    assert data_id("a", 5) != data_id("a", 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symbols": 3}, r"data\.options\.symbols=3: .*n_symbols \(int\), order \(int\)"),
        ({"order": 2.5}, r"data\.options\.order=2\.5: "),
        ({"order": 4}, r"data\.options\.order=4: must be between 1 and 3"),
        ({"n_symbols": 256, "order": 3}, r"data\.options\.order=3: .*n_symbols=256"),
        ({"valid_tokens": 0}, r"data\.options\.valid_tokens=0: must be between"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tokens(DataConfig("synthetic", None, options), SYMBOLS, str(tmp_path))


def test_vocabulary_follows_the_source(hydra_conf: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = hydra_conf("data=synthetic", "data.options.n_symbols=20")
    assert config.tokenizer.vocab_size == 20
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=30: symbols-12 has 12"):
        load_tokens(DataConfig("synthetic", None, OPTIONS), TokenizerConfig("symbols", "symbols", 30), str(tmp_path))
