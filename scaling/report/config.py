"""Typed settings of `analyze.py`: every key of `conf/analyze.yaml` and `conf/status.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from scaling.config import ConfigError, register, to_dataclass
from scaling.limits import place_problems
from scaling.report.budget import BudgetConfig
from scaling.sources.config import SourceConfig


@dataclass(frozen=True)
class AnalyzeConfig(BudgetConfig):
    """One analysis, as composed by `conf/analyze.yaml`; `inference_tokens`: what a model is expected to serve."""

    study: str | None = None
    output_dir: str = "outputs"
    out: str | None = None
    where: str | None = None
    group_by: str | None = None
    bootstrap: int = 500
    seed: int = 0
    inference_tokens: float = 0.0
    log: bool = True
    workspace: bool = False
    source: SourceConfig = field(default_factory=SourceConfig)

    @property
    def name(self) -> str:
        """Study on which the report is."""
        if self.study is None and self.source.path:
            return Path(self.source.path).resolve().stem
        return self.study or "default"

    @property
    def runs_dir(self) -> Path:
        """Where source=local finds its runs."""
        return Path(self.source.path) if self.source.path else Path(self.output_dir) / self.name

    @property
    def report_dir(self) -> Path:
        return Path(self.out) if self.out else Path(self.output_dir) / self.name / "report"


@dataclass(frozen=True)
class StatusConfig:
    """A look at a study's records, as composed by `conf/status.yaml`."""

    study: str = "default"
    output_dir: str = "outputs"


@dataclass(frozen=True)
class CompareConfig:
    """Studies side by side, as composed by `conf/compare.yaml`."""

    studies: tuple[str, ...] = ()
    where: str | None = None
    output_dir: str = "outputs"


@dataclass(frozen=True)
class DesignConfig(BudgetConfig):
    """A sweep to be laid out, as composed by `conf/design.yaml`."""

    study: str | None = None
    output_dir: str = "outputs"
    train: str = ""
    name: str = "designed"
    out: str = "conf/experiment"
    rectangle: bool = False
    max_runs: int = 40
    draws: int = 200
    noise: float | None = None
    seed: int = 0
    prior: dict[str, float] = field(default_factory=dict)

    @property
    def target(self) -> Path:
        """The experiment that is written."""
        return Path(self.out) / f"{self.name}.yaml"

    @property
    def target_rectangle(self) -> Path:
        return Path(self.out) / f"{self.name}_rectangle.yaml"


def register_schemas() -> None:
    register("design_schema", DesignConfig)
    register("compare_schema", CompareConfig)
    register("analyze_schema", AnalyzeConfig)
    register("status_schema", StatusConfig)


def typed_analyze(cfg: DictConfig) -> AnalyzeConfig:
    """The composed config as frozen dataclasses, checked. Raises ConfigError."""
    config = to_dataclass(cfg, AnalyzeConfig)
    for problem in _problems(config):
        raise ConfigError(problem)
    return config


def typed_design(cfg: DictConfig) -> DesignConfig:
    """The composed config as frozen dataclasses, checked. Raises ConfigError."""
    config = to_dataclass(cfg, DesignConfig)
    for problem in (*config.problems(), *_design_problems(config)):
        raise ConfigError(problem)
    return config


def _design_problems(c: DesignConfig) -> Iterator[str]:
    if not c.name.replace("-", "_").isidentifier():
        yield f"name={c.name}: must be a plain name of letters, digits, _ and -"
    if set(c.prior) != {"E", "A", "B", "alpha", "beta"} or not all(v > 0 for v in c.prior.values()):
        yield f"prior={dict(c.prior)}: must be E, A, B, alpha and beta, each above 0"
    if c.noise is not None and not 0 < c.noise < 1:
        yield f"noise={c.noise}: must be between 0 and 1, the sd of log loss"
    for key in ("max_runs", "draws"):
        if getattr(c, key) < 12:
            yield f"{key}={getattr(c, key)}: must be at least 12"
    if c.study is not None and c.train:
        yield f"train={c.train!r}: a pilot brings its own settings; train= goes without study="


def _problems(c: AnalyzeConfig) -> Iterator[str]:
    yield from c.source.problems()
    yield from c.problems()
    yield from place_problems(
        "out" if c.out is not None else "output_dir", c.out if c.out is not None else c.output_dir
    )
    if c.bootstrap < 0 or c.bootstrap == 1:
        yield f"bootstrap={c.bootstrap}: must be 0 (no intervals) or at least 2"
    if c.seed < 0:
        yield f"seed={c.seed}: must be 0 or above"
    if not 0 <= c.inference_tokens < float("inf"):
        yield f"inference_tokens={c.inference_tokens}: must be 0 or above"
    if c.study is not None and (not c.study or "/" in c.study or c.study.startswith(".")):
        yield f"study={c.study!r}: must be a plain name; a directory elsewhere is source.path="
