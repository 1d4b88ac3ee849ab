"""One job, start to end: a pure function of its config that leaves a record, safe to start twice.

Jobs may share a process, so everything a job could leave behind for the next one (seeds, threads, precision, the
W&B run, memory) is set or released here. Nothing is written before the config and the data have been accepted.
"""

import functools
import gc
import logging
import math
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from filelock import FileLock, Timeout
from lightning import seed_everything

from scaling import memory, records
from scaling.config import ConfigError, TrainConfig
from scaling.data.corpus import open_corpus
from scaling.data.datamodule import TokenData
from scaling.data.packing import TokenStore, load_tokens
from scaling.models.base import LanguageModel, Shape, build, build_meta
from scaling.records import RunRecord
from scaling.training import checkpoint as ckpt
from scaling.training import curve
from scaling.training.callbacks import Heartbeat
from scaling.training.evaluate import Stretch, evaluate
from scaling.training.finished import CONFIG, CONFIG_END, damaged, finished_before
from scaling.training.fit import fit, recompute_activations, training
from scaling.training.joblog import log_to
from scaling.training.module import Diverged
from scaling.training.optim import prepare
from scaling.training.ranks import Place, count, together
from scaling.training.sharding import whole_state
from scaling.training.tracking import Tracker

CHUNK = 8  # optimizer steps per call of Lightning's loop


@dataclass(frozen=True)
class Outcome:
    """How a job ended, for the table at the end of a sweep; `skipped` and `busy` changed nothing."""

    run_name: str
    status: str  # finished | skipped | busy | diverged | failed
    reason: str = ""
    loss_val: float | None = None


def run(config: TrainConfig, overrides: Sequence[str] = ()) -> Outcome:
    """Train, evaluate and record one run. Raises ConfigError, with nothing written, for what cannot be run."""
    started = time.perf_counter()
    device, precision = check(config)
    world = count(config, device)
    store, data, model = _prepared(config, Place(world=world))

    run_dir = config.run_dir
    done = finished_before(config, store.data_id)
    if done is not None and not config.force and not damaged(run_dir):
        return _skipped(config, done)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return Outcome(config.run_name, "busy", "another process is training it")
    with lock:
        notes = [records.set_aside(path) for path in damaged(run_dir)]
        done = finished_before(config, store.data_id)  # while we looked, another sweep may have come to its end
        if done is not None and config.force:
            _replace(run_dir, done)  # with its lock, which nobody else wants: what follows is a run like any other
            return run(config, overrides)
        if done is not None:
            if not (run_dir / CONFIG).exists():
                _write_config(config, run_dir)
            return _skipped(config, done, *notes)
        for left in run_dir.glob(".*.tmp"):  # by a writer that was killed
            left.unlink()
        record = _new_record(config, store, model, device, precision, overrides)
        tracker: Tracker | None = None
        with log_to(run_dir / "train.log"):
            try:
                _write_config(config, run_dir)
                record.write(run_dir)
                notes += filter(None, [ckpt.mend(run_dir, _identity(config, store))])
                for note in notes:
                    logging.getLogger("scaling").warning(note)
                tracker = Tracker(config, record, run_dir)
                with together(config, world, run_dir / "train.log") as place:
                    _train(config, store, model, data, record, run_dir, tracker, device, precision, place)
                record.status = "finished"
            except Diverged as error:
                record.status, record.error = "diverged", str(error)
            except Exception as error:
                record.status, record.error = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
                logging.getLogger("scaling").error(traceback.format_exc())
                traceback.clear_frames(error.__traceback__)  # or the model outlives its job
            except (KeyboardInterrupt, SystemExit):
                record.status, record.error = "failed", "interrupted: start it again to go on"
                raise
            finally:
                record.ended = _now()
                record.wall_s = time.perf_counter() - started
                record.peak_memory_mb = _peak_memory_mb(device)
                try:
                    if tracker is not None:
                        tracker.finish(record)
                    if record.status != "running":
                        record.write(run_dir)  # the last word: whatever is cut short before it is done again
                    if record.status in ("finished", "diverged"):
                        (run_dir / ckpt.LAST).unlink(missing_ok=True)
                finally:
                    del model, data
                    gc.collect()
                    if device.type == "cuda":
                        torch.cuda.empty_cache()
    return Outcome(config.run_name, record.status, "; ".join([*filter(None, [record.error]), *notes]), record.loss_val)


