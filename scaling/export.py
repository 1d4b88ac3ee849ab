"""A finished run as files that `transformers` loads:  python -m scaling.export RUN_DIR OUT

The run must have been trained with keep_weights=true. OUT gets `config.json` and `model.safetensors` for
`AutoModelForCausalLM`, and the tokenizer for `AutoTokenizer`, where the tokens are text.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from scaling import records
from scaling.config import ConfigError, FamilyConfig
from scaling.models.base import Shape, build
from scaling.models.hub import to_hub

WEIGHTS, TOKENIZER = "weights.pt", "tokenizer.json"


def export(run_dir: Path, out: Path) -> list[str]:
    """Write the model and its tokenizer; returns the names of the files. Raises ConfigError, with nothing written."""
    try:
        record = records.read(run_dir)
        config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (records.RecordError, OSError) as error:
        raise ConfigError(f"{run_dir}: must be the directory of a run ({error})") from error
    if record.status != "finished":
        raise ConfigError(f"{run_dir}: {record.status}; only a finished run can be exported")
    if not (run_dir / WEIGHTS).exists():
        raise ConfigError(f"{run_dir}: no {WEIGHTS}; train it with keep_weights=true force=true")
    if out.exists():
        raise ConfigError(f"{out}: exists already; nothing is overwritten")
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise ConfigError("safetensors is not installed: pip install safetensors") from error

    sizes = (record.d_model, record.d_mlp, record.n_layers, record.n_heads, record.vocab_size, record.seq_len)
    model = build(FamilyConfig(**config["family"]), Shape(*sizes))
    model.load_state_dict(torch.load(run_dir / WEIGHTS, weights_only=True, map_location="cpu"))
    hub_config, state = to_hub(model)
    out.mkdir(parents=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(hub_config, indent=1) + "\n")
    if (run_dir / TOKENIZER).exists():
        shutil.copyfile(run_dir / TOKENIZER, out / TOKENIZER)
    elif config["tokenizer"]["kind"] == "bytes":
        byte_tokenizer().save(str(out / TOKENIZER))
    if (out / TOKENIZER).exists():
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": record.seq_len}
        (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return sorted(path.name for path in out.iterdir())


def byte_tokenizer() -> Tokenizer:
    """Bytes as a byte-level BPE without merges: token i is byte i, under the name that GPT-2 gives it."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab={name: byte for byte, name in names.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scaling.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="directory of a run trained with keep_weights=true")
    parser.add_argument("out", type=Path, help="directory to write; must not exist")
    args = parser.parse_args()
    try:
        written = export(args.run_dir, args.out)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    tokenizer = "" if TOKENIZER in written else "; no tokenizer: the tokens of this run are not text"
    print(f"{args.out}: {', '.join(written)}{tokenizer}")


if __name__ == "__main__":
    main()
