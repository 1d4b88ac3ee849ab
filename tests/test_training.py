"""One run: its schedule, its data order, its record, its resumption."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scaling import records
from scaling.config import ConfigError, ScheduleConfig
from scaling.data.datamodule import Chunks
from scaling.models.base import Shape, build
from scaling.training import curve, schedule, session
from scaling.training.evaluate import Stretch, evaluate
from scaling.training.loss import lm_loss
from scaling.training.optim import build_optimizer

ROOT = Path(__file__).parents[1]


def run_dir(config) -> Path:
    return Path(config.output_dir) / config.study / config.run_name


def rows(directory: Path) -> list[dict]:
    with (directory / "curve.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_schedules_at_known_steps():
    wsd = ScheduleConfig("wsd", "wsd", warmup=0.1, decay=0.2, final=0.0)
    factors = [schedule.factor(s, 100, wsd) for s in range(100)]
    assert factors[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert set(factors[10:80]) == {1.0}
    assert factors[80:] == pytest.approx([1 - k / 21 for k in range(1, 21)])
    cosine = ScheduleConfig("cosine", "cosine", warmup=0.0, decay=1.0, final=0.1)
    assert schedule.factor(49, 99, cosine) == pytest.approx(0.55)
    assert [schedule.phase(s, 100, wsd) for s in (0, 9, 10, 79, 80)] == ["warmup"] * 2 + ["stable"] * 2 + ["decay"]
    constant = ScheduleConfig("constant", "constant")
    assert {schedule.factor(s, 4, constant) for s in range(4)} == {1.0}


def test_windows_are_log_spaced_and_end_with_the_run():
    assert curve.windows(4) == [1, 2, 3, 4]
    ends = curve.windows(976)
    assert ends[0] == 1 and ends[-1] == 976 and len(ends) <= curve.WINDOWS
    assert set(ends) <= set(curve.chunk_borders(976, 8))
    assert max(np.diff([0, *curve.chunk_borders(976, 8)])) <= 8


def test_an_epoch_sees_every_sequence_once_and_the_order_is_the_seeds_alone():
    split = np.arange(64 * 10 + 1, dtype=np.uint16)
    first = Chunks(split, [5], batch_size=2, seq_len=64, seed=3).steps(0, 5)
    assert sorted(first[:, :, 0].flatten().tolist()) == list(range(0, 640, 64))
    assert (first[:, :, 1:] == first[:, :, :-1] + 1).all()
    whole = Chunks(split, [20], 2, 64, seed=3).steps(0, 20)
    assert torch.equal(whole[7:13], Chunks(split, [20], 2, 64, seed=3).steps(7, 13))
    assert torch.equal(whole.view(-1, 65), Chunks(split, [10], 4, 64, seed=3).steps(0, 10).view(-1, 65))
    assert not torch.equal(whole[:5], whole[5:10])
    assert not torch.equal(whole, Chunks(split, [20], 2, 64, seed=4).steps(0, 20))


def test_a_run_is_the_plain_loop_it_claims_to_be(small):
    """The independent implementation: torch, a for loop, nothing of Lightning."""
    config = small("tokens.budget=20480", "model=d24_l1")
    outcome = session.run(config)
    store = session.load_tokens(config.data, config.tokenizer, config.cache_dir)
    torch.manual_seed(config.seed)
    model = build(config.family, Shape.of(config, store.vocab_size))
    optimizer = build_optimizer(model, config.optim, config.lr)
    order = np.random.default_rng([0, 0]).permutation((len(store.train) - 1) // 64)
    losses = []
    for step in range(20):
        starts = order[step * 16 : step * 16 + 16] * 64
        batch = torch.tensor(np.stack([store.train[s : s + 65] for s in starts]).astype(np.int64))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule.factor(step, 20, config.schedule)
        logits = model.logits(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        losses.append(loss.item())
    written = [float(row["loss_train"]) for row in rows(run_dir(config))]
    assert written == pytest.approx(losses, abs=2e-5)
    ids = torch.tensor(store.valid[: 4096 + 1].astype(np.int64))
    with torch.no_grad():
        logits = model.logits(ids[:-1].view(-1, 64))
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:]).item()
    assert outcome.loss_val == pytest.approx(expected, abs=2e-5)


def test_the_record_holds_what_was_trained(small):
    config = small("tokens=10k")
    assert session.run(config, ["tokens=10k"]).status == "finished"
    record = records.read(run_dir(config))
    assert record.tokens == 9 * 1024 == record.tokens_done
    assert record.flops == record.flops_per_token * record.tokens
    assert record.tokens_unique == record.tokens
    assert record.bits_per_byte == pytest.approx(record.loss_val / np.log(2))  # one byte a token
    assert record.overrides == ["tokens=10k"]
    last = rows(run_dir(config))[-1]
    assert int(last["tokens"]) == record.tokens and float(last["flops"]) == record.flops
    assert [row["phase"] for row in rows(run_dir(config))] == ["warmup"] + ["stable"] * 6 + ["decay"] * 2
    assert not (run_dir(config) / "last.ckpt").exists()


def test_repeated_data_is_recorded(small):
    config = small("tokens.budget=409600")
    session.run(config)
    record = records.read(run_dir(config))
    assert record.tokens_unique < record.tokens == 400 * 1024
    assert record.epochs == pytest.approx(record.tokens / record.tokens_unique)
    evaluated = [row for row in rows(run_dir(config)) if row["loss_val"]]
    price = 4096 / 3 * len(evaluated)
    assert evaluated and price <= 0.05 * record.tokens


def test_a_finished_run_is_skipped_and_other_data_are_refused(small, tmp_path, corpus_dir):
    config = small()
    first = session.run(config)
    before = {p.name: p.read_bytes() for p in run_dir(config).iterdir() if p.is_file()}
    again = session.run(config)
    assert (again.status, again.loss_val) == ("skipped", first.loss_val)
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        text = (corpus_dir / f"{split}.txt").read_text()
        (other / f"{split}.txt").write_text(text[len(text) // 3 :])
    with pytest.raises(ConfigError, match="was trained on data_id"):
        session.run(small(f"data.path={other}"))
    assert {p.name: p.read_bytes() for p in run_dir(config).iterdir() if p.is_file()} == before


def test_force_trains_again_and_keeps_the_old_run(small):
    config = small()
    first = session.run(config)
    again = session.run(replace(config, force=True))
    assert (again.status, again.loss_val) == ("finished", first.loss_val)
    assert len(list(run_dir(config).parent.glob(".replaced/*/record.json"))) == 1


def test_divergence_is_a_status_not_a_crash(small):
    config = small("optim.lr=1e30", "optim.grad_clip=null", "tokens=50k")
    outcome = session.run(config)
    assert outcome.status == "diverged" and "training loss is nan" in outcome.reason
    assert records.read(run_dir(config)).status == "diverged"


def test_a_sequence_longer_than_the_data_is_refused_before_anything_is_written(small, tmp_path):
    with pytest.raises(ConfigError, match="seq_len=1048576: longer than the training data"):
        session.run(small("seq_len=1048576", "eval_tokens=1048576", "tokens.budget=99999999"))
    assert not (tmp_path / "default").exists()


def test_a_gpu_that_is_not_there_is_refused(small):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="trainer.device=cuda"):
        session.run(small("trainer.device=cuda"))


def test_bf16_without_the_hardware_for_it_is_refused(small):
    if torch.cuda.is_available() or session.multiplies_bf16():
        pytest.skip("bf16 products are at hand")
    with pytest.raises(ConfigError, match=r"trainer\.precision=bf16: this CPU has no bf16 products"):
        session.run(small("trainer.precision=bf16"))


@pytest.mark.slow
def test_a_compiled_model_is_the_same_model(small, tmp_path):
    eager = session.run(small("tokens=30k"))
    compiled = session.run(small("tokens=30k", "trainer.compile=true", f"output_dir={tmp_path}/compiled"))
    assert compiled.status == "finished"
    assert compiled.loss_val == pytest.approx(eager.loss_val, abs=1e-4)


def test_a_killed_run_resumes_bit_for_bit(small, tmp_path):
    """SIGKILL after a checkpoint; the same command ends with the curve and loss of a run left alone."""
    config = small("model=d32_l2", "tokens=300k", "trainer.threads=1", f"output_dir={tmp_path}/alone")
    assert session.run(config).status == "finished"
    command = [
        *(sys.executable, str(ROOT / "train.py"), "model=d32_l2", "tokens=300k", "data=text", "tokenizer=bytes"),
        *(f"data.path={config.data.path}", f"cache_dir={config.cache_dir}", "eval_tokens=4096", "logger=none"),
        *(f"output_dir={tmp_path}/killed", "trainer.checkpoint_every_s=0.2", "trainer.threads=1", "trainer.threads=1"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL)
    killed = tmp_path / "killed" / "default" / config.run_name
    deadline = time.monotonic() + 120
    while not (killed / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert records.read(killed).status == "running"
    at = torch.load(killed / "last.ckpt", weights_only=True)["training"]["steps_done"]
    assert 0 < at < config.steps
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    alone = run_dir(config)
    assert (killed / "curve.csv").read_bytes() == (alone / "curve.csv").read_bytes()
    assert records.read(killed).loss_val == records.read(alone).loss_val


def test_golden_loss(small):
    """A change that is not meant to change results does not: this number moves only on purpose."""
    outcome = session.run(small("model=d32_l2", "tokens=50k"))
    assert outcome.loss_val == pytest.approx(GOLDEN, abs=2e-4)


GOLDEN = 2.2206


def test_evaluation_is_the_mean_over_all_predictions(small):
    config = small()
    store = session.load_tokens(config.data, config.tokenizer, config.cache_dir)
    model = build(config.family, Shape.of(config, store.vocab_size))
    stretch = Stretch.of(store.valid, 64, 6400, None)
    assert len(stretch.sequences) == 100
    one_by_one = [lm_loss(model(s[None, :-1]), model.head.weight, s[None, 1:]).item() for s in stretch.sequences]
    assert evaluate(model, stretch, torch.device("cpu")) == pytest.approx(np.mean(one_by_one), abs=1e-6)