def _skipped(config: TrainConfig, done: RunRecord, *notes: str) -> Outcome:
    return Outcome(config.run_name, "skipped", "; ".join(["finished before", *notes]), done.loss_val)


def check(config: TrainConfig) -> tuple[torch.device, str]:
    """Device and precision. Raises ConfigError for what can be refused before anything is read or built."""
    build_meta(config.family, Shape.of(config, config.tokenizer.vocab_size))
    open_corpus(config.data)
    return hardware(config)


def follow(config: TrainConfig, place: Place) -> None:
    """Another rank of a run: its share of every batch, and nothing that is written."""
    device, precision = hardware(config)
    device = torch.device(device.type, place.rank) if device.type == "cuda" else device
    store, data, model = _prepared(config, place)
    valid = Stretch.of(store.valid, config.seq_len, config.eval_tokens, store.token_bytes)
    module = training(config, model, data, valid, device, _identity(config, store))
    fit(module, data, config.run_dir, device, precision, place)
    if config.trainer.sharded:  # no rank has all of the model: they evaluate it together
        _losses(config, store, model, valid, device, precision)
        if config.keep_weights:
            whole_state(model)


def _prepared(config: TrainConfig, place: Place) -> tuple[TokenStore, TokenData, LanguageModel]:
    """Tokens, their order and fresh weights: the same in every process that trains this run."""
    memory.keep_freed()
    torch.set_num_threads(config.trainer.threads or 1)
    store = load_tokens(config.data, config.tokenizer, config.cache_dir)
    borders = curve.chunk_borders(config.steps, CHUNK, config.steps_before)
    share = (place.rank, place.world)
    data = TokenData(store, borders, config.batch_size, config.seq_len, config.seed, share)
    seed_everything(config.seed, verbose=False)
    model = build(config.family, Shape.of(config, store.vocab_size))
    prepare(model, config.optim)
    if config.trainer.recompute:
        recompute_activations(model)
    return store, data, model


def _identity(config: TrainConfig, store: TokenStore) -> str:
    """What a checkpoint belongs to: this run, on these data."""
    return f"{config.run_hash} on {store.data_id}"


def hardware(config: TrainConfig) -> tuple[torch.device, str]:
    """Device and precision of a run. Raises ConfigError for what is not there, or there in name alone."""
    wanted = config.trainer.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device=cuda: no CUDA device is available here; allowed: cpu, auto")
    on_gpu = wanted != "cpu" and torch.cuda.is_available()
    precision = config.trainer.precision
    if precision == "auto":
        precision = "bf16" if on_gpu else "fp32"
    if precision == "bf16" and not on_gpu and not multiplies_bf16():
        raise ConfigError("trainer.precision=bf16: this CPU has no bf16 products (AMX, AVX512-BF16), take fp32")
    return torch.device("cuda" if on_gpu else "cpu"), precision


