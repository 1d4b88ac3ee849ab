"""Tables behind the defaults: best learning rate by size and budget, the rule, and what the rule costs.

    python train.py -m experiment=lr_sweep
    python train.py -m experiment=schedules
    python train.py -m experiment=frontier seed=0,1,2 model=d16_l1,d48_l2,d128_l4 tokens=100k
    python benchmarks/settings.py outputs/lr_sweep outputs/schedules outputs/frontier

Prints markdown. The best rate of a cell is the vertex of a parabola through the lowest loss and its neighbours in
log(rate), which a seed's noise may put below every run; a cell whose lowest loss is at the end of the sweep is
marked, not extrapolated.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from scaling import records
from scaling.config import short
from scaling.records import RunRecord


@dataclass(frozen=True)
class Cell:
    """One size and budget over several rates: losses in nats per token, ascending in rate."""

    model: str
    d_model: int
    budget: int
    rates: np.ndarray
    losses: np.ndarray

    @property
    def at_end(self) -> bool:
        return int(np.argmin(self.losses)) in (0, len(self.rates) - 1)

    def parabola(self) -> np.ndarray:
        """Coefficients in log(rate) through the lowest loss and its neighbours."""
        i = int(np.clip(np.argmin(self.losses), 1, len(self.rates) - 2))
        near = slice(i - 1, i + 2)
        return np.polyfit(np.log(self.rates[near]), self.losses[near], 2)

    def best_rate(self) -> float:
        if self.at_end:
            return float(self.rates[np.argmin(self.losses)])
        a, b, _ = self.parabola()
        return float(np.exp(-b / (2 * a)))

    def best_loss(self) -> float:
        return float(min(self.losses.min(), np.polyval(self.parabola(), np.log(self.best_rate()))))

    def loss_at(self, rate: float) -> float:
        """Interpolated in log(rate); a rate beyond the sweep gets the loss of its nearest end."""
        return float(np.interp(np.log(rate), np.log(self.rates), self.losses))


def finished(study: Path) -> list[RunRecord]:
    return [r for r in map(records.read, records.run_dirs(study)) if r.status == "finished"]


def cells(runs: Iterable[RunRecord]) -> list[Cell]:
    by_cell: dict[tuple[int, int, str], dict[float, float]] = defaultdict(dict)
    for r in runs:
        assert r.loss_val is not None
        by_cell[r.d_model, r.tokens_budget, r.model][r.lr] = r.loss_val
    found = []
    for (d_model, budget, model), losses in sorted(by_cell.items()):
        rates = sorted(losses)
        found.append(Cell(model, d_model, budget, np.array(rates), np.array([losses[rate] for rate in rates])))
    return found


def fit_rule(table: list[Cell]) -> tuple[float, float, float]:
    """base, width, tokens of rate = base (d_model / 64)^width (budget / 1e5)^tokens, by the least total penalty.

    Minimises the summed excess loss over each cell's best, not the distance between rates: a flat cell should not
    pull the rule.
    """
    from scipy.optimize import minimize

    def excess(theta: np.ndarray) -> float:
        return sum(c.loss_at(rule(tuple(theta), c)) - c.best_loss() for c in table)

    starts = [(np.log(b), w, t) for b in (0.003, 0.01, 0.02) for w in (-1.0, -0.5, 0.0) for t in (-0.3, 0.0)]
    best = min((minimize(excess, start, method="Nelder-Mead") for start in starts), key=lambda found: found.fun)
    return float(np.exp(best.x[0])), float(best.x[1]), float(best.x[2])


def rule(theta: tuple[float, ...], cell: Cell) -> float:
    log_base, width, tokens = theta
    return float(np.exp(log_base) * (cell.d_model / 64) ** width * (cell.budget / 1e5) ** tokens)


def print_rates(runs: list[RunRecord], own: list[RunRecord]) -> None:
    """`own` are runs at the rule's own rate: their loss stands where there is one, the first seed's."""
    at_rule = {(r.d_model, r.tokens_budget): r.loss_val for r in sorted(own, key=lambda r: -r.seed)}
    table = [cell for cell in cells(runs) if len(cell.rates) >= 3]
    rates = sorted({float(rate) for cell in table for rate in cell.rates})
    base, width, tokens = fit_rule(table)
    default = OmegaConf.load(Path(__file__).parents[1] / "conf" / "optim" / "adamw.yaml").lr_rule
    theta = (float(np.log(default.base)), default.width, default.tokens)
    print(
        f"Least total excess: base {base:.4g} (d_model/64)^{width:.2f} (tokens/1e5)^{tokens:.2f}; shipped: {default}\n"
    )
    head = [*(f"lr {rate:g}" for rate in rates), "best lr", "rule's lr", "loss at it", "excess"]
    print("| size | tokens | " + " | ".join(head) + " |")
    print("|---|---|" + "---|" * (len(rates) + 4))
    for cell in table:
        by_rate = dict(zip(cell.rates.tolist(), cell.losses, strict=True))
        losses = " | ".join(f"{by_rate[rate]:.3f}" if rate in by_rate else "" for rate in rates)
        ruled = rule(theta, cell)
        best = f"{cell.best_rate():.2g}" + (" (end)" if cell.at_end else "")
        measured = at_rule.get((cell.d_model, cell.budget))
        loss = cell.loss_at(ruled) if measured is None else measured
        print(
            f"| {cell.model} | {short(cell.budget)} | {losses} | {best} | {ruled:.2g} "
            f"| {loss:.3f}{'' if measured else ' (interpolated)'} | {loss - cell.best_loss():+.3f} |"
        )
    print()


def print_schedules(runs: list[RunRecord]) -> None:
    kinds = sorted({r.schedule for r in runs})
    losses = {(r.d_model, r.tokens_budget, r.schedule): r.loss_val for r in runs}
    print("| size | tokens | " + " | ".join(kinds) + " |\n|---|---|" + "---|" * len(kinds))
    for d_model, budget, model in sorted({(r.d_model, r.tokens_budget, r.model) for r in runs}):
        row = [losses.get((d_model, budget, kind)) for kind in kinds]
        print(f"| {model} | {short(budget)} | " + " | ".join("" if x is None else f"{x:.3f}" for x in row) + " |")
    print()


def print_seeds(runs: list[RunRecord]) -> None:
    by_cell: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for r in runs:
        assert r.loss_val is not None
        by_cell[r.d_model, r.tokens_budget, r.model].append(r.loss_val)
    print("| size | tokens | seeds | mean loss | standard deviation | as sd of log loss |\n|---|---|---|---|---|---|")
    pooled, freedom = 0.0, 0
    for (_, budget, model), losses in sorted(by_cell.items()):
        if len(losses) < 2:
            continue
        sd, log_sd = float(np.std(losses, ddof=1)), float(np.std(np.log(losses), ddof=1))
        pooled, freedom = pooled + (len(losses) - 1) * log_sd**2, freedom + len(losses) - 1
        print(f"| {model} | {short(budget)} | {len(losses)} | {np.mean(losses):.4f} | {sd:.4f} | {log_sd:.3%} |")
    if freedom:
        print(f"\nPooled over {freedom} degrees of freedom: {np.sqrt(pooled / freedom):.3%} of the loss.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("lr_sweep", type=Path, help="directory of the study of experiment=lr_sweep")
    parser.add_argument("schedules", type=Path, nargs="?", help="directory of the study of experiment=schedules")
    parser.add_argument("seeds", type=Path, nargs="?", help="directory of a study with several seeds of a cell")
    args = parser.parse_args()
    print_rates(finished(args.lr_sweep), finished(args.seeds) if args.seeds else [])
    if args.schedules:
        print_schedules(finished(args.schedules))
    if args.seeds:
        print_seeds(finished(args.seeds))


if __name__ == "__main__":
    main()
