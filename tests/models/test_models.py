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


@pytest.mark.parametrize("name", models.names())
def test_parameter_count(name: str, imagenet: dict[str, Tensor]) -> None:
    module = models.find(name)
    model = module.build(10, imagenet) if hasattr(module, "expected") else module.build(10)
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
    model = build.builder("resnet18_pretrained", 10, imagenet)()
    loaded = model.state_dict()
    for name, tensor in imagenet.items():
        if name.startswith(("conv1.", "fc.")):
            assert loaded[name].shape != tensor.shape
        else:
            assert torch.equal(loaded[name], tensor), name
