"""Shared by all tests: a small corpus, a composed config, no network, no account."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from wandb_server import WandbServer

from scaling.cli import register_plugins
from scaling.config import TrainConfig, register, typed

os.environ.update(WANDB_ERROR_REPORTING="false", WANDB_SILENT="true")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Directory of the real WikiText-2 text and of published runs."""
    root = os.environ.get("SCALING_DATA")
    if not root:
        pytest.skip("SCALING_DATA is not set: the real corpus and the published runs are not at hand")
    return Path(root)


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train, valid and test.txt: random words with a Zipf law, enough for a few hundred sequences."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghij"), rng.integers(2, 7))) for _ in range(400)])
    p = 1 / np.arange(1, 401)
    path = tmp_path_factory.mktemp("corpus")
    for split, lines in (("train", 3000), ("valid", 600), ("test", 600)):
        rows = rng.choice(words, (lines, 12), p=p / p.sum())
        (path / f"{split}.txt").write_text("\n".join(" ".join(row) for row in rows) + "\n")
    return path


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def hydra_conf() -> Iterator[Callable[..., TrainConfig]]:
    """compose("model=d16_l1", …) -> TrainConfig, as train.py would see it."""
    register_plugins()
    register("train_schema", TrainConfig)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda *overrides: typed(compose("train", overrides=list(overrides)))


@pytest.fixture
def small(
    hydra_conf: Callable[..., TrainConfig], corpus_dir: Path, cache_dir: Path, tmp_path: Path
) -> Callable[..., TrainConfig]:
    """A run of seconds on the small corpus, writing below tmp_path."""
    base = (
        "model=d16_l1 tokens=10k data=text tokenizer=bytes eval_tokens=4096 logger=none "
        f"data.path={corpus_dir} cache_dir={cache_dir} output_dir={tmp_path}"
    ).split()
    return lambda *overrides: hydra_conf(*base, *overrides)


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server of our own, for the client of this process and of its children."""
    import wandb

    wandb.teardown()  # an earlier test's service knows another address
    server = WandbServer()
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment(home).items():
        monkeypatch.setenv(name, value)
    yield server
    wandb.teardown()
    server.stop()
