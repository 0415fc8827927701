"""The mathematics against torch's own results, in float64, and analytic values."""

from __future__ import annotations

import math
import os
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.transforms.functional import normalize

from job import device, engine, models
from job.data import Split
from job.device import Compute
from job.engine.augmentation import Batch
from job.engine.build import balanced
from job.engine.criterion import Criterion
from job.engine.learner import new_learner
from job.engine.step import MEAN, STD, normalise
from job.results import Score
from tests.helpers import small_models
from tests.helpers.rounding import CLOSE, DISTURBANCE, FP64, disturbed, draw
from tests.helpers.small_models import without_dropout


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


def by_torchvision(batch: Tensor) -> Tensor:
    return normalize(batch.permute(0, 3, 1, 2).double() / 255, MEAN, STD)


def test_normalise_is_torchvisions() -> None:
    batch = images(5).images
    torch.testing.assert_close(normalise(batch, torch.float64), by_torchvision(batch), rtol=0, atol=1e-12)
    assert normalise(batch).dtype == torch.float32
    torch.testing.assert_close(normalise(batch), by_torchvision(batch).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_an_epoch_is_plain_torch_training(name: str) -> None:
    """The same weights, order and dropout in a loop written out with torch alone give the same loss and weights."""
    split, build = images(50), partial(models.find(name).build, 10)
    learner = new_learner(build, 1e-3, FP64, 7, ("trial", 0))
    score = engine.train_epoch(learner, split, 1, 20, ignore)

    torch.manual_seed(engine.seed_for(7, "trial", 0, "weights"))
    model = disturbed(build()).double().train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.randperm(
        50, generator=torch.Generator().manual_seed(engine.seed_for(7, "trial", 0, "epoch", 1, "order"))
    )
    torch.manual_seed(engine.seed_for(7, "trial", 0, "epoch", 1, "dropout"))
    losses, right = [], 0
    for rows in order.split(20):
        logits = model(by_torchvision(split.images[rows]))
        loss = cross_entropy(logits, split.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(rows))
        right += int((logits.argmax(1) == split.labels[rows]).sum())
    assert score.loss == pytest.approx(sum(losses) / 50, rel=CLOSE)
    assert score.accuracy == pytest.approx(100 * right / 50)
    for mine, theirs in zip(learner.model.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_fp32_is_fp64_but_for_rounding(cpu: Compute, name: str) -> None:
    """One step's loss, which amplifies nothing: 24 bits are 1e-7, and what is asked for is a thousand times that. And
    its gradients, by Adam's mean of them, as vectors.
    """
    build, found = partial(without_dropout, partial(models.find(name).build, 10)), []
    for compute in (cpu, FP64):
        learner = new_learner(build, 1e-3, compute, 7, ("trial", 0))
        score = engine.train_epoch(learner, images(10), 1, 10, ignore)
        means = [state["exp_avg"].double().flatten() for state in learner.optimizer.state.values()]
        found.append((score.loss, torch.cat(means)))
    (loss, gradient), (exact, exact_gradient) = found
    assert loss == pytest.approx(exact, rel=1e-4)
    assert float((gradient - exact_gradient).norm() / exact_gradient.norm()) < 1e-2


def test_the_processor_and_the_start_weights_are_those_asked_for() -> None:
    """What `make test-cpus` sets is heard; without it there is nothing to hear."""
    capability = os.environ.get("ATEN_CPU_CAPABILITY", torch.backends.cpu.get_cpu_capability())
    assert torch.backends.cpu.get_cpu_capability() == capability.upper()
    build = small_models.perceptron
    learner = new_learner(build, 1e-3, FP64, 7, ("trial", 0))
    torch.manual_seed(engine.seed_for(7, "trial", 0, "weights"))
    drawn = build().double()
    for mine, theirs in zip(learner.model.parameters(), drawn.parameters(), strict=True):
        apart = float((mine / theirs - 1).detach().abs().max())
        assert (apart > 0) == bool(draw())
        assert apart < 2 * DISTURBANCE


class Constant(nn.Module):
    """Always answers class 3, with odds of `e` to 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.full((len(x),), 3), 10).to(x.dtype)


@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001])
def test_evaluation_counts_an_uneven_last_batch_right(count: int) -> None:
    split = images(count, seed=count)
    threes = int((split.labels == 3).sum())
    total = math.log(math.e + 9)  # of the softmax's denominator
    seen: list[int] = []
    score = engine.evaluate(Constant(), split, FP64, seen.append)
    assert score.accuracy == pytest.approx(100 * threes / count)
    assert score.loss == pytest.approx((threes * (total - 1) + (count - threes) * total) / count, rel=1e-12)
    assert sum(seen) == count


def test_the_training_loss_weighs_every_image_alike() -> None:
    """With a learning rate of almost nothing the epoch's mean is the mean over all images, last batch or not."""
    split = images(130)
    learner = new_learner(partial(models.find("mlp").build, 10), 1e-30, FP64, 1, ("x",))
    expected = engine.evaluate(learner.model, split, FP64, ignore)
    assert engine.train_epoch(learner, split, 1, 128, ignore) == Score(
        pytest.approx(expected.loss, rel=CLOSE), pytest.approx(expected.accuracy)
    )


def test_evaluation_leaves_the_model_alone(cpu: Compute) -> None:
    learner = new_learner(partial(models.find("cnn").build, 10), 1e-3, cpu, 1, ("x",))
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    first = engine.evaluate(learner.model, images(50), cpu, ignore)
    assert engine.evaluate(learner.model, images(50), cpu, ignore) == first, "dropout was on"
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.model.state_dict().items())


@pytest.mark.parametrize("name", list(small_models.MODELS))
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bytes(name: str, precision: str) -> None:
    """Any CPU computes bf16, if only by emulation."""
    compute = replace(device.choose("cpu", "fp32"), precision=precision)

    def weights(seed: int) -> bytes:
        learner = new_learner(small_models.MODELS[name], 1e-3, compute, seed, ("trial", 2))
        torch.rand(seed)  # what else draws from the global stream does not matter
        for _ in engine.epochs(learner, engine.Course(images(14), images(6), 5), range(1, 3)):
            torch.rand(3)
        return b"".join(p.detach().contiguous().numpy().tobytes() for p in learner.model.parameters())

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_an_epoch_can_be_run_again_alone(cpu: Compute) -> None:
    """Epoch 2 from the state after epoch 1 gives the same numbers as when it follows at once."""
    split, build = images(96), partial(models.find("cnn").build, 10)
    straight = new_learner(build, 1e-3, cpu, 5, ("final",))
    engine.train_epoch(straight, split, 1, 40, ignore)
    resumed = new_learner(build, 1e-3, cpu, 5, ("final",))
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


# ---- class weights ----


def test_balanced_weights_are_one_on_average() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = balanced(labels, 4)
    assert weights == (10 / (3 * 6), 10 / (3 * 3), 0.0, 10 / 3)
    assert sum(weights[label] for label in labels.tolist()) / len(labels) == pytest.approx(1)


def test_a_class_counts_as_its_weight_says() -> None:
    """The loss and its gradient are those of a set in which each image stands as often as its class counts."""
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, weights = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    again = torch.tensor([0, 1, 2, 3, 3, 4, 4, 5, 5, 5])
    weighed = Criterion(weights).mean(logits, Batch(torch.empty(0), labels))
    repeated = cross_entropy(logits[again], labels[again], reduction="sum") / len(labels)
    torch.testing.assert_close(weighed, repeated, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (weighed, repeated))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
