"""From a size and tokens to what `train.py` is told: the closest shape of a family, and the overrides of a run.

Shapes are counted by the family itself, built without storage; torch is loaded only once somebody asks.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from scaling.config import ConfigError, ModelConfig, TrainConfig, short, typed

D_MODEL = (*range(8, 64, 4), *range(64, 128, 8), *range(128, 512, 32), *range(512, 16384 + 1, 64))
CLOSE = 1.3  # a shape further off than this factor of N is another model
GROUPS = ("family", "tokenizer", "data", "optim", "schedule")
ROOT_KEYS = ("batch_size", "seq_len", "eval_tokens", "eval")
SHAPE = ("d_model", "d_mlp", "n_layers", "n_heads")
PLACES = ("study", "output_dir")
TRAINER_KEYS = ("precision", "deterministic")
DEEPER = 2 / 3  # depth ~ width^DEEPER beyond the shapes trained: about what GPT-3's and Chinchilla's own tables do
DEPTH_PRICE, ENOUGH = 0.03, 0.05  # of log N: of a layer off the family's proportions; near enough to look no further


@dataclass(frozen=True)
class Shaped:
    """A shape that was counted: N under the count asked for, and training FLOPs per token."""

    model: ModelConfig
    N: float
    flops_per_token: float


class Family:
    """The shapes that a family can have beside those that a study trained: their proportions, other widths.

    config: a run of the study; trained: its shapes; count: the name of N in `accounting.Counts`. Raises ConfigError
    where the data or the family of the run are not to be had.
    """

    def __init__(self, config: TrainConfig, trained: Sequence[ModelConfig], count: str = "n_total") -> None:
        from scaling.data.packing import load_tokens

        store = load_tokens(config.data, config.tokenizer, config.cache_dir)
        self.config, self.count = config, count
        self.vocab_size, self.unique_tokens = int(store.vocab_size), len(store.train)
        shapes = sorted(trained, key=lambda m: m.d_model)
        self._widths = np.array([m.d_model for m in shapes], dtype=float)
        self._depths = np.array([m.n_layers for m in shapes], dtype=float)
        self._mlp = float(np.median([m.d_mlp / m.d_model for m in shapes]))
        self._heads = np.array([m.d_model / m.n_heads for m in shapes])

    def shaped(self, model: ModelConfig) -> Shaped:
        """The shape with its counts."""
        from scaling.models.base import Shape, build_meta

        built = build_meta(self.config.family, Shape.of(replace(self.config, model=model), self.vocab_size))
        return Shaped(model, float(getattr(built.counts(), self.count)), float(built.flops_per_token()))

    def ladder(self, flops_per_token: float) -> list[Shaped]:
        """Shapes from the narrowest up, each about half as wide again, until one costs as much a token."""
        found, width = [self.shaped(self._model(D_MODEL[0], -100))], 0.0
        for d_model in D_MODEL[1:]:
            if found[-1].flops_per_token >= flops_per_token:
                break
            if d_model >= 1.4 * width:
                width = d_model
                found.append(self.shaped(self._model(d_model, 0)))
        return found

    def closest(self, N: float) -> Shaped:
        """The shape of the family's proportions nearest to N. Raises ConfigError where none is within a factor 1.3."""
        found, off = None, float("inf")
        for more in (0, 1, -1):  # a layer more or less where the family's own depth has no width close by
            for width in self._around(N, more) if off > ENOUGH else ():
                one = self.shaped(self._model(width, more))
                price = abs(log(one.N / N)) + DEPTH_PRICE * abs(more)
                found, off = (one, price) if price < off else (found, off)
        assert found is not None
        if abs(log(found.N / N)) > log(CLOSE):
            m = found.model
            raise ConfigError(
                f"N = {N:.3g}: {self.config.family.name} has no such shape here; the nearest is d_model={m.d_model}, "
                f"n_layers={m.n_layers} with N = {found.N:.3g}"
            )
        return found

    def _around(self, N: float, more: int) -> tuple[int, int]:
        """The two widths, at the proportional depth plus `more` layers, between which N lies."""
        low, high = 0, 1
        while high < len(D_MODEL) - 1 and self.shaped(self._model(D_MODEL[high], more)).N < N:
            low, high = high, min(2 * high, len(D_MODEL) - 1)  # doubling: what is much larger takes long to build
        while high - low > 1:
            middle = (low + high) // 2
            if self.shaped(self._model(D_MODEL[middle], more)).N < N:
                low = middle
            else:
                high = middle
        return D_MODEL[low], D_MODEL[high]

    def _model(self, d_model: int, more: int) -> ModelConfig:
        x, known = log(d_model), np.log(self._widths)
        deep = float(np.interp(x, known, self._depths))
        if x > known[-1]:
            deep = float(self._depths[-1]) * exp(DEEPER * (x - known[-1]))
        n_layers = max(1, round(deep) + more)
        wanted = float(self._heads[np.argmin(np.abs(known - x))])
        heads = min(
            (h for h in range(1, d_model + 1) if d_model % h == 0), key=lambda h: abs(log(d_model / h / wanted))
        )
        d_mlp = max(8, round(self._mlp * d_model))
        return ModelConfig(f"d{d_model}_l{n_layers}", d_model, d_mlp, n_layers, heads)


