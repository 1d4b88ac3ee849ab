"""What a run is made of, in numbers: parameters under every convention, FLOPs, tokens and steps.

N is ambiguous in the literature, and at small scale the choice moves the exponents, so every count is kept:
    n_total          every trained parameter once (tied weights once)
    n_embedding      token and position tables
    n_head           output projection, 0 where it is tied to the token table
    n_non_embedding  the rest: "N" of Kaplan et al. 2020 (arXiv 2001.08361, section 2.1), measured
    n_active         parameters that touch one token (smaller than n_total in a mixture of experts)
C is training compute in FLOPs, one multiply-add = 2 FLOPs; D is the number of tokens trained on.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Parameter counts of one model."""

    n_total: int
    n_embedding: int
    n_head: int
    n_active: int

    @property
    def n_non_embedding(self) -> int:
        return self.n_total - self.n_embedding - self.n_head


def steps_within(tokens_budget: int, batch_size: int, seq_len: int) -> int:
    """Whole optimizer steps of batch_size x seq_len tokens that fit into the budget (0 if not even one does)."""
    return tokens_budget // (batch_size * seq_len)


def matmul_flops(n_weights: int) -> float:
    """Training FLOPs per token of matrix products over `n_weights` weights: 2 forward, 4 backward, each."""
    return 6.0 * n_weights


def attention_flops(n_layers: int, seq_len: int, d_attention: int) -> float:
    """Training FLOPs per token of attention scores and the weighted sum, over the full seq_len x seq_len square.

    Two products of 2 * seq_len * d_attention forward, twice that backward: 12 * L * T * d, the convention of
    PaLM (arXiv 2204.02311, appendix B) and of `torch.utils.flop_counter`; a kernel that skips the masked
    half does less work than is counted.
    """
    return 12.0 * n_layers * seq_len * d_attention


def scan_flops(n_layers: int, d_inner: int, d_state: int) -> float:
    """Training FLOPs per token of a selective state space (Gu & Dao 2023, arXiv 2312.00752), step by step.

    Three multiply-adds a state forward (input, recurrence, output), twice that backward. They are counted as the
    recurrence needs them: a parallel scan does more work, and `torch.utils.flop_counter` sees none of it.
    """
    return 18.0 * n_layers * d_inner * d_state


def flops_6nd(n: float, tokens: float) -> float:
    """The 6 N D approximation of training FLOPs (Kaplan et al. 2020, section 2.1), for whichever N is given."""
    return 6.0 * n * tokens
