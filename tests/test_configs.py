"""Every shipped option composes; what cannot be run is refused by one line that names the key."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.config import ConfigError, TrainConfig, short

ROOT = Path(__file__).parents[1]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).iterdir())


def test_the_grid_is_seven_sizes_and_eight_budgets():
    assert set(options("model")) == {"d16_l1", "d24_l1", "d32_l2", "d48_l2", "d64_l3", "d96_l3", "d128_l4"}
    assert set(options("tokens")) == {"5k", "10k", "30k", "50k", "100k", "300k", "500k", "1M"}


def test_every_cell_of_the_grid_composes_to_its_own_run(hydra_conf):
    cells = list(itertools.product(options("model"), options("tokens")))
    configs = [hydra_conf(f"model={m}", f"tokens={t}") for m, t in cells]
    assert len({c.run_name for c in configs}) == 56
    for config, (model, tokens) in zip(configs, cells, strict=True):
        assert f"d{config.model.d_model}_l{config.model.n_layers}" == model
        assert short(config.tokens.budget) == tokens


GROUPS = ("family", "data", "tokenizer", "optim", "schedule", "trainer", "logger")


@pytest.mark.parametrize("override", [f"{group}={name}" for group in GROUPS for name in options(group)])
def test_every_option_composes(hydra_conf, override):
    extra = ["data=synthetic"] if override == "tokenizer=symbols" else []
    assert isinstance(hydra_conf(*extra, override), TrainConfig)


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_composes(hydra_conf, name):
    assert hydra_conf(f"experiment={name}").study != "default"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.n_heads=3", "model.n_heads=3: must divide model.d_model=32"),
        ("tokens.budget=1023", "tokens.budget=1023: must be at least one step"),
        ("tokens.budget=-5", "tokens.budget=-5: must be above 0"),
        ("batch_size=0", "batch_size=0: must be above 0"),
        ("eval=all", "eval=all: must be one of slice, full"),
        ("trainer.device=tpu", "trainer.device=tpu: must be one of auto, cpu, cuda"),
        ("schedule.warmup=1.5", "schedule.warmup=1.5: must be a fraction"),
        ("schedule.decay=0.95", "schedule.decay=0.95: with schedule.warmup=0.1"),
        ("optim.lr=-1", "optim.lr=-1.0: must be above 0"),
        ("optim.lr=nan", "optim.lr=nan: must be above 0"),
        ("study=a/b", "study='a/b': must be a plain name"),
        ("eval_tokens=100", "eval_tokens=100: must be a multiple of seq_len=64"),
        ("tokenizer=symbols", "tokenizer=symbols"),
    ],
)
def test_an_impossible_value_is_named(hydra_conf, override, named):
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        hydra_conf(*(["data=wikitext2"] if "symbols" not in override else ["+data.options.n_symbols=8"]), override)
    assert named in str(error.value)


def test_labels_places_and_logging_do_not_change_a_run(hydra_conf):
    base = hydra_conf("model=d16_l1")
    for same in ("study=other", "logger=none", "output_dir=/x", "data.path=/y", "trainer.device=cpu", "model.name=z"):
        assert hydra_conf("model=d16_l1", same).run_hash == base.run_hash, same
    for other in ("seed=1", "model.d_mlp=8", "optim.lr=1e-3", "schedule=cosine", "eval=full", "trainer.precision=bf16"):
        assert hydra_conf("model=d16_l1", other).run_hash != base.run_hash, other
    rule = hydra_conf("model=d16_l1")
    assert hydra_conf("model=d16_l1", f"optim.lr={rule.lr!r}").run_hash == rule.run_hash


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("model.d_modle=3", "d_modle"),
        ("+d_modle=3", "d_modle"),
        ("tokens=7k", "tokens/7k"),
        ("model.d_model=wide", "model.d_model"),
        ("-m model=glob(zz*)", "model=glob(zz*)"),
        ("-m model=d16_l1,d16_l1", "same run"),
        ("model.n_heads=3", "model.n_heads=3"),
        ("model=[a", "[a"),
    ],
)
def test_the_command_line_answers_with_one_line_and_writes_nothing(tmp_path, line, named):
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *line.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert message.startswith("error: ") and named in message
    assert list(tmp_path.iterdir()) == []
