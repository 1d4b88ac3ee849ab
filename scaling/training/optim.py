"""AdamW over a model's parameters; weight decay reaches matrices, not tables, norms or biases."""

from torch import nn, optim

from scaling.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig, lr: float) -> optim.AdamW:
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in parameters if p.ndim < 2 or id(p) in tables]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return optim.AdamW(groups, lr=lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)
