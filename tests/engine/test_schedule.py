"""Recipes in the engine: the rate over the steps, the optimizers, label smoothing; against torch alone in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from job import device, engine, models
from job.device import Compute, graphs
from job.device.optimizers import by_decay
from job.engine import proof
from job.engine.augmentation import Batch
from job.engine.criterion import Criterion
from job.engine.learner import Learner, new_learner, restore, snapshot
from job.engine.schedule import Schedule, paced, share
from tests.engine.test_engine import by_torchvision, ignore, images
from tests.engine.test_graphs import itself, state_bytes
from tests.helpers import small_models
from tests.helpers.recipes import ADAMW, SGD, under
from tests.helpers.rounding import CLOSE, FP64, disturbed
from tests.helpers.small_models import without_dropout

KINDS = {"sgd": SGD, "adamw": ADAMW}


# --- the schedule ---


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    shares = [share(step, 1000) for step in range(1000)]
    assert shares[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert max(shares) == shares[49] == 1
    assert all(after < before for before, after in pairwise(shares[49:]))
    assert share(50 + 474, 1000) == pytest.approx(0.5, abs=0.002), "half way down"
    assert 0 < shares[-1] < 1e-5
    assert math.fsum(shares) == pytest.approx(51 / 2 + 950 / 2, rel=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_a_short_training_has_a_peak_too(steps: int) -> None:
    shares = [share(step, steps) for step in range(steps)]
    assert max(shares) == 1
    assert min(shares) > 0


def test_epochs_go_on_where_the_one_before_ended() -> None:
    plan = Schedule(0.3, 4)
    assert [rate for epoch in range(1, 5) for rate in plan.rates(epoch, 11)] == [0.3 * share(k, 44) for k in range(44)]


def test_each_step_has_its_own_rate() -> None:
    rate, seen = torch.zeros(()), []
    after_batch = paced(rate, [0.25, 0.5, 0.75], lambda images: seen.append((images, float(rate))))
    taken = [float(rate)]
    for size in (8, 8, 3):
        after_batch(size)
        taken.append(float(rate))
    assert taken[:3] == [0.25, 0.5, 0.75]
    assert [size for size, _ in seen] == [8, 8, 3]


# --- the optimizers ---


def in_torch(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    """Torch's own, unfused, with the decay of the weights of two and more dimensions."""
    groups = [
        {"params": [p for name, p in model.named_parameters() if (p.dim() > 1) == heavy], "weight_decay": 0.05 * heavy}
        for heavy in (True, False)
    ]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True, foreach=False)
    return torch.optim.AdamW(groups, lr=1.0, foreach=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["perceptron", "convolutional"])
def test_epochs_under_a_recipe_are_plain_torch_training(kind: str, name: str) -> None:
    """Three epochs: rate, optimizer, decay and smoothing, written out with torch alone, give the same weights."""
    split, build, steps = images(50), partial(without_dropout, small_models.MODELS[name]), 3
    peak = 0.05 if kind == "sgd" else 1e-3
    learner = new_learner(under(build, KINDS[kind]), Schedule(peak, 3), FP64, 7, ("trial", 0))
    found = [engine.train_epoch(learner, split, number, 20, ignore).loss for number in (1, 2, 3)]

    torch.manual_seed(engine.seed_for(7, "trial", 0, "weights"))
    model = disturbed(build()).double().train()
    optimizer, expected = in_torch(kind, model), []
    for epoch in range(3):
        seed = engine.seed_for(7, "trial", 0, "epoch", epoch + 1, "order")
        order, losses = torch.randperm(50, generator=torch.Generator().manual_seed(seed)), []
        for step, rows in enumerate(order.split(20), epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = peak * share(step, 3 * steps)
            log_odds = model(by_torchvision(split.images[rows])).log_softmax(1)
            wanted = 0.9 * nn.functional.one_hot(split.labels[rows], 10).double() + 0.01
            loss = -(wanted * log_odds).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item() * len(rows))
        expected.append(sum(losses) / 50)
    assert found == pytest.approx(expected, rel=CLOSE)
    for mine, theirs in zip(learner.model.state_dict().values(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=CLOSE)


def test_norms_biases_class_token_and_position_do_not_decay() -> None:
    model = models.find("vit").build(10)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, others = ({names[id(p)] for p in group["params"]} for group in by_decay(model, 0.1))
    assert {"class_token", "position", "head.0.weight", "patches.bias", "encoder.0.self_attn.in_proj_bias"} <= others
    assert {"patches.weight", "encoder.3.self_attn.in_proj_weight", "encoder.0.linear1.weight"} <= decaying
    assert "encoder.0.norm1.weight" in others
    assert decaying | others == set(names.values())


def test_smoothing_and_class_weights_together() -> None:
    """Each image's smoothed loss counts as its class does."""
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    wanted = 0.7 * nn.functional.one_hot(labels, 3).double() + 0.1
    each = -(wanted * logits.log_softmax(1)).sum(1)
    batch = Batch(torch.empty(0), labels)
    assert float(Criterion(None, 0.3).mean(logits, batch)) == pytest.approx(float(each.mean()), rel=1e-12)
    assert float(Criterion(weights, 0.3).mean(logits, batch)) == pytest.approx(
        float((each * weights[labels]).mean()), rel=1e-12
    )
    assert float(Criterion().mean(logits, batch)) == float(cross_entropy(logits, labels))


# --- resumed, and recorded ---


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Compute:
    monkeypatch.setattr(graphs, "record_graph", itself)
    return device.choose("cpu", "fp32")


def fresh(kind: str, compute: Compute) -> Learner:
    build = under(small_models.MODELS["convolutional"], KINDS[kind])
    return new_learner(build, Schedule(0.01, 3), compute, 7, ("trial", 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["eager", "graph"])
def test_a_resumed_schedule_gives_the_same_bytes(cpu: Compute, kind: str, step: str) -> None:
    """Epochs 2 and 3 from a snapshot, in a new learner; replayed steps take the eager ones' rates."""
    split, compute = images(45), replace(cpu, step=step)
    straight, resumed = fresh(kind, cpu), fresh(kind, compute)
    engine.train_epoch(straight, split, 1, 20, ignore)
    restore(resumed, snapshot(straight))
    for number in (2, 3):
        engine.train_epoch(straight, split, number, 20, ignore)
        engine.train_epoch(resumed, split, number, 20, ignore)
    assert state_bytes(straight) == state_bytes(resumed)
    assert all(group["lr"] is resumed.rate for group in resumed.optimizer.param_groups)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_replays_under_a_recipe_are_proven(cpu: Compute, kind: str, precision: str) -> None:
    """Steps that agree are found to; a replay that forgets a step's momentum is not."""
    compute = replace(cpu, precision=precision, step="graph")
    build = under(small_models.MODELS["convolutional"], KINDS[kind])
    assert proof.fault_of_replays(compute, build, 16, [50], itself) == ""
    learners: list[Any] = []

    def kept(*arguments: Any) -> Learner:
        learners.append(new_learner(*arguments))
        return learners[-1]

    def forgets(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        def replay() -> None:
            run()
            for state in learners[-1].optimizer.state.values():
                mean: Tensor = state.get("exp_avg", state.get("momentum_buffer"))
                mean.zero_()

        return replay

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "new_learner", kept)
        assert proof.fault_of_replays(compute, build, 16, [50], forgets)
