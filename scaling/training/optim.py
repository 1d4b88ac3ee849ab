"""AdamW over a model's parameters, with one rate for all or, with `optim.mup_width`, under muP.

Weight decay reaches matrices, not tables, norms or biases. muP (Yang et al. 2022, arXiv 2203.03466, table 3, Adam):
matrices and the head learn at a rate that falls as 1 / width, the head starts smaller by as much, all else is as it
was, so that a rate that suits one width suits all. Matrices start with std 1 / sqrt(fan_in), as in every family here;
attention keeps 1 / sqrt(head size), which is muP's where heads keep their size as the width grows.
"""

import torch
from torch import optim

from scaling.config import ConfigError, OptimConfig
from scaling.models.base import LanguageModel


def build_optimizer(model: LanguageModel, config: OptimConfig, lr: float) -> optim.AdamW:
    """Each group carries its `factor` on the rate, for whoever sets rates later."""
    narrower = config.mup_width / model.shape.d_model if config.mup_width else 1.0
    groups = [
        {
            "params": parameters,
            "weight_decay": 0.0 if name == "rest" else config.weight_decay,
            "factor": 1.0 if name == "rest" else narrower,
            "lr": lr if name == "rest" else lr * narrower,
        }
        for name, parameters in model.parameter_groups().items()
        if parameters
    ]
    return optim.AdamW(groups, lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


@torch.no_grad()
def prepare(model: LanguageModel, config: OptimConfig) -> None:
    """Give a fresh model the start that the optimizer counts on. Raises ConfigError for a tied head under muP."""
    if config.mup_width is None:
        return
    if not model.parameter_groups()["head"]:
        raise ConfigError(f"optim.mup_width={config.mup_width}: a head tied to the token table cannot follow muP")
    model.head.weight *= config.mup_width / model.shape.d_model
