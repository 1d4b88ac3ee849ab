"""What the C++ kernels save: one training step of each size, with them and with torch's own, turn by turn.

    python benchmarks/kernels.py [--steps N] [SIZE …]

Milliseconds of one process of one thread, the lower third of its steps: forward, loss over the vocabulary with its
gradients, backward, clipping and optimizer.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scaling.cli import register_plugins  # noqa: E402
from scaling.config import TrainConfig, register, typed  # noqa: E402
from scaling.kernels import build, ops  # noqa: E402
from scaling.models.base import Shape  # noqa: E402
from scaling.models.base import build as build_model  # noqa: E402
from scaling.training.loss import lm_loss  # noqa: E402
from scaling.training.optim import build_optimizer  # noqa: E402

VOCAB = 4096
TURN = 4  # steps before the other has its turn
PARTS = ("forward", "loss", "backward", "clip, optimizer", "step")


def measure(size: str, steps: int) -> dict[bool, list[float]]:
    """Lower third of the milliseconds of each part, without kernels and with them."""
    config = typed(compose("train", overrides=[f"model={size}"]))
    torch.manual_seed(0)
    model = build_model(config.family, Shape.of(config, VOCAB))
    optimizer, parameters = build_optimizer(model, config.optim, config.lr), list(model.parameters())
    taken: dict[bool, list[list[float]]] = {False: [], True: []}
    lib = build.library()
    for step in range(2 * steps):
        with_kernels = step // TURN % 2 == 1
        ops.library = (lambda: lib) if with_kernels else (lambda: None)  # type: ignore[assignment]
        ids = torch.randint(VOCAB, (config.batch_size, config.seq_len + 1))
        at = [time.perf_counter()]
        hidden = model(ids[:, :-1])
        at.append(time.perf_counter())
        loss = lm_loss(hidden, model.head.weight, ids[:, 1:])
        at.append(time.perf_counter())
        loss.backward()
        at.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        at.append(time.perf_counter())
        parts = [b - a for a, b in itertools.pairwise(at)]
        taken[with_kernels].append([*parts, sum(parts)])
    return {
        which: [1e3 * sorted(part)[len(part) // 3] for part in zip(*rows, strict=True)] for which, rows in taken.items()
    }


def main() -> None:
    sizes = sorted((p.stem for p in (ROOT / "conf/model").glob("*.yaml")), key=lambda s: int(s[1:].split("_")[0]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=sizes)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    if build.why_not():
        sys.exit(f"error: {build.why_not()}")
    torch.set_num_threads(1)
    register_plugins()
    register("train_schema", TrainConfig)
    print(f"| size | {' | '.join(PARTS)} | saved |\n|{'---|' * (len(PARTS) + 2)}")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for size in args.sizes:
            found = measure(size, args.steps)
            cells = [f"{a:.1f} -> {b:.1f}" for a, b in zip(found[False], found[True], strict=True)]
            print(f"| {size} | {' | '.join(cells)} | {1 - found[True][-1] / found[False][-1]:.0%} |", flush=True)


if __name__ == "__main__":
    main()
