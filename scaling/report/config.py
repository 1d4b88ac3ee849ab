"""Typed settings of `analyze.py`: every key of `conf/analyze.yaml` and `conf/status.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from scaling.config import ConfigError, register, to_dataclass
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
    output_dir: str = "outputs"


def register_schemas() -> None:
    register("compare_schema", CompareConfig)
    register("analyze_schema", AnalyzeConfig)
    register("status_schema", StatusConfig)


def typed_analyze(cfg: DictConfig) -> AnalyzeConfig:
    """The composed config as frozen dataclasses, checked. Raises ConfigError."""
    config = to_dataclass(cfg, AnalyzeConfig)
    for problem in _problems(config):
        raise ConfigError(problem)
    return config


def _problems(c: AnalyzeConfig) -> Iterator[str]:
    yield from c.source.problems()
    yield from c.problems()
    if c.bootstrap < 0 or c.bootstrap == 1:
        yield f"bootstrap={c.bootstrap}: must be 0 (no intervals) or at least 2"
    if c.seed < 0:
        yield f"seed={c.seed}: must be 0 or above"
    if not 0 <= c.inference_tokens < float("inf"):
        yield f"inference_tokens={c.inference_tokens}: must be 0 or above"
    if c.study is not None and (not c.study or "/" in c.study or c.study.startswith(".")):
        yield f"study={c.study!r}: must be a plain name; a directory elsewhere is source.path="