def multiplies_bf16() -> bool:
    """Whether this CPU has bf16 products in hardware; emulated they take tens of times as long as fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _train(
    config: TrainConfig,
    store: TokenStore,
    model: LanguageModel,
    data: TokenData,
    record: RunRecord,
    run_dir: Path,
    tracker: Tracker,
    device: torch.device,
    precision: str,
    place: Place,
) -> None:
    valid = Stretch.of(store.valid, config.seq_len, config.eval_tokens, store.token_bytes)

    def publish() -> None:
        curve.write(module.rows, run_dir)
        tracker.log(module.rows)

    heartbeat = Heartbeat(record, run_dir, publish)
    module = training(config, model, data, valid, device, _identity(config, store))
    try:
        fit(module, data, run_dir, device, precision, place, [heartbeat], tracker.logger)
    finally:
        publish()

    model.to(device)
    record.loss_val, record.loss_test, tokens_per_byte = _losses(config, store, model, valid, device, precision)
    if not math.isfinite(record.loss_val):
        raise Diverged(f"validation loss is {record.loss_val}")
    if tokens_per_byte is not None:
        record.bits_per_byte = record.loss_val * tokens_per_byte / 0.6931471805599453
    # the article's loss is a running mean over the budget
    record.loss_train = (
        curve.mean_loss(module.rows, config.steps_before) if config.ladder else module.rows[-1].loss_train
    )
    record.tokens_done = config.tokens_trained
    record.tokens_per_s = heartbeat.tokens / heartbeat.seconds if heartbeat.seconds else None
    if config.keep_weights:
        ckpt.save(whole_state(model), run_dir / "weights.pt")
        if (store.path / "tokenizer.json").exists():
            shutil.copyfile(store.path / "tokenizer.json", run_dir / "tokenizer.json")


def _losses(
    config: TrainConfig, store: TokenStore, model: LanguageModel, valid: Stretch, device: torch.device, precision: str
) -> tuple[float, float | None, float | None]:
    """Validation and test loss of the trained model, and the tokens per byte of what it was validated on."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        if config.eval != "full":
            return evaluate(model, valid, device), None, valid.tokens_per_byte
        whole = Stretch.of(store.valid, config.seq_len, None, store.token_bytes)
        test = Stretch.of(store.test, config.seq_len, None, store.token_bytes)
        return evaluate(model, whole, device), evaluate(model, test, device), whole.tokens_per_byte


def _replace(run_dir: Path, done: RunRecord) -> None:
    aside = run_dir.parent / ".replaced" / f"{run_dir.name}-{done.ended or ''}".replace(":", "")
    aside.parent.mkdir(exist_ok=True)
    run_dir.rename(aside)


def _new_record(
    config: TrainConfig,
    store: TokenStore,
    model: LanguageModel,
    device: torch.device,
    precision: str,
    overrides: Sequence[str],
) -> RunRecord:
    counts, m = model.counts(), config.model
    tokens = config.tokens_trained - config.tokens_before
    per_epoch = (len(store.train) - 1) // config.seq_len * config.seq_len
    return RunRecord(
        run_id=config.run_hash,
        study=config.study,
        family=config.family.name,
        model=f"d{m.d_model}_l{m.n_layers}",
        seed=config.seed,
        d_model=m.d_model,
        d_mlp=m.d_mlp,
        n_layers=m.n_layers,
        n_heads=m.n_heads,
        n_total=counts.n_total,
        n_embedding=counts.n_embedding,
        n_non_embedding=counts.n_non_embedding,
        n_head=counts.n_head,
        n_active=counts.n_active,
        tokens=tokens,
        tokens_budget=config.tokens.budget,
        tokens_before=config.tokens_before,
        tokens_unique=min(tokens, per_epoch),
        epochs=tokens / per_epoch,
        flops_per_token=model.flops_per_token(),
        flops=model.flops_per_token() * tokens,
        entropy_rate=store.entropy_rate,
        vocab_size=store.vocab_size,
        seq_len=config.seq_len,
        batch_size=config.batch_size,
        lr=config.lr,
        schedule=config.schedule.name,
        optim=config.optim.name,
        eval="train" if config.ladder else config.eval,
        eval_tokens=config.eval_tokens,
        data=config.data.name,
        data_id=store.data_id,
        tokenizer_id=store.tokenizer_id,
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        precision=precision,
        started=_now(),
        versions=_versions(),
        overrides=list(overrides),
    )


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: version(p) for p in ("torch", "lightning", "scaling")}


def _write_config(config: TrainConfig, run_dir: Path) -> None:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast where PyYAML has its C part
    text = yaml.dump(asdict(config), Dumper=dumper, sort_keys=False)
    records.atomic_write(run_dir / CONFIG, text + CONFIG_END)


def _peak_memory_mb(device: torch.device) -> float:
    """Of this process so far; on a GPU, of its allocator during the run."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return peak
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss / 2**20 if sys.platform == "darwin" else rss / 2**10


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
