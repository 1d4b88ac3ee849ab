"""How long runs take, learned from runs: seconds per token of each shape, and what a run costs besides."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median

from scaling.config import TrainConfig
from scaling.records import RunRecord

Shape = tuple[object, ...]
ENOUGH_STEPS = 24  # of a run, before its speed can stand for longer ones


def shape_of(run: TrainConfig | RunRecord) -> Shape:
    """What makes two runs equally fast per token, on one machine."""
    if isinstance(run, TrainConfig):
        m = run.model
        family = run.family.name
        return (family, m.d_model, m.d_mlp, m.n_layers, m.n_heads, run.batch_size, run.seq_len)
    return (run.family, run.d_model, run.d_mlp, run.n_layers, run.n_heads, run.batch_size, run.seq_len)


@dataclass(frozen=True)
class Work:
    """A run as the clock sees it; `tokens` are those it trains on."""

    shape: Shape
    tokens: int
    flops_per_token: float

    @property
    def flops(self) -> float:
        return self.flops_per_token * self.tokens


@dataclass(frozen=True)
class Seen:
    """A run that was timed: tokens trained, seconds of each, and seconds besides (None while it is running)."""

    tokens: int
    per_token: float
    besides: float | None


@dataclass
class Paces:
    """Everything timed so far. A shape never seen takes the pace of the nearest one, scaled by FLOPs per token."""

    seen: dict[Shape, list[Seen]] = field(default_factory=dict)
    flops: dict[Shape, float] = field(default_factory=dict)

    def learn(self, work: Work, seen: Seen) -> None:
        self.flops[work.shape] = work.flops_per_token
        self.seen.setdefault(work.shape, []).append(seen)

    def learn_record(self, record: RunRecord) -> None:
        """From a finished run."""
        if record.tokens_per_s and record.wall_s:
            tokens = record.tokens_before + record.tokens
            besides = max(0.0, record.wall_s - tokens / record.tokens_per_s)
            work = Work(shape_of(record), tokens, record.flops_per_token)
            self.learn(work, Seen(tokens, 1 / record.tokens_per_s, besides))

    def knows(self, work: Work, at_least: int) -> bool:
        """Was this shape timed over that many tokens?"""
        return any(s.tokens >= at_least and s.besides is not None for s in self.seen.get(work.shape, ()))

    def seconds(self, work: Work, done: int = 0) -> float | None:
        """Of a whole run, or of what is left after `done` tokens; None before anything was timed."""
        if not self.seen:
            return None
        nearest = min(self.flops, key=lambda shape: abs(log(self.flops[shape] / work.flops_per_token)))
        shape = work.shape if work.shape in self.seen else nearest
        scale = 1.0 if shape == work.shape else work.flops_per_token / self.flops[shape]
        per_token = max(self.seen[shape], key=lambda s: s.tokens).per_token
        besides = [s.besides for s in self.seen[shape] if s.besides is not None]
        return scale * ((work.tokens - done) * per_token + (median(besides) if besides else 0.0))


def makespan(seconds: Sequence[float], workers: int, busy: Iterable[float] = ()) -> float:
    """Seconds until all jobs have ended, started in order as workers become free; `busy` have that long to go."""
    free = sorted([*busy, *[0.0] * workers])[-workers:] if workers else []
    free.sort()
    for job in seconds:
        heapq.heapreplace(free, free[0] + job)
    return max(free, default=0.0)
