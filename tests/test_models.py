"""What every family must do, whatever it is made of."""

from pathlib import Path

import pytest
import torch

from scaling.config import ConfigError
from scaling.models.base import Shape, build

FAMILIES = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "family").iterdir())
VOCAB = 97


@pytest.fixture(params=FAMILIES)
def model(request, hydra_conf):
    config = hydra_conf(f"family={request.param}", "model=d32_l2", "seq_len=32", "eval_tokens=64")
    torch.manual_seed(0)
    return build(config.family, Shape.of(config, VOCAB)).double()


def test_a_prediction_depends_on_the_past_alone(model):
    ids = torch.randint(VOCAB, (3, 32), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % VOCAB
    before, after = model.logits(ids), model.logits(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-12)
    assert (before[:, 20:] - after[:, 20:]).abs().amax(-1).min() > 1e-6


def test_rows_of_a_batch_do_not_see_each_other(model):
    ids = torch.randint(VOCAB, (4, 32), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.logits(ids)[2:3], model.logits(ids[2:3]), rtol=0, atol=1e-10)


def test_a_fresh_model_knows_nothing(model):
    ids = torch.randint(VOCAB, (4, 32), generator=torch.Generator().manual_seed(3))
    loss = torch.nn.functional.cross_entropy(model.logits(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(torch.tensor(float(VOCAB)).log().item(), abs=0.1)


def test_it_can_learn_one_batch_by_heart(model):
    model.float()
    ids = torch.randint(VOCAB, (2, 33), generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        logits = model.logits(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_every_parameter_is_counted_and_learns(model):
    ids = torch.randint(VOCAB, (2, 32))
    model.logits(ids).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.counts().n_total == sum(p.numel() for p in set(model.parameters()))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["family._target_=os.system"], "family._target_=os.system"),
        (["family._target_=scaling.models.base.Shape"], "must be a subclass of LanguageModel"),
        (["family._target_=scaling.models.nowhere.X"], "not an importable class"),
        (["+family.options.depth=3"], "family.options.depth=3: tiny takes tied"),
    ],
)
def test_a_family_that_cannot_be_built_is_named(hydra_conf, overrides, named):
    config = hydra_conf(*overrides)
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        build(config.family, Shape.of(config, VOCAB))
    assert named in str(error.value)
