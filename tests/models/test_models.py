"""The five models: shapes, counts, gradients, and that they can learn at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18 as torchvision_resnet18

from job import models
from job.engine import build
from tests.helpers.rounding import disturbed
from tests.helpers.small_models import without_dropout

SPECIFIED = {
    "mlp": 1_707_274,
    "cnn": 1_147_914,
    "resnet18": 11_173_962,
    "resnet18_pretrained": 11_173_962,
    "vit": 1_212_490,
}


@pytest.fixture(scope="session")
def imagenet() -> dict[str, Tensor]:
    """A full-size state_dict of torchvision's ResNet-18; random, since ImageNet's own cannot be fetched in a test."""
    torch.manual_seed(0)
    weights: dict[str, Tensor] = torchvision_resnet18(weights=None).state_dict()
    return weights


@pytest.fixture
def builder(request: pytest.FixtureRequest, imagenet: dict[str, Tensor]) -> Callable[[int], nn.Module]:
    module = models.find(request.param)
    return partial(module.build, weights=imagenet) if hasattr(module, "expected") else module.build


def test_the_models_of_the_specification_are_there() -> None:
    """There may be further ones: all other tests here are for whatever is in job/models/."""
    assert set(models.names()) >= set(SPECIFIED)
    assert {name: models.find(name).PARAMETERS for name in SPECIFIED} == SPECIFIED


@pytest.mark.parametrize("builder", models.names(), indirect=True, ids=str)
@pytest.mark.parametrize("classes", [2, 10])
def test_shape_and_gradient(builder: Callable[[int], nn.Module], classes: int) -> None:
    torch.manual_seed(0)
    model = builder(classes).train()
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, classes)
    cross_entropy(logits, torch.arange(4) % classes).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == [], "parameters that nothing reaches"


@pytest.mark.parametrize("side", [40, 96])
@pytest.mark.parametrize("name", sorted(SPECIFIED))
def test_other_sizes(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build.Builder(name, 3, side)()
    assert model.eval()(torch.randn(2, 3, side, side)).shape == (2, 3)
    assert build.trainable_parameters(model) == build.parameters(name, 3, side)


@pytest.mark.parametrize("name", sorted(SPECIFIED))
def test_at_32_pixels_nothing_is_told_apart(name: str) -> None:
    module, states = models.find(name), []
    for make in (lambda: module.build(10), build.Builder(name, 10), build.Builder(name, 10, 32)):
        torch.manual_seed(3)
        states.append(make().state_dict())
    assert all(torch.equal(states[0][key], other[key]) for other in states for key in states[0])
    assert build.parameters(name, 10, 32) == SPECIFIED[name]


def test_a_large_pretrained_model_keeps_the_stem(imagenet: dict[str, Tensor]) -> None:
    """At 224 pixels its features are those of torchvision's network with the same weights."""
    model = build.Builder("resnet18_pretrained", 7, 224, imagenet)().eval().double()
    theirs = torchvision_resnet18(weights=None).eval().double()
    theirs.load_state_dict(imagenet)
    model.fc, theirs.fc = torch.nn.Identity(), torch.nn.Identity()
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(model(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", models.names())
def test_parameter_count(name: str, imagenet: dict[str, Tensor]) -> None:
    module = models.find(name)
    model = module.build(10, weights=imagenet) if hasattr(module, "expected") else module.build(10)
    assert build.trainable_parameters(model) == module.PARAMETERS


@pytest.mark.parametrize("builder", models.names(), indirect=True, ids=str)
def test_one_batch_overfits(builder: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    model = disturbed(without_dropout(partial(builder, 10)))
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(60):
        loss = cross_entropy(model(images), labels)
        if loss < 0.05:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"after 60 steps the loss on one batch is still {loss:.3f}")


def test_vit_layers_start_from_different_weights() -> None:
    first, second, *_ = models.find("vit").build(10).encoder
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_vit_tokens_start_at_zero() -> None:
    model = models.find("vit").build(10)
    assert not model.class_token.any()
    assert not model.position.any()


def test_pretrained_keeps_the_body_and_replaces_stem_and_head(imagenet: dict[str, Tensor]) -> None:
    model = build.Builder("resnet18_pretrained", 10, 32, imagenet)()
    loaded = model.state_dict()
    for name, tensor in imagenet.items():
        if name.startswith(("conv1.", "fc.")):
            assert loaded[name].shape != tensor.shape
        else:
            assert torch.equal(loaded[name], tensor), name
