"""What a setting of a run may be. Every refusal is one line that names the key, the value and what is allowed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from scaling.accounting import steps_within

if TYPE_CHECKING:
    from scaling.config import TrainConfig

CHOICES = {
    "eval": ("slice", "full"),
    "schedule.kind": ("constant", "cosine", "wsd"),
    "trainer.device": ("auto", "cpu", "cuda"),
    "trainer.precision": ("auto", "fp32", "bf16"),
    "logger.mode": ("auto", "online", "offline", "none"),
    "tokenizer.kind": ("bpe", "bytes", "symbols", "hub"),
}
POSITIVE = (
    *("batch_size", "seq_len", "eval_tokens", "tokens.budget", "tokenizer.vocab_size"),
    *("model.d_model", "model.d_mlp", "model.n_layers", "model.n_heads"),
    *("optim.eps", "optim.mup_width", "family.lr_factor", "trainer.threads", "trainer.checkpoint_every_s"),
    *("trainer.devices", "trainer.micro_batch"),
)

AT_MOST = {
    **{"seed": 2**32 - 1, "trainer.threads": 1024, "seq_len": 2**24, "batch_size": 2**24},
    **{"model.d_model": 2**20, "model.d_mlp": 2**24, "model.n_layers": 2**16, "tokenizer.vocab_size": 2**24},
}
MOST_STEPS = 10**8


def problems(c: "TrainConfig") -> Iterator[str]:
    values = OmegaConf.structured(c)
    for key in POSITIVE:
        value = OmegaConf.select(values, key)
        if value is not None and not value > 0:
            yield f"{key}={value}: must be above 0"
    for key, allowed in CHOICES.items():
        value = OmegaConf.select(values, key)
        if value not in allowed:
            yield f"{key}={value}: must be one of {', '.join(allowed)}"
    for key, most in AT_MOST.items():
        value = OmegaConf.select(values, key)
        if value is not None and value > most:
            yield f"{key}={value}: must be at most {most}"
    for key, name in {"study": c.study, "family.name": c.family.name}.items():
        if not name.isprintable() or not 0 < len(name) <= 100 or name[0] in ". " or set(name) & set("/\\:;,#?'\""):
            yield f"{key}={name!r}: must be a plain name, without / \\ : ; , # ? quotes or a leading dot"
    if not 0 < len(c.logger.project) <= 128 or set(c.logger.project) & set("/\\#?%:"):
        yield f"logger.project={c.logger.project!r}: W&B takes no project without a name, or with / \\ # ? % : in it"
    yield from place_problems("output_dir", c.output_dir)
    yield from place_problems("cache_dir", c.cache_dir)
    if c.trainer.compile and c.trainer.sharded:
        yield "trainer.compile=true: must be false with trainer.sharded=true"
    if c.data.path == "":
        yield "data.path='': must be a file or a directory"
    if c.model.d_model % c.model.n_heads:
        yield f"model.n_heads={c.model.n_heads}: must divide model.d_model={c.model.d_model}"
    if steps_within(c.tokens.budget, c.batch_size, c.seq_len) < 1:
        yield (
            f"tokens.budget={c.tokens.budget}: must be at least one step of "
            f"batch_size*seq_len={c.batch_size * c.seq_len} tokens"
        )
    if c.steps > MOST_STEPS:
        yield f"tokens.budget={c.tokens.budget}: {c.steps} steps are more than {MOST_STEPS}"
    if c.ladder:
        yield from _ladder_problems(c)
    if c.eval_tokens % c.seq_len:
        yield f"eval_tokens={c.eval_tokens}: must be a multiple of seq_len={c.seq_len}"
    if not 0 < c.lr < float("inf"):
        yield f"optim.lr={c.lr}: must be above 0"
    for key, fraction in {
        "schedule.warmup": c.schedule.warmup,
        "schedule.decay": c.schedule.decay,
        "schedule.final": c.schedule.final,
    }.items():
        if not 0 <= fraction <= 1:
            yield f"{key}={fraction}: must be a fraction between 0 and 1"
    if c.schedule.warmup + c.schedule.decay > 1:
        yield f"schedule.decay={c.schedule.decay}: with schedule.warmup={c.schedule.warmup} must not exceed 1"
    if (c.data.name == "synthetic") != (c.tokenizer.kind == "symbols"):
        yield f"tokenizer={c.tokenizer.name}: data=synthetic takes tokenizer=symbols, and nothing else does"
    if c.seed < 0:
        yield f"seed={c.seed}: must be 0 or above"
    if c.optim.grad_clip is not None and not c.optim.grad_clip > 0:
        yield f"optim.grad_clip={c.optim.grad_clip}: must be above 0, or null for none"
    if not 0 <= c.optim.weight_decay < float("inf"):
        yield f"optim.weight_decay={c.optim.weight_decay}: must be 0 or above"
    for key, beta in {"optim.beta1": c.optim.beta1, "optim.beta2": c.optim.beta2}.items():
        if not 0 <= beta < 1:
            yield f"{key}={beta}: must be in [0, 1)"


def place_problems(key: str, path: str) -> Iterator[str]:
    """What is wrong with a directory that is to be written to, whether it is there yet or not."""
    place = Path(path).expanduser()
    there = next((p for p in (place, *place.parents) if p.exists()), Path("/"))
    if not path or not there.is_dir() or not os.access(there, os.W_OK):
        yield f"{key}={path!r}: must be a directory that can be written"


def _ladder_problems(c: "TrainConfig") -> Iterator[str]:
    """One model is carried on through all rungs only if each run begins as the one below it did."""
    if c.ladder != sorted(set(c.ladder)) or c.ladder[0] < c.batch_size * c.seq_len:
        yield f"ladder={c.ladder}: must be rising token budgets, each at least one step of batch_size*seq_len tokens"
    if c.tokens.budget not in c.ladder:
        yield f"tokens.budget={c.tokens.budget}: must be a rung of ladder={c.ladder}"
    if (c.schedule.kind, c.schedule.warmup) != ("constant", 0):
        yield f"schedule.kind={c.schedule.kind}: a ladder takes schedule=constant with schedule.warmup=0"
    if c.optim.lr is None and c.optim.lr_rule.tokens != 0:
        yield f"optim.lr_rule.tokens={c.optim.lr_rule.tokens}: a ladder takes one rate for all budgets, optim.lr=…"
