"""How fast and how well `fit_law` fits, beside the usual loop of L-BFGS-B over a grid of starts, in one run.

    SCALING_DATA=… python benchmarks/laws.py [--full]

The loop is Epoch's (arXiv 2404.10102): 5 x 5 x 5 x 6 x 6 = 4,500 starts of scipy's L-BFGS-B with numerical
gradients on the summed Huber loss. A random subset is timed and scaled up unless --full is given. Without
SCALING_DATA, 240 points of a known law stand in for the digitised ones.
"""

import argparse
import csv
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from scaling.laws import fit_law

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def surface(n: int, noise: float, seed: int = 0) -> Points:
    """n runs of Epoch's law over four decades of N and of D."""
    rng = np.random.default_rng(seed)
    N, D = 10 ** rng.uniform(7, 11, n), 10 ** rng.uniform(8.5, 12.5, n)
    loss = 1.8172 + 482.01 / N**0.3478 + 2085.43 / D**0.3658
    return N, D, loss * np.exp(noise * rng.standard_normal(n))


def points() -> tuple[str, Points]:
    root = os.environ.get("SCALING_DATA")
    file = Path(root, "published/epoch/svg_extracted_data.csv") if root else None
    if file is None or not file.is_file():
        return "240 synthetic points", surface(240, 0.005)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    N, C, loss = (np.array([float(r[k]) for r in rows]) for k in ("Model Size", "Training FLOP", "loss"))
    keep = loss < np.sort(loss)[-5]
    return "Epoch's 240 points", (N[keep], (C / (6 * N))[keep], loss[keep])


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall-clock seconds and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def loop(data: Points, starts: np.ndarray) -> np.ndarray:
    """Final summed Huber objective of each start."""
    x, y, log_loss = (np.log(v) for v in data)

    def objective(t: np.ndarray) -> float:
        terms = np.stack([t[0] - t[3] * x, t[1] - t[4] * y, np.full_like(x, t[2])])
        top = terms.max(axis=0)  # written out: scipy's logsumexp would double the loop's time
        r = np.abs(top + np.log(np.exp(terms - top).sum(axis=0)) - log_loss)
        return float(np.sum(np.where(r < 1e-3, r * r / 2, 1e-3 * (r - 5e-4))))

    return np.array([minimize(objective, start, method="L-BFGS-B").fun for start in starts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="time all 4,500 starts of the loop, not a subset")
    parser.add_argument("--subset", type=int, default=90, help="starts of the loop to time (default 90)")
    options = parser.parse_args()
    name, data = points()

    axes = [np.arange(0, 30, 5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5)]
    grid = np.array(list(itertools.product(*axes, np.arange(0, 2.5, 0.5))))
    assert len(grid) == 4500
    chosen = grid if options.full else np.random.default_rng(0).permutation(grid)[: options.subset]

    fit_law(*surface(20, 0.01))  # what is imported late is imported here
    fit, wall, cpu = timed(lambda: fit_law(*data))
    print(f"certified Huber fit of {name}: {wall:.2f} s ({cpu:.2f} s of processor), objective {fit.objective:.12g}")
    print(f"  {fit.certificate}")
    values, loop_wall, loop_cpu = timed(lambda: loop(data, chosen))
    scale = len(grid) / len(chosen)
    how = "all 4,500 starts" if options.full else f"{len(chosen)} random starts of 4,500, scaled up"
    print(f"L-BFGS-B loop ({how}): {loop_wall * scale:.0f} s ({loop_cpu * scale:.0f} s of processor)")
    reached = np.mean(values <= fit.objective * (1 + 1e-6))
    print(f"  its best objective {values.min():.12g}; {reached:.0%} of its starts reach the optimum to 1e-6")
    print(f"  ratio: {loop_wall * scale / wall:.0f} x (processor time {loop_cpu * scale / cpu:.0f} x)")
    boot, wall, cpu = timed(lambda: fit_law(*data, bootstrap=4000))
    print(f"with 4,000 bootstrap refits: {wall:.2f} s ({cpu:.2f} s of processor), SE(a) {boot.se['a']:.4f}")
    _, wall, cpu = timed(lambda: boot.identified)
    print(f"profile intervals and verdicts: {wall:.2f} s ({cpu:.2f} s of processor)")
    many, wall, cpu = timed(lambda: fit_law(*surface(10_000, 0.01)))
    print(f"certified Huber fit of 10,000 runs: {wall:.2f} s ({cpu:.2f} s of processor), {many.certificate.certified=}")


if __name__ == "__main__":
    main()