def read_config(run_dir: Path) -> TrainConfig:
    """The settings of a run, as it wrote them. Raises ConfigError where this version cannot read them."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        known = OmegaConf.structured(TrainConfig)
        OmegaConf.set_readonly(known, None)
        config = OmegaConf.to_object(OmegaConf.merge(_writable(known), OmegaConf.load(run_dir / "config.yaml")))
    except (OSError, OmegaConfBaseException) as error:
        raise ConfigError(f"{run_dir.name}: its config.yaml cannot be read: {str(error).splitlines()[0]}") from None
    assert isinstance(config, TrainConfig)
    return config


def overrides_of(config: TrainConfig, *, shape: bool = True) -> list[str]:
    """What turns `conf/train.yaml` into this run: groups by name, then every value that still differs.

    Needs Hydra initialised on `conf/`. Without `shape`: what runs of other sizes and tokens have in common.
    """
    default = _composed([])
    said = [
        f"{group}={getattr(config, group).name}"
        for group in GROUPS
        if getattr(config, group).name != getattr(default, group).name
    ]
    if any(line.startswith("data=") for line in said):  # data bring their tokenizer along
        brought = _composed([line for line in said if line.startswith("data=")]).tokenizer.name
        said = [line for line in said if line != f"tokenizer={brought}"]
    if config.logger.mode == "none":
        said.append("logger=none")
    base, own = asdict(_composed(said)), asdict(config)
    for key in (*PLACES, *ROOT_KEYS):
        said += _differences(key, base[key], own[key])
    for group in GROUPS:
        for key, value in own[group].items():
            if key not in ("name", "_target_"):
                said += _differences(f"{group}.{key}", base[group].get(key), value)
    for key in TRAINER_KEYS:
        said += _differences(f"trainer.{key}", base["trainer"][key], own["trainer"][key])
    return [*said, *shape_overrides(config.model, config.tokens.budget)] if shape else said


def shape_overrides(model: ModelConfig, tokens: int) -> list[str]:
    """Overrides of a size and a budget."""
    values = [f"model.{key}={value}" for key, value in asdict(model).items()]
    return [*values, f"tokens.name={short(tokens)}", f"tokens.budget={tokens}"]


def command(overrides: Sequence[str]) -> str:
    """`python train.py …`, quoted for a shell."""
    return " ".join(["python train.py", *(shlex.quote(o) for o in overrides)])


def checked(overrides: Sequence[str]) -> TrainConfig:
    """The run that `train.py` would make of these overrides. Raises ConfigError where it would refuse them."""
    return _composed(overrides)


def _composed(overrides: Sequence[str]) -> TrainConfig:
    from hydra import compose
    from hydra.errors import HydraException

    from scaling.config import register

    register("train_schema", TrainConfig)
    try:
        return typed(compose("train", overrides=list(overrides)))
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from None


def _differences(key: str, base: Any, own: Any) -> list[str]:
    if isinstance(own, dict):
        known = base if isinstance(base, dict) else {}
        return [line for k, v in own.items() for line in _differences(f"{key}.{k}", known.get(k), v)]
    if own == base:
        return []
    value = "null" if own is None else str(own).lower() if isinstance(own, bool) else str(own)
    return [f"{'+' if base is None and '.options.' in key else ''}{key}={value}"]


def _writable(node: Any) -> Any:
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _writable(child)
    return node
