"""On one GPU: the whole sweep, all in, and a step of a 124M-parameter model of the same code.

    python benchmarks/gpu.py [--data DIR] [--no-sweep] [--batch 16] [--steps 30] [--write FILE]

The sweep is `train.py -m` with several jobs sharing the device, as the launcher lays them out. The large model is
GPT-2 small's shape (12 layers of 768, 12 heads, 1024 positions, 50,304 symbols, tied head) on random ids: tokens/s
and MFU say what the step costs, not what it learns. MFU counts the FLOPs of `accounting` against the bf16 peak
measured in the same minute.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from scaling.config import OptimConfig
from scaling.models.base import Shape
from scaling.models.tiny import Tiny
from scaling.training.loss import lm_loss
from scaling.training.optim import build_optimizer

ROOT = Path(__file__).parents[1]
GPT2_SMALL = Shape(d_model=768, d_mlp=3072, n_layers=12, n_heads=12, vocab_size=50304, seq_len=1024)
BEGIN, END = "<!-- make bench-gpu: begin -->", "<!-- make bench-gpu: end -->"


def peak(device: torch.device, n: int = 8192, repeats: int = 20) -> float:
    """bf16 FLOP/s of a square matrix product."""
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    a @ b
    synchronize(device)
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(device)
    return 2 * n**3 * repeats / (time.perf_counter() - began)


def train_step_rate(shape: Shape, batch: int, steps: int, device: torch.device, compiled: bool) -> tuple[float, float]:
    """Tokens per second and FLOP/s of training steps in bf16 autocast, after three to warm up."""
    torch.manual_seed(0)
    with device:
        model = Tiny(shape, tied=True)
    flops = model.flops_per_token()
    if compiled:
        model.compile(dynamic=False)
    optimizer = build_optimizer(model, OptimConfig(name="adamw", weight_decay=0.1), lr=3e-4)
    parameters = list(model.parameters())
    ids = torch.randint(shape.vocab_size, (batch, shape.seq_len + 1), device=device)
    began = 0.0
    for step in range(3 + steps):
        if step == 3:
            synchronize(device)
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            loss = lm_loss(model(ids[:, :-1]), model.head.weight, ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    synchronize(device)
    rate = steps * batch * shape.seq_len / (time.perf_counter() - began)
    return rate, rate * flops


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def sweep(data: Path, cache: str) -> float:
    """Seconds of all 56 runs through the command line, from start to prompt."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(sys.executable, "train.py", "-m", "model=glob(*)", "tokens=glob(*)", "trainer.device=cuda"),
            *(f"output_dir={out}", f"data.path={data}", f"cache_dir={cache}", "logger.mode=offline"),
        ]
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        return time.perf_counter() - began


def main() -> None:
    here = os.environ.get("SCALING_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(here, "wikitext-2") if here else None)
    parser.add_argument("--cache", default=os.environ.get("SCALING_CACHE", "~/.cache/scaling"))
    parser.add_argument("--batch", type=int, default=16, help="sequences of 1024 tokens of the large model")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--no-sweep", action="store_true")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table into, between its markers")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device is available here")
    if not args.no_sweep and (args.data is None or not (args.data / "train.txt").is_file()):
        sys.exit(f"error: --data={args.data}: must be a directory with WikiText-2's train.txt, valid.txt and test.txt")
    device = torch.device("cuda")
    top = peak(device)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {torch.cuda.get_device_name()}, torch {torch.__version__}; "
        f"bf16 peak measured {top / 1e12:.0f} TFLOP/s",
        "",
        "| what | figure |",
        "|---|---|",
    ]
    for name, compiled in (("eager", False), ("compiled", True)):
        rate, flops = train_step_rate(GPT2_SMALL, args.batch, args.steps, device, compiled)
        lines.append(f"| 124M parameters, {name} | {rate:,.0f} tokens/s, {flops / top:.0%} of the measured peak |")
    if not args.no_sweep:
        lines.append(f"| the 56 runs, all in | {sweep(args.data, args.cache):.0f} s |")
    text = "\n".join(lines)
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(BEGIN)
        args.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
