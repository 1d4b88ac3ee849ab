"""The one way configuration reaches code: Hydra composes, this schema validates, dataclasses go down.

Every key of `conf/train.yaml` and its groups is a field here; `typed` turns a composed config into frozen
dataclasses or raises `ConfigError` with one line that names the key, the value and what is allowed.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scaling.accounting import steps_within
from scaling.limits import problems

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one line naming key, value and what is allowed."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape alone; what is built from it is the family's business."""

    name: str = MISSING
    d_model: int = MISSING
    d_mlp: int = MISSING
    n_layers: int = MISSING
    n_heads: int = MISSING


@dataclass(frozen=True)
class FamilyConfig:
    """A class in `scaling.models` and keyword options for its constructor; `lr_factor` is on the rule's rate."""

    name: str = MISSING
    _target_: str = MISSING
    lr_factor: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokensConfig:
    """Training tokens at most; whole steps are trained."""

    name: str = MISSING
    budget: int = MISSING


@dataclass(frozen=True)
class DataConfig:
    """`path` is a local directory (or files, for `text`); `options` go to the corpus function of that name."""

    name: str = MISSING
    path: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerConfig:
    """`kind`: bpe (trained on the train split), bytes, symbols (data that is token ids already), hub."""

    name: str = MISSING
    kind: str = MISSING
    vocab_size: int = MISSING
    hub: str | None = None


