"""What each run of a sweep is, in numbers, before any of them starts. Runs in a process that has torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.config import TrainConfig
from scaling.cores import cpu_count
from scaling.data.packing import TokenStore, load_tokens
from scaling.launcher.machine import Gpu, Machine, Need, free_memory_mb

PROCESS_MB = 500.0  # a worker with its libraries
GPU_PROCESS_MB = (2000.0, 600.0)  # the same with CUDA: of memory, and its context on the GPU


@dataclass(frozen=True)
class Size:
    """One run before it is trained. `need` is an estimate on the safe side."""

    n_total: int
    n_non_embedding: int
    flops_per_token: float
    device: str
    precision: str
    need: Need


def survey(configs: Sequence[TrainConfig]) -> tuple[Machine, list[Size]]:
    """The machine and every run. Raises ConfigError for a family, data or device that cannot be."""
    import torch

    on_gpu = any(config.trainer.device != "cpu" for config in configs) and torch.cuda.is_available()
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    gpus = tuple(
        Gpu(visible[n] if visible else str(n), torch.cuda.mem_get_info(n)[0] / 2**20)
        for n in range(torch.cuda.device_count() if on_gpu else 0)
    )
    stores = load_all(configs)
    return Machine(cpu_count(), free_memory_mb(), gpus), [_size(c, stores[corpus_of(c)]) for c in configs]


def corpus_of(config: TrainConfig) -> str:
    """Configs that agree here train on the same tokens."""
    return repr((config.data, config.tokenizer, config.cache_dir))


def load_all(configs: Sequence[TrainConfig]) -> dict[str, TokenStore]:
    """The tokens of every corpus among the configs, built into the cache where they are not there yet."""
    some = {corpus_of(config): config for config in configs}
    return {key: load_tokens(c.data, c.tokenizer, c.cache_dir) for key, c in some.items()}


def _size(config: TrainConfig, store: TokenStore) -> Size:
    import torch

    from scaling.data.datamodule import TokenData
    from scaling.models.base import Shape, build_meta
    from scaling.training.session import hardware

    device, precision = hardware(config)
    TokenData(store, [1], config.batch_size, config.seq_len, config.seed)  # refuses data that are too short
    shape = Shape.of(config, store.vocab_size)
    model = build_meta(config.family, shape)
    counts = model.counts()
    # fp32 weights, gradients and two moments; activations of one step, with the logits and their gradient
    floats_per_token = shape.n_layers * (12 * shape.d_model + 3 * shape.d_mlp) + 2 * shape.vocab_size
    training = (16 * counts.n_total + 4 * floats_per_token * config.batch_size * config.seq_len) / 2**20
    on_gpu = device.type == "cuda"
    return Size(
        counts.n_total,
        counts.n_non_embedding,
        model.flops_per_token(),
        torch.cuda.get_device_name() if on_gpu else "cpu",
        precision,
        Need(GPU_PROCESS_MB[0], GPU_PROCESS_MB[1] + training) if on_gpu else Need(PROCESS_MB + training),
    )
