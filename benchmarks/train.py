"""Training throughput: a plain script, a bare loop over our own model, our trainer, and the whole sweep, in one run.

    python benchmarks/train.py [--data DIR] [--rounds N] [--seconds S] [--sizes d16_l1,…] [--no-sweep | --keep DIR]
                               [--write FILE]

The plain script (benchmarks/plain.py) has all cores to itself. Our own is measured the way a sweep runs: one job of
one thread on every core at the same time, so a step of ours counts as step time / cores. Rounds are interleaved,
half of them before the sweep and half after, and medians are taken. Matrix-product peaks come from the same
minutes. The sweep is run for real, through train.py -m; the plain script's is its step and evaluation times
multiplied out, its start-up added once.
"""

import argparse
import contextlib
import gc
import io
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
WARM_UP_STEPS = 3
AGREE = [("d16_l1", "100k"), ("d48_l2", "100k"), ("d128_l4", "30k")]  # final losses are compared on these
median = statistics.median


# In workers ---------------------------------------------------------------------------------------------------


def start_worker(threads: int) -> None:
    import torch

    from scaling.training import session  # noqa: F401  imported once, as a sweep's worker does

    torch.set_num_threads(threads)
    gc.collect()
    gc.freeze()


def peak(precision: str) -> float:
    """FLOP/s of a square matrix product on this process's threads."""
    import torch

    n = 1024 if precision == "float32" else 256  # bf16 without hardware support is hundreds of times slower
    a, b = (torch.randn(n, n, dtype=getattr(torch, precision)) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + 1.0
    while time.perf_counter() < until:
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def plain(config: Any, steps: int, evaluate_tokens: int) -> tuple[float, float, float]:
    """Seconds a step, seconds of the evaluation, its loss, of the plain script."""
    import plain as script
    import torch

    from scaling.data.datamodule import Chunks
    from scaling.data.packing import load_tokens
    from scaling.models.base import Shape, build
    from scaling.training import schedule

    store = load_tokens(config.data, config.tokenizer, config.cache_dir)
    m = config.model
    torch.manual_seed(config.seed)
    model = script.PlainTransformer(store.vocab_size, config.seq_len, m.d_model, m.d_mlp, m.n_layers, m.n_heads)
    torch.manual_seed(config.seed)
    model.start_from(build(config.family, Shape.of(config, store.vocab_size)))
    chunks = Chunks(store.train, [steps], config.batch_size, config.seq_len, config.seed)
    order = [chunks._sequence(n) for n in range(steps * config.batch_size)]

    def lr_at(step: int) -> float:
        return float(config.lr * schedule.factor(step, steps, config.schedule))

    arguments = (lr_at, config.seq_len, (config.optim.beta1, config.optim.beta2), config.optim.grad_clip)
    began = time.perf_counter()
    script.train(model, store.train, order, config.batch_size, *arguments)
    trained = time.perf_counter()
    loss = script.evaluate(model, store.valid, config.seq_len, evaluate_tokens)
    return (trained - began) / steps, time.perf_counter() - trained, loss


def bare(config: Any, steps: int) -> float:
    """Seconds a step of the loop that one would write by hand over our model, loss and optimizer."""
    import torch

    from scaling.data.datamodule import Chunks
    from scaling.data.packing import load_tokens
    from scaling.models.base import Shape, build
    from scaling.training import schedule
    from scaling.training.loss import lm_loss
    from scaling.training.optim import build_optimizer

    store = load_tokens(config.data, config.tokenizer, config.cache_dir)
    torch.manual_seed(config.seed)
    model = build(config.family, Shape.of(config, store.vocab_size))
    optimizer = build_optimizer(model, config.optim, config.lr)
    parameters = list(model.parameters())
    batches = Chunks(store.train, [steps], config.batch_size, config.seq_len, config.seed).steps(0, steps)
    began = time.perf_counter()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule.factor(step, steps, config.schedule)
        loss = lm_loss(model(batch[:, :-1]), model.head.weight, batch[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - began) / steps


def ours(config: Any) -> tuple[float, float, float]:
    """Seconds of a whole run of our trainer, seconds of its evaluation alone, its final loss."""
    import torch

    from scaling.data.packing import load_tokens
    from scaling.models.base import Shape, build
    from scaling.training import session
    from scaling.training.evaluate import Stretch, evaluate

    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        outcome = session.run(replace(config, output_dir=out))
        run_s = time.perf_counter() - began
    assert outcome.status == "finished" and outcome.loss_val is not None, outcome
    store = load_tokens(config.data, config.tokenizer, config.cache_dir)
    stretch = Stretch.of(store.valid, config.seq_len, config.eval_tokens, None)
    began = time.perf_counter()
    evaluate(build(config.family, Shape.of(config, store.vocab_size)), stretch, torch.device("cpu"))
    return run_s, time.perf_counter() - began, outcome.loss_val


# In the parent ------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """Seconds, one entry a round, of one size."""

    flops: float  # of one step
    plain_step: list[float]
    plain_eval: list[float]
    bare_step: list[float]
    ours_step: list[float]
    ours_fixed: list[float]


class Bench:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        context = multiprocessing.get_context("spawn")
        self.script: Pool = context.Pool(1, start_worker, (self.cores,))
        self.workers: list[Pool] = [context.Pool(1, start_worker, (1,)) for _ in range(self.cores)]
        self.sizes: dict[str, Measured] = {}
        self.peaks: dict[str, list[float]] = {}
        self.memory_mb = 0.0

    def config(self, *overrides: str) -> Any:
        from hydra import compose, initialize_config_dir

        from scaling.config import typed

        paths = (f"data.path={self.args.data}", f"cache_dir={self.args.cache}", "logger.mode=offline")
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return typed(compose("train", overrides=[*paths, "trainer.threads=1", *overrides]))

    def alone(self, task: Callable[..., Any], *args: Any) -> Any:
        return self.script.apply(task, args)

    def on_all_cores(self, task: Callable[..., Any], *args: Any) -> list[Any]:
        return [pending.get() for pending in [pool.apply_async(task, args) for pool in self.workers]]

    def measure_peaks(self) -> None:
        for precision in ("float32", "bfloat16"):
            self.peaks.setdefault(f"{precision} script", []).append(self.alone(peak, precision))
            self.peaks.setdefault(f"{precision} sweep", []).append(sum(self.on_all_cores(peak, precision)))

    def measure(self, size: str) -> None:
        """One round of one size; the first one warms up and finds how many steps fill the time."""
        known = self.sizes.get(size)
        if known is None:
            config = self.config(f"model={size}", "tokens=5k")
            self.alone(plain, config, WARM_UP_STEPS, 1024)
            step = median(self.on_all_cores(bare, config, WARM_UP_STEPS))
            self.on_all_cores(ours, config)
            known = self.sizes[size] = Measured(self.flops(config), [], [], [step], [], [])
        steps = max(12, round(self.args.seconds / known.bare_step[0]))
        eval_tokens = 64 * (3 * steps)  # so many that the run takes no other evaluation on its way
        long, short = (
            self.config(f"model={size}", f"tokens.budget={n * 1024}", f"eval_tokens={eval_tokens}") for n in (steps, 1)
        )
        step, evaluation, _ = self.alone(plain, long, steps, 65536)
        known.plain_step.append(step)
        known.plain_eval.append(evaluation)
        known.bare_step.append(median(self.on_all_cores(bare, long, steps)))
        wholes, shorts = self.on_all_cores(ours, long), self.on_all_cores(ours, short)
        whole, one = (median(run for run, _, _ in runs) for runs in (wholes, shorts))
        known.ours_step.append((whole - one) / (steps - 1))
        known.ours_fixed.append(one - median(s for _, s, _ in shorts) - known.ours_step[-1])
        print(f"{size}: {steps} steps, plain {step * 1e3:.1f} ms, ours {known.ours_step[-1] * 1e3:.1f} ms", flush=True)

    def flops(self, config: Any) -> float:
        from scaling.models.base import Shape, build_meta

        vocab = config.tokenizer.vocab_size
        per_token = build_meta(config.family, Shape.of(config, vocab)).flops_per_token()
        return per_token * float(config.batch_size * config.seq_len)

    def sweep(self, *overrides: str, keep: Path | None = None) -> float:
        """Seconds of all 56 runs through the command line, from start to prompt."""
        with tempfile.TemporaryDirectory() as scratch:
            out = keep or scratch
            command = [
                *(sys.executable, "train.py", "-m", "experiment=frontier", f"output_dir={out}"),
                *(f"data.path={self.args.data}", f"cache_dir={self.args.cache}", "logger.mode=offline", *overrides),
            ]
            began = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True)
            elapsed = time.perf_counter() - began
            found = [json.loads(path.read_text()) for path in Path(out, "frontier").glob("*/record.json")]
            self.memory_mb = max(record["peak_memory_mb"] for record in found)
            return elapsed

    def agreement(self) -> list[str]:
        """Final losses of the plain script and of ours from the same weights, beside the noise of three seeds."""
        lines = ["| run | plain script | ours | difference | spread of three seeds |", "|---|---|---|---|---|"]
        for size, tokens in AGREE:
            configs = [self.config(f"model={size}", f"tokens={tokens}", f"seed={seed}") for seed in range(3)]
            _, _, theirs = self.alone(plain, configs[0], configs[0].steps, configs[0].eval_tokens)
            losses = [self.workers[0].apply(ours, (config,))[2] for config in configs]
            spread = statistics.stdev(losses)
            lines.append(
                f"| {size}, {tokens} | {theirs:.4f} | {losses[0]:.4f} | {losses[0] - theirs:+.4f} | {spread:.4f} |"
            )
        return lines

    def table(self, swept: dict[str, float]) -> str:
        """Markdown: sizes, then the sweep."""
        fp32_script, fp32_sweep = (median(self.peaks[f"float32 {who}"]) for who in ("script", "sweep"))
        bf16_script, bf16_sweep = (median(self.peaks[f"bfloat16 {who}"]) for who in ("script", "sweep"))
        import torch

        lines = [
            f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {self.cores} cores, torch {torch.__version__}; "
            f"`{' '.join(['python', *sys.argv])}`".replace(str(self.args.data), "DIR"),
            "",
            f"Peak of matrix products, GFLOP/s: fp32 {fp32_script / 1e9:.0f} by one process of {self.cores} threads, "
            f"{fp32_sweep / 1e9:.0f} by {self.cores} of one thread; bf16 {bf16_script / 1e9:.0f} and "
            f"{bf16_sweep / 1e9:.0f}.",
            "",
            "| size | plain script, ms a step | of peak | bare loop | our trainer | of peak | trainer's tax | "
            "fixed cost of a run, s | speed-up |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        total = 0.0
        for size, m in self.sizes.items():
            theirs, loop, mine = median(m.plain_step), median(m.bare_step[1:]), median(m.ours_step)
            tax = median(o / b - 1 for o, b in zip(m.ours_step, m.bare_step[1:], strict=True))
            budgets = [self.config(f"tokens={n}") for n in tokens_options()]
            total += sum(theirs * config.steps + median(m.plain_eval) for config in budgets)
            lines.append(
                f"| {size} | {theirs * 1e3:.1f} | {m.flops / theirs / fp32_script:.0%} | "
                f"{loop / self.cores * 1e3:.1f} | {mine / self.cores * 1e3:.1f} | "
                f"{m.flops / mine * self.cores / fp32_sweep:.0%} | {tax:+.1%} | {median(m.ours_fixed):.2f} | "
                f"{theirs / mine * self.cores:.2f} x |"
            )
        lines += ["", f"Times of ours are divided by the {self.cores} jobs that run side by side."]
        if swept:
            total += start_up()
            lines += ["", "| the 56 runs | wall time, s | speed-up |", "|---|---|---|"]
            lines.append(f"| plain script (multiplied out) | {total:.0f} | 1 |")
            lines += [
                f"| `train.py -m`, {name} (measured) | {s:.0f} | {total / s:.2f} x |" for name, s in swept.items()
            ]
        return "\n".join(lines)


def start_up() -> float:
    """Seconds until a plain script has its imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, torch.utils.data"], check=True)
    return time.perf_counter() - began


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def tokens_options() -> list[str]:
    return [path.stem for path in (ROOT / "conf" / "tokens").glob("*.yaml")]


def by_width(sizes: list[str]) -> list[str]:
    return sorted(sizes, key=lambda name: int(name[1:].split("_")[0]))


def arguments() -> argparse.Namespace:
    here = os.environ.get("SCALING_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(here, "wikitext-2") if here else None)
    parser.add_argument("--cache", default=os.environ.get("SCALING_CACHE", "~/.cache/scaling"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each measurement of our own")
    parser.add_argument("--sizes", default=",".join(by_width([p.stem for p in (ROOT / "conf/model").glob("*.yaml")])))
    parser.add_argument("--no-sweep", action="store_true", help="per size only")
    parser.add_argument("--keep", type=Path, help="keep the sweep's runs in this directory, as study `frontier`")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into, between its markers")
    args = parser.parse_args()
    if args.data is None or not (args.data / "train.txt").is_file():
        sys.exit(f"error: --data={args.data}: must be a directory with WikiText-2's train.txt, valid.txt and test.txt")
    if args.keep and (args.keep / "frontier").exists():
        sys.exit(f"error: --keep={args.keep}: has a study `frontier` already; finished runs would take no time")
    return args


def main() -> None:
    args = arguments()
    sys.path.insert(0, str(ROOT))
    from scaling.cli import register_plugins
    from scaling.config import TrainConfig, register
    from scaling.training.session import multiplies_bf16

    register_plugins()
    register("train_schema", TrainConfig)
    os.environ["WANDB_SILENT"] = "true"
    bench, swept = Bench(args), {}
    for half in range(2):
        for _ in range((args.rounds + 1 - half) // 2):
            bench.measure_peaks()
            for size in args.sizes.split(","):
                bench.measure(size)
        if half == 0 and not args.no_sweep:
            swept["fp32"] = bench.sweep("trainer.precision=fp32", keep=args.keep)
            if multiplies_bf16():
                swept["bf16"] = bench.sweep("trainer.precision=bf16")
    text = bench.table(swept)
    if not args.no_sweep:
        text += "\n\n" + "\n".join(bench.agreement())
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(BEGIN)
        args.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
