"""The reference implementations of `transformers`, given our weights, say what ours say; so do exported files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from scaling import records
from scaling.config import ConfigError
from scaling.export import export
from scaling.models.base import Shape, build
from scaling.models.hub import to_hub

transformers = pytest.importorskip("transformers", reason="it comes with the extra [hub]: make test-hub")
safetensors = pytest.importorskip("safetensors.torch", reason="it comes with the extra [hub]: make test-hub")
transformers.logging.set_verbosity_error()
ROOT, VOCAB = Path(__file__).parents[1], 97
COUNTERPARTS = {
    "tiny": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "moe": "MixtralForCausalLM",
    "mamba": "MambaForCausalLM",
}


def ours(hydra_conf, family, *overrides):
    config = hydra_conf(
        f"family={family}", "model=d32_l2", "model.n_heads=4", "seq_len=32", "eval_tokens=64", *overrides
    )
    torch.manual_seed(0)
    model = build(config.family, Shape.of(config, VOCAB))
    with torch.no_grad():  # norms and biases that are not what they start as
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def theirs(model, directory):
    """The checkpoint on disk, through the door that everybody uses."""
    config, state = to_hub(model)
    directory.mkdir()
    transformers.AutoConfig.for_model(**config).save_pretrained(directory)
    safetensors.save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return loaded


@pytest.mark.parametrize("family", COUNTERPARTS)
def test_the_same_weights_give_the_same_logits_and_gradients(hydra_conf, tmp_path, family):
    options = ["family.options.balance=0"] if family == "moe" else []
    mine = ours(hydra_conf, family, *options)
    reference = theirs(mine, tmp_path / "hub")
    assert type(reference).__name__ == COUNTERPARTS[family]
    ids = torch.randint(VOCAB, (3, 33), generator=torch.Generator().manual_seed(1))
    logits, expected = mine.logits(ids[:, :-1]), reference(ids[:, :-1], use_cache=False).logits
    assert logits.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for out in (logits, expected):
        F.cross_entropy(out.flatten(0, 1), ids[:, 1:].flatten()).backward()
    # the same renaming carries gradients: they stand where the weights stood
    for p in (*mine.parameters(), *reference.parameters()):
        assert p.grad is not None
        p.data = p.grad
    _, moved = to_hub(mine)
    reference.save_pretrained(tmp_path / "gradients")
    wanted = safetensors.load_file(tmp_path / "gradients" / "model.safetensors")
    assert wanted.keys() == moved.keys()
    for name in wanted:
        torch.testing.assert_close(moved[name], wanted[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_tied_head_stays_tied(hydra_conf, tmp_path):
    mine = ours(hydra_conf, "tiny", "family.options.tied=true")
    reference = theirs(mine, tmp_path / "hub")
    assert reference.lm_head.weight is reference.transformer.wte.weight
    ids = torch.arange(32)[None]
    torch.testing.assert_close(mine.logits(ids), reference(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "tokenizer"), [("tiny", "bpe4k"), ("llama", "bytes")])
def test_a_run_is_exported_with_its_tokenizer(small, corpus_dir, tmp_path, family, tokenizer):
    from scaling.training import session

    config = small(f"family={family}", f"tokenizer={tokenizer}", "keep_weights=true", "tokens=5k")
    assert session.run(config).status == "finished"
    written = export(config.run_dir, tmp_path / "out")
    assert written == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = (corpus_dir / "valid.txt").read_text()[:2000]
    ids = words(text, add_special_tokens=False, verbose=False)["input_ids"]
    store = session.load_tokens(config.data, config.tokenizer, config.cache_dir)
    assert ids[:-9] == store.valid[: len(ids) - 9].tolist()
    assert words.decode(ids) == text
    model = build(config.family, Shape.of(config, store.vocab_size))
    model.load_state_dict(torch.load(config.run_dir / "weights.pt"))
    batch = torch.tensor(ids[:128]).view(2, 64)
    torch.testing.assert_close(reference(batch).logits, model.logits(batch), rtol=0, atol=1e-5)
    loss = F.cross_entropy(model.logits(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
    assert loss < torch.tensor(float(store.vocab_size)).log()  # it has learned something
    with pytest.raises(ConfigError, match="exists already"):
        export(config.run_dir, tmp_path / "out")


def test_what_cannot_be_exported_is_refused_in_one_line(small, tmp_path):
    from scaling.training import session

    def refused(run_dir, why):
        with pytest.raises(ConfigError, match="^[^\n]*$") as error:
            export(run_dir, tmp_path / "out")
        assert why in str(error.value) and not (tmp_path / "out").exists()

    kept = small("family=lstm", "keep_weights=true", "tokens=5k")
    session.run(kept)
    refused(kept.run_dir, "LSTM: transformers has no counterpart of this family; it has of Tiny, Llama")
    (kept.run_dir / "weights.pt").unlink()
    refused(kept.run_dir, "train it with keep_weights=true force=true")
    record = records.read(kept.run_dir)
    record.status = "diverged"
    record.write(kept.run_dir)
    refused(kept.run_dir, "diverged; only a finished run")
    command = [sys.executable, "-m", "scaling.export", str(tmp_path / "gone"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode != 0 and line.startswith("error: ") and "must be the directory of a run" in line
