"""AdamW over a model's parameters; weight decay reaches matrices, not tables, norms or biases."""

from torch import optim

from scaling.config import OptimConfig
from scaling.models.base import LanguageModel


def build_optimizer(model: LanguageModel, config: OptimConfig, lr: float) -> optim.AdamW:
    decayed = {"matrices": config.weight_decay, "head": config.weight_decay}
    groups = [
        {"params": parameters, "weight_decay": decayed.get(name, 0.0)}
        for name, parameters in model.parameter_groups().items()
        if parameters
    ]
    return optim.AdamW(groups, lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)
