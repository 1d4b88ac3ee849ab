"""A Markov source of known entropy: what a sweep should find is known before it runs."""

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from scaling.config import ConfigError

BLOCK = 1 << 16  # symbols drawn at a time


@dataclass(frozen=True)
class Symbols:
    """A corpus of ids below `n_symbols`: `read(split)` streams arrays, `entropies()` are exact, in nats."""

    stamp: str
    n_symbols: int
    read: Callable[[str], Iterator[np.ndarray]]
    entropies: Callable[[], list[float]]


def synthetic(
    n_symbols: int = 64,
    order: int = 2,
    seed: int = 0,
    train_tokens: int = 1_048_576,
    valid_tokens: int = 131_072,
    test_tokens: int = 131_072,
) -> Symbols:
    """One stationary stream a split, of a source drawn from `seed`."""
    sizes = {"train": train_tokens, "valid": valid_tokens, "test": test_tokens}
    options = {"n_symbols": n_symbols, "order": order, "seed": seed}
    for name, value, low, high in [
        ("n_symbols", n_symbols, 2, 256),
        ("order", order, 1, 3),
        ("seed", seed, 0, 2**63),
        *((f"{split}_tokens", size, 1, 10**9) for split, size in sizes.items()),
    ]:
        if not low <= value <= high:
            raise ConfigError(f"data.options.{name}={value}: must be between {low} and {high}")
    if n_symbols ** (order + 1) > PROBABILITIES:
        raise ConfigError(
            f"data.options.order={order}: n_symbols^(order + 1) must not exceed {PROBABILITIES}, n_symbols={n_symbols}"
        )
    stamp = hashlib.sha256(json.dumps([options, sizes, VERSION]).encode()).hexdigest()

    @cache
    def source() -> np.ndarray:
        return transitions(n_symbols, order, seed)

    return Symbols(
        stamp,
        n_symbols,
        lambda split: sample(source(), sizes[split], [seed, 1 + list(sizes).index(split)]),
        lambda: entropies(source()),
    )


VERSION = 1  # raise when the same options would give another stream
PROBABILITIES = 1 << 24  # most that a source may have
ZIPF, SPREAD, DECAY, BEND = 1.5, 3.5, 0.3, 2.0


def transitions(n_symbols: int, order: int, seed: int) -> np.ndarray:
    """(n_symbols,) * (order + 1) probabilities of the next symbol (last axis) given the ones before it.

    A random teacher: log p(c | x) = -ZIPF log rank(c) + sum_r w_r tanh(BEND sum_j A[j, x_j, r]) H[r, c] + const,
    with Gaussian A and H and weights w_r ~ r^-DECAY of norm SPREAD. Most of it is a sum over the symbols before,
    which a small model learns soon; the rest is particular to each context, and contexts are Zipf distributed:
    there is always a rarer one left for more tokens to show and for more parameters to hold.
    """
    rng = np.random.default_rng([seed, 0])
    shape = (n_symbols,) * order
    projected = np.zeros((*shape, n_symbols))
    for j in range(order):
        axes = [n_symbols if axis == j else 1 for axis in range(order)]
        projected = projected + rng.standard_normal((*axes, n_symbols))
    weights = np.arange(1.0, n_symbols + 1) ** -DECAY
    features = np.tanh(BEND * projected) * (SPREAD * weights / np.linalg.norm(weights))
    logits = features @ rng.standard_normal((n_symbols, n_symbols)) - ZIPF * np.log(np.arange(1, n_symbols + 1))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def stationary(p: np.ndarray) -> np.ndarray:
    """(n_symbols,) * order probabilities of each context in the long run."""
    order = p.ndim - 1
    pi = np.full(p.shape[:-1], 1 / p.shape[0] ** order)
    for _ in range(10_000):
        new = (pi[..., None] * p).sum(0)
        if np.abs(new - pi).sum() < 1e-14:
            return new
        pi = new / new.sum()
    raise ArithmeticError("the source does not mix")


def entropies(p: np.ndarray) -> list[float]:
    """Nats per symbol given 0, 1, …, order symbols before it; the last one is the entropy rate.

    H_j = H(joint of j + 1 symbols) - H(joint of j symbols), from the stationary distribution (Cover & Thomas,
    Elements of Information Theory, 4.2).
    """
    joint = stationary(p)[..., None] * p
    blocks = [0.0]
    for j in range(1, p.ndim + 1):
        q = joint.sum(tuple(range(p.ndim - j))).ravel()
        q = q[q > 0]
        blocks.append(float(-(q * np.log(q)).sum()))
    return [b - a for a, b in pairwise(blocks)]


def sample(p: np.ndarray, n: int, seed: list[int]) -> Iterator[np.ndarray]:
    """`n` symbols in blocks: one chain, symbol after symbol, started from the stationary distribution."""
    rng = np.random.default_rng(seed)
    v, contexts = p.shape[0], p[..., 0].size
    cumulative = array("d", np.cumsum(p.reshape(contexts, v), 1).tobytes())
    context = min(int(np.searchsorted(np.cumsum(stationary(p)), rng.random())), contexts - 1)
    for start in range(0, n, BLOCK):
        out = []
        for u in rng.random(min(BLOCK, n - start)).tolist():
            low = context * v
            symbol = bisect_right(cumulative, u, low, low + v - 1) - low
            out.append(symbol)
            context = (low + symbol) % contexts
        yield np.array(out, np.uint32)
