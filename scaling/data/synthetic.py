"""A Markov source of known entropy: what a sweep should find is known before it runs."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
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
    n_symbols: int = 256,
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
    shape = [VERSION, ZIPF, SPREAD, BEND, BACK]
    stamp = hashlib.sha256(json.dumps([options, sizes, shape]).encode()).hexdigest()

    @cache
    def source() -> Markov:
        return Markov(transitions(n_symbols, order, seed))

    return Symbols(
        stamp,
        n_symbols,
        lambda split: source().sample(sizes[split], [seed, 1 + list(sizes).index(split)]),
        lambda: source().entropies(),
    )


VERSION = 2  # raise when the same options would give another stream
PROBABILITIES = 1 << 24  # most that a source may have
ZIPF, SPREAD, BEND, BACK = 0.5, 3.4, 2.0, 0.2


def transitions(n_symbols: int, order: int, seed: int) -> np.ndarray:
    """(n_symbols,) * (order + 1) probabilities of the next symbol (last axis) given the ones before it.

    A random teacher: log p(c | x) = -ZIPF log rank(c) + SPREAD n^-1/2 sum_r tanh(BEND z_r(x)) H[r, c] + const, with
    z_r(x) = sum_j BACK^j A[j, x_-j, r], the last symbol being j = 0, A and H Gaussian and r = 1..n_symbols. What the
    last symbol says is a matrix of full rank, so that every bit of width pays; older ones shift it a little, which
    takes attention; and contexts differ in frequency with a heavy tail, so that more tokens show rarer ones.
    """
    rng = np.random.default_rng([seed, 0])
    z = np.zeros((n_symbols,) * (order + 1))
    for j in range(order):
        axes = [n_symbols if axis == order - 1 - j else 1 for axis in range(order)]
        z += BACK**j * rng.standard_normal((*axes, n_symbols))
    readout = rng.standard_normal((n_symbols, n_symbols)) * SPREAD / n_symbols**0.5
    logits = np.tanh(BEND * z, out=z) @ readout
    logits -= ZIPF * np.log(np.arange(1, n_symbols + 1))
    logits -= logits.max(-1, keepdims=True)
    p = np.exp(logits, out=logits)
    p /= p.sum(-1, keepdims=True)
    return p


@dataclass(frozen=True)
class Markov:
    """A stationary source; `p` (v,) * (order + 1) holds the next symbol's probabilities, all above 0."""

    p: np.ndarray

    @cached_property
    def stationary(self) -> np.ndarray:
        """(v,) * order probabilities of the contexts in the long run."""
        v, contexts = len(self.p), self.p.shape[:-1]
        step = self.p.reshape(v, -1, v)
        pi = np.full(step.shape[:2], 1 / step[..., 0].size)
        for _ in range(10_000):
            new = np.einsum("ab,abc->bc", pi, step).reshape(pi.shape)
            change, pi = np.abs(new - pi).sum(), new / new.sum()
            if change < 1e-13:
                return pi.reshape(contexts)
        raise ArithmeticError("the source does not mix")

    def entropies(self) -> list[float]:
        """Nats per symbol given 0, 1, …, order symbols before it; the last one is the entropy rate.

        H_j = H(j + 1 symbols) - H(j symbols), of the stationary source (Cover & Thomas, Elements of Information
        Theory, 4.2).
        """
        joint = self.stationary[..., None] * self.p
        blocks = [0.0]
        for j in range(1, joint.ndim + 1):
            q = joint.sum(tuple(range(joint.ndim - j))).ravel()
            blocks.append(-float(q @ np.log(q)))
        return [b - a for a, b in pairwise(blocks)]

    def sample(self, n: int, seed: list[int]) -> Iterator[np.ndarray]:
        """`n` symbols in blocks: one chain, symbol after symbol, started from the stationary distribution."""
        rng = np.random.default_rng(seed)
        v, contexts = len(self.p), self.stationary.size
        cumulative = np.cumsum(self.p, -1).ravel().data
        context = min(int(np.searchsorted(np.cumsum(self.stationary), rng.random(), "right")), contexts - 1)
        for start in range(0, n, BLOCK):
            out = []
            for u in rng.random(min(BLOCK, n - start)).tolist():
                low = context * v
                symbol = bisect_right(cumulative, u, low, low + v - 1) - low
                out.append(symbol)
                context = (low + symbol) % contexts
            yield np.array(out, np.uint32)
