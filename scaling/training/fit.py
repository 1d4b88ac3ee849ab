"""The fit of one run: Lightning's trainer around the steps, on one device or as one of several ranks."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.checkpoint import checkpoint

from scaling.config import ConfigError, TrainConfig
from scaling.data.datamodule import TokenData
from scaling.models.base import LanguageModel
from scaling.training import curve
from scaling.training.checkpoint import LAST, Checkpoints, InPlace
from scaling.training.evaluate import Stretch, evaluate
from scaling.training.module import Training
from scaling.training.ranks import Place, Started
from scaling.training.sharding import Shards

PATIENCE = timedelta(minutes=5)  # of a rank for the others
EVAL_SHARE = 0.05  # of training compute, at most, goes to evaluations along the way


def training(
    config: TrainConfig, model: LanguageModel, data: TokenData, valid: Stretch, device: torch.device, identity: str
) -> Training:
    """The module to fit, compiled where the config says so."""
    module = Training(
        model,
        config,
        tokens_per_epoch=data.chunks.n_sequences * config.seq_len,
        validate=lambda: evaluate(model, valid, device),
        validate_at=_validation_steps(config, valid),
        identity=identity,
    )
    if config.trainer.compile:
        model.compile(dynamic=False)
    return module


def fit(
    module: Training,
    data: TokenData,
    run_dir: Path,
    device: torch.device,
    precision: str,
    place: Place,
    callbacks: Sequence[Callback] = (),
    logger: Logger | None = None,
) -> None:
    """Train to the end, from `last.ckpt` where there is one. Every rank calls this with its own share of the data."""
    settings = module.config.trainer
    alone = place.world == 1
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=place.world,
        strategy="auto"
        if alone
        else Shards(place.world, PATIENCE)
        if settings.sharded
        else DDPStrategy(timeout=PATIENCE),
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=1,
        logger=logger or False,
        callbacks=[*callbacks, Checkpoints(run_dir, settings.checkpoint_every_s)],
        deterministic=settings.deterministic,
        default_root_dir=run_dir,
        # found under SLURM, Lightning would requeue and resume by itself
        plugins=[LightningEnvironment() if alone else Started(place), InPlace()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    last = run_dir / LAST
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)


def recompute_activations(model: LanguageModel) -> None:
    """Keep only what enters each block, and compute the rest again in the backward pass: a third more, far less memory.

    Chen et al. 2016 (1604.06174). Raises ConfigError for a family without blocks.
    """
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ConfigError(f"trainer.recompute=true: {type(model).__name__} has no blocks; allowed: false")
    for block in blocks:
        forward: Callable[..., torch.Tensor] = block.forward
        block.forward = partial(checkpoint, forward, use_reentrant=False)


def _validation_steps(config: TrainConfig, valid: Stretch) -> set[int]:
    """Windows' ends nearest to 1/2, 1/4, … of the run, as many as EVAL_SHARE of its compute pays for."""
    price = valid.sequences.numel() / 3  # a forward pass is a third of a training step
    affordable = int(EVAL_SHARE * config.tokens.budget / price)
    ends = curve.windows(config.steps, config.steps_before)[:-1]
    return {min(ends, key=lambda end: abs(end - config.steps / 2**k)) for k in range(1, affordable + 1) if ends}
