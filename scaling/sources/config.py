"""Typed settings of a source: every key of `conf/source/*.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from omegaconf import MISSING

SOURCES = ("local", "csv")
UNITS = ("nats", "bits", "perplexity")


@dataclass(frozen=True)
class ColumnsConfig:
    """Names of the columns in a file; null is the column of that very name, where there is one."""

    N: str | None = None
    D: str | None = None
    C: str | None = None
    loss: str | None = None
    U: str | None = None
    lr: str | None = None
    seed: str | None = None


@dataclass(frozen=True)
class SourceConfig:
    """`path` is a directory of runs (local) or a file (csv); `unit` and `columns` are those of a file."""

    name: str = MISSING
    path: str | None = None
    unit: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)

    def problems(self) -> Iterator[str]:
        """What cannot be, each in one line."""
        if self.name not in SOURCES:
            yield f"source.name={self.name}: must be one of {', '.join(SOURCES)}"
        if self.unit is not None and self.unit not in UNITS:
            yield f"source.unit={self.unit}: must be one of {', '.join(UNITS)}"
        if self.name == "csv":
            if not self.path:
                yield "source.path=null: source=csv needs the path of a file"
            return
        mapped = {f"columns.{f.name}": getattr(self.columns, f.name) for f in fields(ColumnsConfig)}
        for key, value in ({"unit": self.unit} | mapped).items():
            if value is not None:
                yield f"source.{key}={value}: source={self.name} knows its columns and units; source=csv is told them"
