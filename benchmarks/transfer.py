"""Does one learning rate do for all sizes? Losses by rate for each optimizer or family, and what a fixed rate costs.

    python train.py -m experiment=mup
    python benchmarks/transfer.py outputs/mup --by optim
    python train.py -m 'family=glob(*)' model=d32_l2 tokens=100k optim.lr=0.0057,0.0113,0.0226 study=lr
    python benchmarks/transfer.py outputs/lr --by family

Prints markdown. `rule` is the shipped rule's rate and its loss above the best of the row, `one rate` the single rate of
the sweep that costs a group least over all its sizes; losses between two rates are interpolated in log(rate).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from settings import Cell, cells, finished  # beside this file

from scaling.config import short
from scaling.records import RunRecord

CONF = Path(__file__).parents[1] / "conf"


def shipped_rate(run: RunRecord) -> float:
    """What the rule gives for the optimizer and family of a run."""
    optim, own, family = (read(part) for part in ("optim/adamw", f"optim/{run.optim}", f"family/{run.family}"))
    rule = optim["lr_rule"] | own.get("lr_rule", {})
    scale = (run.d_model / 64) ** rule.get("width", 0.0) * (run.tokens_budget / 1e5) ** rule.get("tokens", 0.0)
    return float(family.get("lr_factor", 1.0) * rule["base"] * scale)


def read(part: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONF / f"{part}.yaml").read_text()))


def one_rate(table: list[Cell]) -> float:
    """The rate, among those that every cell was trained at, of least total excess."""
    shared = sorted(set.intersection(*(set(cell.rates.tolist()) for cell in table)))
    return min(shared, key=lambda rate: sum(cell.loss_at(rate) for cell in table))


def print_group(name: str, runs: list[RunRecord]) -> None:
    table = [cell for cell in cells(runs) if len(cell.rates) >= 3]
    rates = sorted({float(rate) for cell in table for rate in cell.rates})
    fixed = one_rate(table)
    for cell in table:
        some = next(r for r in runs if (r.d_model, r.tokens_budget) == (cell.d_model, cell.budget))
        by_rate = dict(zip(cell.rates.tolist(), cell.losses, strict=True))
        losses = " | ".join(f"{by_rate[rate]:.3f}" if rate in by_rate else "" for rate in rates)
        best, ruled = cell.best_loss(), shipped_rate(some)
        print(
            f"| {name} | {cell.model} | {short(cell.budget)} | {losses} "
            f"| {cell.best_rate():.2g}{' (end)' if cell.at_end else ''} | {best:.3f} "
            f"| {ruled:.2g}: {cell.loss_at(ruled) - best:+.3f} | {fixed:g}: {cell.loss_at(fixed) - best:+.3f} |"
        )
    spread = np.ptp(np.log2([cell.best_rate() for cell in table])) if len(table) > 1 else 0.0
    cost = np.mean([cell.loss_at(fixed) - cell.best_loss() for cell in table])
    print(f"| {name} | all | | {' | ' * (len(rates) - 1)} | over {2**spread:.1f} x | | | mean {cost:+.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="directory of a study that sweeps optim.lr")
    parser.add_argument("--by", choices=("optim", "family"), default="optim")
    args = parser.parse_args()
    runs = finished(args.study)
    rates = sorted({r.lr for r in runs})
    print(
        f"| {args.by} | size | tokens | {' | '.join(f'lr {x:g}' for x in rates)} | best lr | loss | rule | one rate |"
    )
    print("|---|---|---|" + "---|" * (len(rates) + 4))
    for name in sorted({getattr(r, args.by) for r in runs}):
        print_group(name, [r for r in runs if getattr(r, args.by) == name])


if __name__ == "__main__":
    main()
