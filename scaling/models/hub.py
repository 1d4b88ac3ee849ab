"""Our weights under the names and in the layout of the reference implementations in `transformers`.

`tiny` is its GPT-2, `llama` its Llama, `moe` its Mixtral, `mamba` its Mamba: the same weights give the same logits.
"""

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from scaling.config import ConfigError
from scaling.models.base import LanguageModel
from scaling.models.llama import EPS as LLAMA_EPS
from scaling.models.llama import Attention, Llama, units
from scaling.models.mamba import EPS as MAMBA_EPS
from scaling.models.mamba import Mamba
from scaling.models.moe import Experts, MoE
from scaling.models.tiny import Tiny

State = dict[str, Tensor]


def to_hub(model: LanguageModel) -> tuple[dict[str, Any], State]:
    """`config.json` and the tensors of a checkpoint. Raises ConfigError for a family that has no counterpart."""
    convert = COUNTERPARTS.get(type(model))
    if convert is None:
        known = ", ".join(cls.__name__ for cls in COUNTERPARTS)
        raise ConfigError(f"{type(model).__name__}: transformers has no counterpart of this family; it has of {known}")
    config, state = convert(model)
    tied = model.head.weight is model.tokens.weight
    if tied:
        state.pop("lm_head.weight")
    common = {"vocab_size": model.shape.vocab_size, "tie_word_embeddings": tied, "dtype": "float32"}
    nothing = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return config | common | nothing, {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def renamed(model: LanguageModel, names: dict[str, str]) -> State:
    """The state of `model` with each pattern of `names` replaced, the first that matches the whole of a name."""
    state = {}
    for name, tensor in model.state_dict().items():
        pattern = next(p for p in names if re.fullmatch(p, name))
        state[re.sub(pattern, names[pattern], name)] = tensor
    return state


def gpt2(model: LanguageModel) -> tuple[dict[str, Any], State]:
    s = model.shape
    state = renamed(
        model,
        {
            r"tokens\.weight": "transformer.wte.weight",
            r"positions\.weight": "transformer.wpe.weight",
            r"blocks\.(\d+)\.norm_attention\.(.*)": r"transformer.h.\1.ln_1.\2",
            r"blocks\.(\d+)\.qkv\.(.*)": r"transformer.h.\1.attn.c_attn.\2",
            r"blocks\.(\d+)\.out\.(.*)": r"transformer.h.\1.attn.c_proj.\2",
            r"blocks\.(\d+)\.norm_mlp\.(.*)": r"transformer.h.\1.ln_2.\2",
            r"blocks\.(\d+)\.up\.(.*)": r"transformer.h.\1.mlp.c_fc.\2",
            r"blocks\.(\d+)\.down\.(.*)": r"transformer.h.\1.mlp.c_proj.\2",
            r"norm\.(.*)": r"transformer.ln_f.\1",
            r"head\.weight": "lm_head.weight",
        },
    )
    products = re.compile(r".*\.c_(attn|proj|fc)\.weight")  # GPT-2 keeps these as (in, out)
    state = {name: tensor.t() if products.fullmatch(name) else tensor for name, tensor in state.items()}
    sizes = {"n_embd": s.d_model, "n_inner": s.d_mlp, "n_layer": s.n_layers, "n_head": s.n_heads}
    dropouts = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    kind = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu"}
    return kind | sizes | dropouts | {"n_positions": s.seq_len, "layer_norm_epsilon": 1e-5}, state


LLAMA_NAMES = {
    r"tokens\.weight": "model.embed_tokens.weight",
    r"blocks\.(\d+)\.norm_attention\.weight": r"model.layers.\1.input_layernorm.weight",
    r"blocks\.(\d+)\.norm_mlp\.weight": r"model.layers.\1.post_attention_layernorm.weight",
    r"blocks\.(\d+)\.attention\.qkv\.weight": r"model.layers.\1.self_attn.qkv",
    r"blocks\.(\d+)\.attention\.out\.weight": r"model.layers.\1.self_attn.o_proj.weight",
    r"blocks\.(\d+)\.mlp\.gate_up\.weight": r"model.layers.\1.mlp.gate_up",
    r"blocks\.(\d+)\.mlp\.down\.weight": r"model.layers.\1.mlp.down_proj.weight",
    r"norm\.weight": "model.norm.weight",
    r"head\.weight": "lm_head.weight",
}


def llama(model: LanguageModel) -> tuple[dict[str, Any], State]:
    assert isinstance(model, Llama)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "mlp_bias": False}
    state = _split_attention(model, renamed(model, LLAMA_NAMES))
    for name in [name for name in state if name.endswith(".gate_up")]:
        gate, up = state.pop(name).chunk(2)
        place = name.removesuffix("gate_up")
        state |= {f"{place}gate_proj.weight": gate, f"{place}up_proj.weight": up}
    return config | _llama_config(model, units(model.shape)), state


