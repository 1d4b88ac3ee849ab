"""Weights, gradients and optimizer state of one run in shards over its devices, for models that one cannot hold.

Rajbhandari et al. 2020 (ZeRO stage 3, arXiv 1910.02054) as in torch's `fully_shard`: a block's weights are gathered
when it is computed and dropped again, so a device holds its share of everything and one block in full.
"""

from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from scaling.models.base import LanguageModel


class Shards(ModelParallelStrategy):
    """Checkpoints are single files as one device writes and reads them, so that a run may go on with other devices."""

    def __init__(self, world: int, timeout: timedelta) -> None:
        super().__init__(world, 1, save_distributed_checkpoint=False, timeout=timeout)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Lightning's own takes an optimizer's parameters to be in the model's order; ours go by groups."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        saved: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=True)
        assert self.model is not None
        ((optimizer, state),) = zip(self.optimizers, saved["optimizer_states"], strict=True)
        names = {id(p): name for name, p in self.model.named_parameters()}
        named: dict[str, Any] = {"state": {}, "param_groups": []}
        for group, before in zip(optimizer.param_groups, state["param_groups"], strict=True):
            members = [names[id(p)] for p in group["params"]]
            named["param_groups"].append(before | {"params": members})
            named["state"] |= {name: state["state"][i] for name, i in zip(members, before["params"], strict=True)}
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, saved["state_dict"], options=options)
        set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return saved


def shard(model: LanguageModel, mesh: DeviceMesh) -> None:
    """In place, every rank its part. What lies outside of the blocks stays gathered until the backward pass is over,
    since the loss multiplies with the head itself."""
    from torch.distributed.fsdp import fully_shard  # late: other runs need not wait for it

    blocks = getattr(model, "blocks", None)
    for block in blocks if isinstance(blocks, nn.ModuleList) else []:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def whole_state(model: LanguageModel) -> dict[str, Any]:
    """The model's state; of one in shards it is gathered on the first rank, and every rank has to ask for it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(model, FSDPModule):
        return model.state_dict()
    model.reshard()
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
