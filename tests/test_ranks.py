"""Several processes, micro-batches, recomputed activations: the same run, within rounding."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_multirun import in_group

from scaling import records
from scaling.config import ConfigError
from scaling.data.datamodule import Chunks
from scaling.data.packing import load_tokens
from scaling.models.base import Shape, build
from scaling.training import fit as fit_module
from scaling.training import session
from scaling.training.curve import windows
from scaling.training.evaluate import Stretch, evaluate
from scaling.training.module import Training

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(small, tmp_path):
    def one(name: str, *overrides: str) -> records.RunRecord:
        config = small("tokens.budget=20480", f"study={name}", *overrides)
        outcome = session.run(config)
        assert outcome.status == "finished", (config.run_dir / "train.log").read_text()
        return records.read(config.run_dir)

    return one


def curve(record: records.RunRecord, tmp_path) -> list[list[str]]:
    (path,) = tmp_path.glob(f"{record.study}/*/curve.csv")
    return [line.split(",") for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.micro_batch=4"],
        ["trainer.recompute=true"],
        ["trainer=ddp", "trainer.devices=2"],
        ["trainer=fsdp", "trainer.devices=2"],
    ],
    ids=["micro-batches", "recomputed activations", "two processes", "shards"],
)
def test_it_is_the_same_run(run, tmp_path, overrides):
    alone, other = run("alone"), run("other", *overrides)
    assert other.run_id == alone.run_id
    assert (other.tokens, other.tokens_done, other.flops) == (alone.tokens, alone.tokens_done, alone.flops)
    assert other.loss_val == pytest.approx(alone.loss_val, rel=1e-5)
    pairs = list(zip(curve(alone, tmp_path), curve(other, tmp_path), strict=True))
    assert len(pairs) == len(windows(20))
    for one, two in pairs:
        assert one[:2] == two[:2]  # step, tokens
        assert float(two[3]) == pytest.approx(float(one[3]), rel=1e-5)  # training loss


def test_two_processes_with_micro_batches_are_the_same_run_too(run):
    both = run("both", "trainer.devices=2", "trainer.micro_batch=2")
    assert both.loss_val == pytest.approx(run("alone").loss_val, rel=1e-5)


def test_a_device_holds_its_share_of_weights_and_optimizer(small, monkeypatch):
    held = {}

    class Watched(Training):
        def on_train_batch_end(self, *_):
            state = self.optimizers(use_pl_optimizer=False).state
            held["whole"] = sum(p.numel() for p in self.parameters())
            held["weights"] = sum(p.to_local().numel() for p in self.parameters())
            held["moments"] = sum(s["exp_avg"].to_local().numel() for s in state.values())

    monkeypatch.setattr(fit_module, "Training", Watched)
    outcome = session.run(small("model=d32_l2", "tokens=10k", "trainer=fsdp", "trainer.devices=2"))
    assert outcome.status == "finished", outcome
    for part in ("weights", "moments"):
        assert held[part] == pytest.approx(held["whole"] / 2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny", "llama", "moe", "mamba", "lstm"])
def test_shards_of_every_family_are_the_same_run_and_leave_whole_weights(run, small, tmp_path, family):
    settings = [f"family={family}", "keep_weights=true", "eval=full", "optim.mup_width=16"]
    if family == "moe":
        settings.append("family.options.balance=0")  # a term of each device's own tokens
    alone = run("alone", *settings)
    shards = run("shards", *settings, "trainer=fsdp", "trainer.devices=2", "trainer.micro_batch=2")
    assert shards.loss_val == pytest.approx(alone.loss_val, rel=1e-5)
    assert shards.loss_test == pytest.approx(alone.loss_test, rel=1e-5)
    config = small("tokens.budget=20480", *settings)
    store = load_tokens(config.data, config.tokenizer, config.cache_dir)
    model = build(config.family, Shape.of(config, store.vocab_size))
    (weights,) = tmp_path.glob("shards/*/weights.pt")
    model.load_state_dict(torch.load(weights, weights_only=True))
    whole = Stretch.of(store.valid, config.seq_len, None, store.token_bytes)
    assert evaluate(model, whole, torch.device("cpu")) == pytest.approx(shards.loss_val, rel=1e-6)


def test_shares_of_a_batch_are_the_batch():
    split = np.arange(64 * 40 + 1, dtype=np.uint16)
    whole = Chunks(split, [5], 6, 64, seed=3).steps(0, 5)
    shares = [Chunks(split, [5], 6, 64, seed=3, share=(rank, 3)).steps(0, 5) for rank in range(3)]
    assert all(share.shape == (5, 2, 65) for share in shares)
    assert torch.equal(torch.cat(shares, 1), whole)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.devices=3"], "trainer.devices=3: must divide batch_size=16"),
        (["trainer=ddp", "trainer.device=cpu"], "trainer.devices=null"),
        (["trainer.devices=2", "trainer.micro_batch=3"], "trainer.micro_batch=3: must divide the 8 sequences"),
        (["family=lstm", "trainer.recompute=true"], "trainer.recompute=true"),
        (["trainer=fsdp", "trainer.compile=true"], "trainer.compile=true: must be false with trainer.sharded=true"),
    ],
)
def test_what_cannot_be_shared_out_is_one_line(small, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        session.run(small(*overrides))
    assert said in str(error.value)
    assert not list(tmp_path.glob("default/*"))


def test_a_checkpoint_of_another_run_is_set_aside(small):
    """Somebody copied a directory: its state is not taken for this run's."""
    one = small("study=one", "tokens=10k")
    other = replace(one, study="other", seed=1)
    session.run(replace(one, trainer=replace(one.trainer, checkpoint_every_s=1e-9), keep_weights=True))
    config = replace(one, study="cut", trainer=replace(one.trainer, checkpoint_every_s=1e-9))
    kept = {}
    unlink = type(config.run_dir).unlink

    def keep(path, *args, **kwargs):
        if path.name == "last.ckpt":
            kept["bytes"] = path.read_bytes()
        unlink(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(config.run_dir), "unlink", keep)
        session.run(config)
    other.run_dir.mkdir(parents=True)
    (other.run_dir / "last.ckpt").write_bytes(kept["bytes"])
    outcome = session.run(other)
    assert outcome.status == "finished" and "last.ckpt was foreign" in outcome.reason
    assert outcome.loss_val == session.run(replace(other, study="third")).loss_val