def mixtral(model: LanguageModel) -> tuple[dict[str, Any], State]:
    assert isinstance(model, MoE)
    place = r"model.layers.\1.block_sparse_moe."
    names = {
        r"blocks\.(\d+)\.mlp\.router\.weight": place + "gate.weight",
        r"blocks\.(\d+)\.mlp\.gate_up": place + "experts.gate_up",
        r"blocks\.(\d+)\.mlp\.down": place + "experts.down",
    }
    state = _split_attention(model, renamed(model, names | LLAMA_NAMES))
    for name in [name for name in state if name.endswith((".gate_up", ".down"))]:
        for n, expert in enumerate(state.pop(name)):
            place = f"{name.rpartition('.')[0]}.{n}."
            if name.endswith(".down"):
                state[f"{place}w2.weight"] = expert
            else:
                state[f"{place}w1.weight"], state[f"{place}w3.weight"] = expert.chunk(2)
    experts = next(m for m in model.modules() if isinstance(m, Experts))
    kind = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "sliding_window": None}
    routing = {"num_local_experts": model.n_experts, "num_experts_per_tok": model.top_k}
    return kind | routing | _llama_config(model, experts.down.shape[2]), state


def mamba(model: LanguageModel) -> tuple[dict[str, Any], State]:
    assert isinstance(model, Mamba)
    mixer = r"backbone.layers.\1.mixer."
    state = renamed(
        model,
        {
            r"tokens\.weight": "backbone.embeddings.weight",
            r"blocks\.(\d+)\.norm\.weight": r"backbone.layers.\1.norm.weight",
            r"blocks\.(\d+)\.inside\.weight": mixer + "in_proj.weight",
            r"blocks\.(\d+)\.conv": mixer + "conv1d.weight",
            r"blocks\.(\d+)\.conv_bias": mixer + "conv1d.bias",
            r"blocks\.(\d+)\.select\.weight": mixer + "x_proj.weight",
            r"blocks\.(\d+)\.step\.(.*)": mixer + r"dt_proj.\2",
            r"blocks\.(\d+)\.log_a": mixer + "A_log",
            r"blocks\.(\d+)\.skip": mixer + "D",
            r"blocks\.(\d+)\.out\.weight": mixer + "out_proj.weight",
            r"norm\.weight": "backbone.norm_f.weight",
            r"head\.weight": "lm_head.weight",
        },
    )
    state = {name: tensor[:, None] if name.endswith("conv1d.weight") else tensor for name, tensor in state.items()}
    step = next(tensor for name, tensor in state.items() if name.endswith("dt_proj.weight"))
    filters = next(tensor for name, tensor in state.items() if name.endswith("conv1d.weight"))
    return {
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "hidden_size": model.shape.d_model,
        "num_hidden_layers": len(model.blocks),
        "state_size": model.d_state,
        "conv_kernel": filters.shape[2],
        "expand": model.d_inner // model.shape.d_model,
        "time_step_rank": step.shape[1],
        "use_bias": False,
        "use_conv_bias": True,
        "residual_in_fp32": False,
        "layer_norm_epsilon": MAMBA_EPS,
    }, state


def _split_attention(model: Llama, state: State) -> State:
    attention = next(m for m in model.modules() if isinstance(m, Attention))
    sizes = [n * attention.d_head for n in (attention.n_heads, attention.n_kv, attention.n_kv)]
    for name in [name for name in state if name.endswith(".qkv")]:
        place = name.removesuffix("qkv")
        for which, part in zip("qkv", state.pop(name).split(sizes), strict=True):
            state[f"{place}{which}_proj.weight"] = part
    return state


def _llama_config(model: Llama, n_units: int) -> dict[str, Any]:
    s, attention = model.shape, next(m for m in model.modules() if isinstance(m, Attention))
    return {
        "hidden_size": s.d_model,
        "intermediate_size": n_units,
        "num_hidden_layers": s.n_layers,
        "num_attention_heads": s.n_heads,
        "num_key_value_heads": attention.n_kv,
        "head_dim": attention.d_head,
        "max_position_embeddings": s.seq_len,
        "rms_norm_eps": LLAMA_EPS,
        "rope_theta": attention.rope_base,
        "hidden_act": "silu",
    }


COUNTERPARTS: dict[type, Callable[[LanguageModel], tuple[dict[str, Any], State]]] = {
    Tiny: gpt2,
    Llama: llama,
    MoE: mixtral,
    Mamba: mamba,
}
