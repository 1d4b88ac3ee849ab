"""How long `analyze.py` takes over ten thousand records, to its answer and to its last file.

    python benchmarks/report.py

Records of a known law (a = 0.4) with 1 % noise, of 100 sizes on 100 budgets, and of 10 x 10 with 100 seeds each.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from scaling.records import RunRecord

ROOT = Path(__file__).parents[1]
STUDIES = {"100 sizes x 100 budgets": (100, 1), "10 sizes x 10 budgets, 100 seeds": (10, 100)}
TRIES = 3


def write(study: Path, side: int, seeds: int) -> None:
    rng = np.random.default_rng(0)
    for n in np.geomspace(1e5, 1e7, side).round().astype(int).tolist():
        for d in np.geomspace(1e6, 1e9, side).round().astype(int).tolist():
            for seed in range(seeds):
                loss = (1.7 + 400 / n**0.36 + 150 / d**0.24) * np.exp(0.01 * rng.standard_normal())
                name = f"n{n}-{d}-s{seed}"
                fields: dict[str, Any] = {
                    **{"run_id": name, "study": study.name, "family": "tiny", "model": f"n{n}", "status": "finished"},
                    **{"n_total": n, "n_embedding": n // 4, "n_head": n // 8, "n_non_embedding": n - n // 4 - n // 8},
                    **{
                        "seed": seed,
                        "tokens": d,
                        "tokens_done": d,
                        "tokens_unique": d,
                        "seq_len": 64,
                        "batch_size": 16,
                    },
                    **{"flops_per_token": 6.0 * n, "flops": 6.0 * n * d, "loss_val": float(loss), "lr": 1e-3},
                    **{"schedule": "wsd", "eval": "slice", "eval_tokens": 65536, "precision": "fp32"},
                    **{"data": "text", "data_id": "d1", "tokenizer_id": "t1"},
                }
                (study / name).mkdir(parents=True)
                RunRecord(**fields).write(study / name)


def timed(study: Path) -> tuple[float, float, str]:
    """Seconds to the line that answers and to the end, and that line."""
    command = [sys.executable, "analyze.py", f"study={study.name}", f"output_dir={study.parent}", "log=false"]
    began, answered, answer = time.perf_counter(), float("nan"), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("answer:"):
                answered, answer = time.perf_counter() - began, line.strip()
    if process.returncode:
        raise SystemExit(process.returncode)
    return answered, time.perf_counter() - began, answer


def main() -> None:
    with tempfile.TemporaryDirectory() as outputs:
        for i, (name, shape) in enumerate(STUDIES.items()):
            study = Path(outputs, f"study{i}")
            write(study, *shape)
            tries = [timed(study) for _ in range(TRIES)]
            answered, ended = np.median([t[:2] for t in tries], axis=0)
            print(f"{name}: answer after {answered:.1f} s, figures and page after {ended:.1f} s (medians of {TRIES})")
            print(f"  {tries[0][2]}", flush=True)


if __name__ == "__main__":
    main()