@pytest.fixture
def program(corpus_dir, cache_dir, tmp_path):
    base = (
        "data=text tokenizer=bytes eval_tokens=4096 logger=none trainer.threads=1 "
        f"data.path={corpus_dir} cache_dir={cache_dir} output_dir={tmp_path}"
    ).split()
    return lambda *words: [sys.executable, str(ROOT / "train.py"), *words, *base]


@pytest.mark.slow
def test_in_a_sweep_every_run_has_its_own_processes(program, small, tmp_path):
    sweep = program("-m", "model=d16_l1", "tokens=5k,10k", "trainer=ddp", "trainer.devices=2")
    done = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "2 finished" in done.stdout, done.stderr
    for budget in ("5k", "10k"):
        alone = session.run(small(f"tokens={budget}", "study=alone"))
        assert records.read(tmp_path / "default" / alone.run_name).loss_val == pytest.approx(alone.loss_val, rel=1e-5)


ON_TWO = {how: (f"trainer={how}", "trainer.devices=2") for how in ("ddp", "fsdp")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [(ON_TWO["ddp"], ()), (ON_TWO["fsdp"], ()), ((), ON_TWO["fsdp"])],
    ids=["two, then one", "shards, then one", "one, then shards"],
)
def test_a_stopped_run_leaves_no_process_and_goes_on_with_other_devices(program, small, tmp_path, first, then):
    overrides = ("model=d32_l2", "tokens=100k", "study=cut")
    process = subprocess.Popen(
        program(*overrides, *first), cwd=tmp_path, stdout=subprocess.PIPE, text=True, process_group=0
    )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not list(tmp_path.glob("cut/*/curve.csv")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "interrupted" in out
    assert not in_group(process.pid)
    (checkpoint,) = tmp_path.glob("cut/*/last.ckpt")
    steps = torch.load(checkpoint, weights_only=True)["training"]["steps_done"]
    resumed = session.run(small(*overrides, *then))
    assert 0 < steps < 97
    alone = session.run(small("model=d32_l2", "tokens=100k", "study=alone"))
    assert resumed.loss_val == pytest.approx(alone.loss_val, rel=1e-4)
