"""Is the error bar true? Bias and coverage of the exponent a over simulated studies, as a markdown table.

    python benchmarks/coverage.py --draws 200 --jobs 2 > table.md

Five true laws, three noise levels, a 7 x 8 grid centred where both terms of the law matter (a design that identifies
the law); every draw is a fresh study, fitted by `fit_law` from scratch. Beside it, on the same draws, the regression
through the Pareto frontier (the article's) and a global parabola through isoFLOP slices (approach 2 as often done).
A second table takes designs that cannot identify a and counts how often the verdict says so.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: jobs side by side, one thread each

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from scaling.laws import LawError, fit_law, frontier, isoflop_from_grid

# E, A, B, alpha, beta; both papers' laws, Kaplan's exponent, one of tiny models, one of a low floor
TRUTHS = {
    "Epoch": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "Hoffmann": (1.69, 406.4, 410.7, 0.3392, 0.2849),
    "Kaplan's a": (1.8, 60.0, 4e5, 0.22, 0.60),
    "tiny models": (2.0, 100.0, 300.0, 0.40, 0.45),
    "low floor": (1.0, 200.0, 2000.0, 0.30, 0.35),
}
NOISES = (0.003, 0.01, 0.02)
METHODS = ("huber", "mse_log", "frontier", "parabola")
VERDICT_DRAWS = 40  # per cell: verdicts on identifying designs are near certain, a few draws tell


def law(truth: tuple[float, ...], N: np.ndarray, D: np.ndarray) -> np.ndarray:
    E, A, B, alpha, beta = truth
    return E + A / N**alpha + B / D**beta


def grid(truth: tuple[float, ...], sizes: int = 7, budgets: int = 8, decades: float = 3.0) -> list[np.ndarray]:
    """N, D of a full grid, centred where each reducible term is half a nat."""
    _, A, B, alpha, beta = truth
    half = 10 ** (decades / 2)
    middle = (2 * A) ** (1 / alpha), (2 * B) ** (1 / beta)
    axes = [np.geomspace(m / half, m * half, k) for m, k in zip(middle, (sizes, budgets), strict=True)]
    return [v.ravel() for v in np.meshgrid(*axes)]


@dataclass
class Tally:
    """Estimates of a, whether each interval held the truth, and verdicts."""

    a: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    identified: list[bool] = field(default_factory=list)

    def add(self, a: float, interval: tuple[float, float], truth: float) -> None:
        self.a.append(a)
        self.inside.append(interval[0] <= truth <= interval[1])
        self.width.append(interval[1] - interval[0])


def study(job: tuple[str, float, tuple[int, int], int, int, int]) -> dict[str, Tally]:
    """Some draws of one cell: (truth, noise, (sizes, budgets), draws, bootstrap, seed)."""
    name, noise, shape, draws, bootstrap, seed = job
    truth = TRUTHS[name]
    a = truth[4] / (truth[3] + truth[4])
    N, D = grid(truth, *shape)
    rng = np.random.default_rng(seed)
    out = {m: Tally() for m in METHODS}
    for draw in range(draws):
        loss = law(truth, N, D) * np.exp(noise * rng.standard_normal(len(N)))
        for objective in ("huber", "mse_log"):
            fit = fit_law(N, D, loss, objective=objective, bootstrap=bootstrap, seed=draw)
            out[objective].add(fit.exponents()[0], fit.ci()["a"], a)
            if draw < VERDICT_DRAWS * draws // 100 + 1:
                out[objective].identified.append(fit.identified["a"])
        line = frontier(N, D, 6 * N * D, loss).regress().all.N
        out["frontier"].add(line.slope, line.ci(), a)
        try:
            line = isoflop_from_grid(N, D, 6 * N * D, loss, method="parabola").regress(weighted=False).N
            out["parabola"].add(line.slope, line.ci(), a)
        except LawError:  # no three budgets with a minimum: no answer, which counts for neither side
            continue
    return out


def blind(job: tuple[str, float, int, int]) -> tuple[str, float, list[bool]]:
    """Verdicts on a design that cannot identify a: (design, noise, draws, seed)."""
    name, noise, draws, seed = job
    rng = np.random.default_rng(seed)
    truth = TRUTHS["Epoch"]
    verdicts = []
    for _ in range(draws):
        N, D = grid(truth)
        if name == "two sizes, 4 seeds each":
            keep = np.isin(N, np.unique(N)[[2, 5]])
            N, D = np.repeat(N[keep], 4), np.repeat(D[keep], 4)
        elif name == "two token counts, 4 seeds each":
            keep = np.isin(D, np.unique(D)[[2, 6]])
            N, D = np.repeat(N[keep], 4), np.repeat(D[keep], 4)
        elif name == "20 tokens per parameter only":
            N = np.geomspace(1e7, 1e10, 40)
            D = 20 * N
        else:
            N, D = grid(truth, decades={"a third of a decade of both": 1 / 3, "half a decade of both": 1 / 2}[name])
        loss = law(truth, N, D) * np.exp(noise * rng.standard_normal(len(N)))
        verdicts.append(fit_law(N, D, loss).identified["a"])
    return name, noise, verdicts


BLIND = [
    ("two sizes, 4 seeds each", 0.01),
    ("two token counts, 4 seeds each", 0.01),
    ("20 tokens per parameter only", 0.01),
    ("a third of a decade of both", 0.01),
    ("half a decade of both", 0.02),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200, help="studies per cell (15 cells), in twenties above 20")
    parser.add_argument("--bootstrap", type=int, default=200, help="refits per study")
    parser.add_argument("--grid", type=int, nargs=2, default=(7, 8), metavar=("SIZES", "BUDGETS"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other studies")
    options = parser.parse_args()
    block = min(options.draws, 20)
    jobs = [
        (
            name,
            noise,
            tuple(options.grid),
            block,
            options.bootstrap,
            10_000_000 * options.seed + 1000 * i + 100_000 * j + k,
        )
        for i, name in enumerate(TRUTHS)
        for j, noise in enumerate(NOISES)
        for k in range(0, options.draws, block)
    ]
    blind_draws = range(0, max(options.draws // 2, block), block)
    blind_jobs = [(n, s, block, 10_000_000 * options.seed + 7 + k) for n, s in BLIND for k in blind_draws]
    cells: dict[tuple[str, float, str], Tally] = {}
    verdicts: dict[tuple[str, float], list[bool]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for job, part in zip(jobs, pool.map(study, jobs), strict=True):
            for method, tally in part.items():
                whole = cells.setdefault((job[0], job[1], method), Tally())
                for name in Tally.__annotations__:
                    getattr(whole, name).extend(getattr(tally, name))
        for name, noise, said in pool.map(blind, blind_jobs):
            verdicts.setdefault((name, noise), []).extend(said)
    report(cells, verdicts, options)


def report(cells: dict, verdicts: dict, options: argparse.Namespace) -> None:
    sizes, budgets = options.grid
    studies = len(next(iter(cells.values())).a)
    print(
        f"{studies} studies of {sizes} x {budgets} runs per row, {options.bootstrap} bootstrap refits each. "
        "Bias of a in percent of the truth;"
    )
    print("cover: share of 95 % intervals that hold it, in percent.\n")
    print("| true law | a | noise | " + " | ".join(f"{m} bias | cover" for m in METHODS) + " |")
    print("|---|---|---|" + "---|---|" * len(METHODS))
    for name, truth in TRUTHS.items():
        a = truth[4] / (truth[3] + truth[4])
        for noise in NOISES:
            row = []
            for m in METHODS:
                t = cells[name, noise, m]
                row.append(f"{100 * (np.mean(t.a) / a - 1):+.2f} | {100 * np.mean(t.inside):.1f}" if t.a else "- | -")
            print(f"| {name} | {a:.3f} | {100 * noise:.1f} % | " + " | ".join(row) + " |")
    pooled = []
    for m in METHODS:
        inside = np.concatenate([cells[n, s, m].inside for n in TRUTHS for s in NOISES])
        bias = [np.mean(cells[n, s, m].a) * (v[3] + v[4]) / v[4] - 1 for n, v in TRUTHS.items() for s in NOISES]
        pooled.append(f"max {100 * np.max(np.abs(bias)):.2f} | {100 * inside.mean():.1f}")
    print("| **pooled** | | | " + " | ".join(pooled) + " |\n")
    for m in ("huber", "mse_log"):
        said = np.concatenate([cells[n, s, m].identified for n in TRUTHS for s in NOISES])
        print(f"{m}: called identified in {100 * said.mean():.0f} % of {len(said)} of these studies.")
    print("\n| design that cannot tell | noise | called not identified |\n|---|---|---|")
    for (name, noise), said in verdicts.items():
        print(f"| {name} | {100 * noise:.1f} % | {100 * (1 - np.mean(said)):.0f} % of {len(said)} |")


if __name__ == "__main__":
    main()
