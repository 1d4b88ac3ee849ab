"""Studies made of records, from a law whose exponents are known."""

from pathlib import Path

import numpy as np

from scaling.records import RunRecord

# a = beta / (alpha + beta) = 0.4; the optimum lies inside of the grid below
E, A, B, ALPHA, BETA = 1.7, 400.0, 150.0, 0.36, 0.24
SIZES = np.geomspace(1e5, 1e7, 9).round().astype(int)
TOKENS = np.geomspace(1e6, 1e9, 13).round().astype(int)


def loss(n: float, d: float) -> float:
    return float(E + A / n**ALPHA + B / d**BETA)


def record(n: int, d: int, seed: int = 0, **other) -> RunRecord:
    """A finished run of n parameters on d tokens; 1/4 of the parameters are embeddings, 1/8 the head."""
    fields = {
        "run_id": f"{n}-{d}-{seed}",
        "study": "known",
        "family": "tiny",
        "model": f"n{n}",
        "status": "finished",
        "seed": seed,
        "n_total": n,
        "n_embedding": n // 4,
        "n_head": n // 8,
        "n_non_embedding": n - n // 4 - n // 8,
        "tokens": d,
        "tokens_done": d,
        "tokens_unique": d,
        "flops_per_token": 6.0 * n,
        "flops": 6.0 * n * d,
        "loss_val": loss(n, d),
        "lr": 1e-3,
        "schedule": "wsd",
        "eval": "slice",
        "eval_tokens": 65536,
        "data": "text",
        "data_id": "d1",
        "tokenizer_id": "t1",
        "precision": "fp32",
        "seq_len": 64,
        "batch_size": 16,
    }
    return RunRecord(**(fields | other))


def write(study: Path, *records: RunRecord) -> None:
    for i, one in enumerate(records):
        run_dir = study / f"{one.model}-{one.tokens}-s{one.seed}-{i:05d}"
        run_dir.mkdir(parents=True, exist_ok=True)
        one.write(run_dir)


def grid(study: Path, noise: float = 0.0, **other) -> None:
    """Every size at every token budget; `noise` is the sd of log loss."""
    rng = np.random.default_rng(0)
    cells = [(int(n), int(d)) for n in SIZES for d in TOKENS]
    write(
        study, *(record(n, d, loss_val=loss(n, d) * np.exp(noise * rng.standard_normal()), **other) for n, d in cells)
    )
