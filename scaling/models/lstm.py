"""Stacked LSTM (Hochreiter & Schmidhuber 1997), the comparison of Kaplan et al. 2020 (arXiv 2001.08361, figure 7).

Choices: `n_layers` layers of `d_model` cells, torch's own recurrence; forget gates start open (bias 1, Jozefowicz et
al. 2015); a LayerNorm before the head, as the other families have: cells stay below 1 and a head learns slowly from
them; the head is its own matrix. `d_mlp` and `n_heads` of a size say nothing here.
"""

import torch
from torch import Tensor, nn

from scaling.accounting import matmul_flops
from scaling.models.base import LanguageModel, Shape
from scaling.models.layers import head, table


class LSTM(LanguageModel):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        d = shape.d_model
        self.tokens = table(shape.vocab_size, d)
        self.cells = nn.LSTM(d, d, shape.n_layers, batch_first=True)
        with torch.no_grad():
            for name, bias in self.cells.named_parameters():
                if name.startswith("bias_hh"):
                    bias[d : 2 * d] = 1.0  # input, forget, cell, output
        self.norm = nn.LayerNorm(d)
        self.head = head(shape)

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.cells(self.tokens(ids))
        return self.norm(hidden)

    def flops_per_token(self) -> float:
        s = self.shape
        return matmul_flops(s.n_layers * 8 * s.d_model**2 + s.d_model * s.vocab_size)
