"""The mathematics against torch's own results and analytic values."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.transforms.functional import normalize

from job import device, engine, models
from job.data import Split
from job.device import Compute
from job.results import Score


@pytest.fixture(scope="module")
def cpu() -> Compute:
    return device.choose("cpu", "fp32")


def images(count: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


def ignore(count: int) -> None:
    """No progress is shown."""


def test_normalise_is_torchvisions() -> None:
    batch = images(5).images
    expected = normalize(batch.permute(0, 3, 1, 2).float() / 255, engine.MEAN, engine.STD)
    torch.testing.assert_close(engine.normalise(batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_an_epoch_is_plain_torch_training(cpu: Compute, name: str) -> None:
    """The same weights, order and dropout in a loop written out with torch alone give the same loss and weights."""
    split, build = images(150), partial(models.find(name).build, 10)
    learner = engine.new_learner(build, 1e-3, cpu, 7, ("trial", 0))
    score = engine.train_epoch(learner, split, 1, 64, ignore)

    torch.manual_seed(engine.seed_for(7, "trial", 0, "weights"))
    model = build().train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.randperm(
        150, generator=torch.Generator().manual_seed(engine.seed_for(7, "trial", 0, "epoch", 1, "order"))
    )
    torch.manual_seed(engine.seed_for(7, "trial", 0, "epoch", 1, "dropout"))
    losses, right = [], 0
    for rows in order.split(64):
        logits = model(normalize(split.images[rows].permute(0, 3, 1, 2).float() / 255, engine.MEAN, engine.STD))
        loss = cross_entropy(logits, split.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(rows))
        right += int((logits.argmax(1) == split.labels[rows]).sum())
    assert score.loss == pytest.approx(sum(losses) / 150, rel=1e-4)
    assert score.accuracy == pytest.approx(100 * right / 150)
    for (layer, mine), theirs in zip(learner.model.named_parameters(), model.parameters(), strict=True):
        if name == "cnn" and layer in ("0.bias", "4.bias", "8.bias"):
            continue  # batch norm cancels these: their gradient is rounding noise, which Adam blows up
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-4)


class Constant(nn.Module):
    """Always answers class 3, with odds of `e` to 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.full((len(x),), 3), 10).float()


@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001])
def test_evaluation_counts_an_uneven_last_batch_right(cpu: Compute, count: int) -> None:
    split = images(count, seed=count)
    threes = int((split.labels == 3).sum())
    total = math.log(math.e + 9)  # of the softmax's denominator
    seen: list[int] = []
    score = engine.evaluate(Constant(), split, cpu, seen.append)
    assert score.accuracy == pytest.approx(100 * threes / count)
    assert score.loss == pytest.approx((threes * (total - 1) + (count - threes) * total) / count, rel=1e-6)
    assert sum(seen) == count


def test_the_training_loss_weighs_every_image_alike(cpu: Compute) -> None:
    """With a learning rate of almost nothing the epoch's mean is the mean over all images, last batch or not."""
    split = images(130)
    learner = engine.new_learner(partial(models.find("mlp").build, 10), 1e-30, cpu, 1, ("x",))
    expected = engine.evaluate(learner.model, split, cpu, ignore)
    assert engine.train_epoch(learner, split, 1, 128, ignore) == Score(
        pytest.approx(expected.loss, rel=1e-5), pytest.approx(expected.accuracy)
    )


def test_evaluation_leaves_the_model_alone(cpu: Compute) -> None:
    learner = engine.new_learner(partial(models.find("cnn").build, 10), 1e-3, cpu, 1, ("x",))
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    first = engine.evaluate(learner.model, images(50), cpu, ignore)
    assert engine.evaluate(learner.model, images(50), cpu, ignore) == first, "dropout was on"
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.model.state_dict().items())


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bytes(name: str, precision: str) -> None:
    if precision not in device.native_precisions(torch.device("cpu")):
        pytest.skip(f"SKIPPED: this CPU has no {precision}")
    compute = device.choose("cpu", precision)

    def weights(seed: int) -> bytes:
        learner = engine.new_learner(partial(models.find(name).build, 10), 1e-3, compute, seed, ("trial", 2))
        torch.rand(seed)  # what else draws from the global stream does not matter
        for _ in engine.epochs(learner, images(96), images(20), batch_size=40, numbers=range(1, 3), on_batch=ignore):
            torch.rand(3)
        return b"".join(p.detach().contiguous().numpy().tobytes() for p in learner.model.parameters())

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_an_epoch_can_be_run_again_alone(cpu: Compute) -> None:
    """Epoch 2 from the state after epoch 1 gives the same numbers as when it follows at once."""
    split, build = images(96), partial(models.find("cnn").build, 10)
    straight = engine.new_learner(build, 1e-3, cpu, 5, ("final",))
    engine.train_epoch(straight, split, 1, 40, ignore)
    resumed = engine.new_learner(build, 1e-3, cpu, 5, ("final",))
    resumed.model.load_state_dict(straight.model.state_dict())
    resumed.optimizer.load_state_dict(deepcopy(straight.optimizer.state_dict()))
    assert engine.train_epoch(straight, split, 2, 40, ignore) == engine.train_epoch(resumed, split, 2, 40, ignore)


def test_every_part_has_its_own_order() -> None:
    seeds = {
        engine.seed_for(3407, *part, "epoch", epoch, "order")
        for part in (("trial", 0), ("trial", 1), ("final",))
        for epoch in range(1, 51)
    }
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_fp16_scales_its_losses() -> None:
    """Only the switch can be seen without a GPU: the scaler is on in fp16 and does nothing otherwise."""
    assert not device.choose("cpu", "fp32").scaler().is_enabled()
    assert Compute(torch.device("cpu"), "fp16", "", "").scaler().is_enabled()
