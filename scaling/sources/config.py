"""Typed settings of a source: every key of `conf/source/*.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from omegaconf import MISSING

SOURCES = ("local", "csv", "wandb")
STATES = ("finished", "running", "failed", "crashed", "killed")
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
    """`path` is a directory of runs (local), a file (csv) or entity/project (wandb); `unit` and `columns` are for runs
    that were not made here; `tag`, `state` and `cache_dir` are those of wandb."""

    name: str = MISSING
    path: str | None = None
    unit: str | None = None
    tag: str | None = None
    state: str | None = None
    cache_dir: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)

    @property
    def maps_columns(self) -> bool:
        return any(getattr(self.columns, f.name) is not None for f in fields(ColumnsConfig))

    def problems(self) -> Iterator[str]:
        """What cannot be, each in one line."""
        if self.name not in SOURCES:
            yield f"source.name={self.name}: must be one of {', '.join(SOURCES)}"
        if self.unit is not None and self.unit not in UNITS:
            yield f"source.unit={self.unit}: must be one of {', '.join(UNITS)}"
        if self.name == "csv" and not self.path:
            yield "source.path=null: source=csv needs the path of a file"
        parts = (self.path or "").split("/")
        if self.name == "wandb" and (len(parts) != 2 or any(not part or part.startswith(".") for part in parts)):
            yield f"source.path={self.path}: source=wandb needs entity/project"
        if self.state is not None and self.state not in STATES:
            yield f"source.state={self.state}: must be one of {', '.join(STATES)}"
        for key in ("tag", "state", "cache_dir"):
            if self.name != "wandb" and getattr(self, key) is not None:
                yield f"source.{key}={getattr(self, key)}: only source=wandb has a {key}"
        if self.name in ("csv", "wandb"):
            return
        mapped = {f"columns.{f.name}": getattr(self.columns, f.name) for f in fields(ColumnsConfig)}
        for key, value in ({"unit": self.unit} | mapped).items():
            if value is not None:
                yield f"source.{key}={value}: source={self.name} knows its columns and units; source=csv is told them"
