"""A budget in FLOPs from what people have: GPU hours, money, or days until a deadline."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.config import ConfigError

DEVICES = Path(__file__).with_name("devices.csv")
WAYS = ("budget", "gpu_hours", "dollars", "deadline_days")


@dataclass(frozen=True)
class Device:
    """`tflops` is the peak in the precision that is trained in, without sparsity; `source` is who says so."""

    name: str
    tflops: float
    precision: str
    source: str


@dataclass(frozen=True)
class BudgetConfig:
    """At most one of budget (FLOPs), gpu_hours, dollars and deadline_days; `mfu` is the share of the device's peak that
    training reaches. With a device, and a price of its hour, the rest is worked out."""

    budget: float | None = None
    gpu_hours: float | None = None
    dollars: float | None = None
    deadline_days: float | None = None
    device: str | None = None
    gpus: int = 1
    mfu: float = 0.4
    price_per_hour: float | None = None

    def problems(self) -> Iterator[str]:
        """What cannot be, each in one line."""
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) > 1:
            said = ", ".join(f"{way}={getattr(self, way):g}" for way in given)
            yield f"{said}: one budget at a time: {', '.join(WAYS)}"
        for key in (*WAYS, "gpus", "mfu", "price_per_hour"):
            value = getattr(self, key)
            if value is not None and not (0 < value < math.inf):
                yield f"{key}={value}: must be above 0"
        if self.mfu > 1:
            yield f"mfu={self.mfu}: must be a share of the peak, at most 1"
        known = devices()
        if self.device is not None and self.device not in known:
            yield f"device={self.device}: must be one of {', '.join(known)}; for another, give budget= in FLOPs"
        if given and given[0] != "budget" and self.device is None:
            yield f"{given[0]}={getattr(self, given[0]):g}: needs device=, one of {', '.join(known)}"
        if self.dollars is not None and self.price_per_hour is None:
            yield f"dollars={self.dollars:g}: needs price_per_hour=, of one device"

    def flops(self) -> float | None:
        """The budget in FLOPs, or None where none is asked. Raises ConfigError."""
        for problem in self.problems():
            raise ConfigError(problem)
        if self.budget is not None:
            return self.budget
        hours = self.gpu_hours
        if self.dollars is not None and self.price_per_hour is not None:
            hours = self.dollars / self.price_per_hour
        if self.deadline_days is not None:
            hours = self.deadline_days * 24 * self.gpus
        return None if hours is None else hours * 3600 * self._speed()

    def said(self, flops: float) -> str:
        """What that many FLOPs are on the device; "" without one."""
        if self.device is None:
            return ""
        hours = flops / self._speed() / 3600
        peak = devices()[self.device]
        parts = [f"{hours:.3g} hours of {self.device} at {self.mfu:.0%} of {peak.tflops:g} TFLOP/s ({peak.precision})"]
        if self.gpus > 1 or self.deadline_days is not None:
            parts.append(f"{hours / 24 / self.gpus:.3g} days on {self.gpus}")
        if self.price_per_hour is not None:
            parts.append(f"{hours * self.price_per_hour:,.2f} dollars")
        return ", ".join(parts)

    def _speed(self) -> float:
        """FLOP/s of one device as it trains."""
        assert self.device is not None
        return devices()[self.device].tflops * 1e12 * self.mfu


def devices() -> dict[str, Device]:
    """Devices by name, from `devices.csv`."""
    with DEVICES.open(encoding="utf-8", newline="") as handle:
        rows = [Device(r["device"], float(r["tflops"]), r["precision"], r["source"]) for r in csv.DictReader(handle)]
    return {row.name: row for row in rows}