@dataclass(frozen=True)
class LRRule:
    """Peak learning rate = base * (d_model / 64)^width * (tokens / 1e5)^tokens."""

    base: float = MISSING
    width: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW. `lr` null means the rule; `weight_decay` reaches matrices alone; `grad_clip` is a global norm.

    `mup_width` is the width at which muP is the same as no muP; null for none.
    """

    name: str = MISSING
    lr: float | None = None
    lr_rule: LRRule = field(default_factory=LRRule)
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip: float | None = 1.0
    mup_width: int | None = None


@dataclass(frozen=True)
class ScheduleConfig:
    """`warmup` and `decay` are fractions of the run; `final` is the last rate as a fraction of the peak."""

    name: str = MISSING
    kind: str = MISSING
    warmup: float = 0.0
    decay: float = 0.0
    final: float = 0.0


@dataclass(frozen=True)
class TrainerConfig:
    """Where and how a run is computed (`threads` null: by rule), and how often it saves what it needs to resume.

    `compile` costs tens of seconds a shape before the first step: for long runs on a GPU. `devices` share every batch
    (DDP; null: all GPUs) and, if `sharded`, also the weights (FSDP), `micro_batch` sequences at a time (null: all of a
    device's share), and `recompute` trades a third more compute for the memory of the activations; none of the four
    changes the result beyond rounding.
    """

    name: str = MISSING
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compile: bool = False
    devices: int | None = 1
    sharded: bool = False
    micro_batch: int | None = None
    recompute: bool = False
    deterministic: bool = False
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class LoggerConfig:
    """`mode` for W&B: auto (online where a key is found, offline otherwise), online, offline, none."""

    name: str = MISSING
    mode: str = "auto"
    project: str = "scaling"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainConfig:
    """One run, as composed by `conf/train.yaml`."""

    study: str = "default"
    seed: int = 0
    batch_size: int = 16
    seq_len: int = 64
    eval_tokens: int = 65536
    eval: str = "slice"
    output_dir: str = "outputs"
    cache_dir: str = MISSING
    dry_run: bool = False
    keep_weights: bool = False
    force: bool = False
    ladder: list[int] = field(default_factory=list)
    model: ModelConfig = field(default_factory=ModelConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    family: FamilyConfig = field(default_factory=FamilyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)

    @property
    def steps_before(self) -> int:
        """Steps on the rungs of the ladder below this run's budget; 0 for fresh weights."""
        below = (rung for rung in self.ladder if rung < self.tokens.budget)
        return sum(steps_within(rung, self.batch_size, self.seq_len) for rung in below)

    @property
    def steps(self) -> int:
        """All optimizer steps of this run, those before its own budget included."""
        return self.steps_before + steps_within(self.tokens.budget, self.batch_size, self.seq_len)

    @property
    def tokens_trained(self) -> int:
        """All training tokens of this run."""
        return self.steps * self.batch_size * self.seq_len

    @property
    def tokens_before(self) -> int:
        return self.steps_before * self.batch_size * self.seq_len

    @property
    def lr(self) -> float:
        """Peak learning rate of this run."""
        if self.optim.lr is not None:
            return self.optim.lr
        rule = self.optim.lr_rule
        base = rule.base * self.family.lr_factor
        return base * (self.model.d_model / 64) ** rule.width * (self.tokens.budget / 1e5) ** rule.tokens

    @property
    def run_hash(self) -> str:
        """Hash of everything that changes the result: labels, places and logging do not."""
        c = asdict(self)
        result = {k: c[k] for k in ("seed", "batch_size", "seq_len", "eval_tokens", "eval")}
        if self.ladder:
            result["ladder"] = [rung for rung in self.ladder if rung < self.tokens.budget]
        result |= {k: c[k] for k in ("model", "tokens", "family", "tokenizer", "schedule")}
        result["data"] = {k: c["data"][k] for k in ("name", "options")}
        result["optim"] = {k: v for k, v in c["optim"].items() if k not in ("lr", "lr_rule")} | {"lr": self.lr}
        result["trainer"] = {k: c["trainer"][k] for k in ("precision", "deterministic")}
        result["family"].pop("lr_factor")  # it has done its work in lr
        if self.optim.mup_width is None:
            result["optim"].pop("mup_width")
        for part in ("model", "tokens", "family", "tokenizer", "schedule", "optim"):
            result[part].pop("name")
        return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def run_dir(self) -> Path:
        return Path(self.output_dir) / self.study / self.run_name

    @property
    def run_name(self) -> str:
        """Directory of the run below its study, from values rather than labels: it cannot lie under overrides."""
        m = self.model
        return f"{self.family.name}-d{m.d_model}_l{m.n_layers}-{short(self.tokens.budget)}-s{self.seed}-{self.run_hash}"


def short(count: int) -> str:
    """5000 -> 5k, 1000000 -> 1M; exact or left as it is."""
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= scale and count % scale == 0:
            return f"{count // scale}{unit}"
    return str(count)


def typed(cfg: DictConfig) -> TrainConfig:
    """The composed config as frozen dataclasses, checked. Raises ConfigError."""
    config = to_dataclass(cfg, TrainConfig)
    for problem in problems(config):
        raise ConfigError(problem)
    return config


def to_dataclass(cfg: DictConfig, schema: type[T]) -> T:
    """A composed config as the frozen dataclass it was composed on. Raises ConfigError."""
    for key, allowed in _unknown(cfg, schema):
        raise ConfigError(f"{key}: no such key; allowed: {', '.join(allowed)}")
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
    assert isinstance(config, schema)
    return config


def _unknown(cfg: DictConfig, schema: type, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Keys that `+key=value` smuggled past the schema."""
    known: dict[str, Any] = {f.name: f.type for f in fields(schema)}
    for key in map(str, cfg):
        if key not in known:
            yield f"{prefix}{key}", list(known)
        elif is_dataclass(known[key]) and isinstance(cfg[key], DictConfig):
            yield from _unknown(cfg[key], known[key], f"{prefix}{key}.")


def one_line(error: BaseException) -> str:
    """First line of an error, with the key OmegaConf puts further down."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    key = getattr(error, "full_key", None)
    return f"{key}: {text}" if key and str(key) not in text else text


def register(name: str, schema: type) -> None:
    """Store a schema at the root by name (inside a group, `glob(*)` would take it for an option)."""
    ConfigStore.instance().store(name=name, node=_writable(OmegaConf.structured(schema)))


def _writable(node: DictConfig) -> DictConfig:
    """Frozen dataclasses become read-only nodes, which no command line could override."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _writable(child)
    return node
