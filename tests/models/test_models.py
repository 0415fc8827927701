"""The five models: shapes, counts, gradients, and that they can learn at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy
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


@pytest.mark.parametrize("name", sorted(SPECIFIED))
def test_a_strong_model_has_the_same_tensors(name: str, imagenet: dict[str, Tensor]) -> None:
    """Built otherwise, with the same names and shapes: the count of the specification, gradients everywhere."""
    weights = imagenet if hasattr(models.find(name), "expected") else None
    plain = build.Builder(name, 10, 32, weights)()
    model = build.Builder(name, 10, 32, weights, recipe=models.recipe(name, "strong"))().train()
    shapes = {key: tensor.shape for key, tensor in plain.state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes
    assert build.trainable_parameters(model) == SPECIFIED[name]
    cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", models.names())
def test_a_recipe_is_read_without_the_model(name: str) -> None:
    """Its own where its file has one, the same as a Python that imports the file finds."""
    recipe, own = models.recipe(name, "strong"), getattr(models.find(name), "STRONG", {})
    assert {field: getattr(recipe, field) for field in own} == own
    assert recipe.scheduled
    assert recipe.name == "strong"
    assert models.recipe(name, "plain") is models.PLAIN
    assert not models.PLAIN.scheduled


def test_a_model_without_a_recipe_gets_adamw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "__path__", [str(tmp_path)])
    (tmp_path / "sixth.py").write_text("PARAMETERS = 1\n")
    assert models.recipe("sixth", "strong") == models.Recipe("strong", **models.GENERAL)
    assert models.recipe("sixth", "strong").optimizer == "adamw"
    (tmp_path / "sixth.py").write_text('STRONG = {"epochs": 7}\n')
    assert models.recipe("sixth", "strong") == models.Recipe("strong", **(models.GENERAL | {"epochs": 7}))
    for wrong in ('{"optimizer": "none"}', '{"augmentation": ("zoom",)}', '{"augmentation": ("mixup", "cutmix")}'):
        (tmp_path / "sixth.py").write_text(f"STRONG = {wrong}\n")
        with pytest.raises(ValueError, match=r"recipe|exclude"):
            models.recipe("sixth", "strong")


def test_the_strong_vit_is_pre_norm() -> None:
    """Its layers add to what they get: with silent last products a token comes out as it went in."""
    model = build.Builder("vit", 10, recipe=models.recipe("vit", "strong"))().train()
    layer = model.encoder[0]
    for last in (layer.self_attn.out_proj, layer.linear2):
        last.weight.data.zero_()
        last.bias.data.zero_()
    tokens = 5 + torch.randn(2, 65, 192)
    assert torch.equal(layer(tokens), tokens), "post-norm would normalise it, dropout would change it"


def test_the_strong_pretrained_stem_is_the_centre_of_the_stored_one(imagenet: dict[str, Tensor]) -> None:
    """Each channel points the same way and is as large as the stored one: of noise it gives as large activations."""
    strong = models.recipe("resnet18_pretrained", "strong")
    stem = build.Builder("resnet18_pretrained", 10, 32, imagenet, recipe=strong)().conv1.weight.detach()
    stored = imagenet["conv1.weight"]
    share = stem / stored[:, :, 2:5, 2:5]
    torch.testing.assert_close(share, share[:, :1, :1, :1].expand_as(share))
    torch.testing.assert_close(stem.flatten(1).norm(dim=1), stored.flatten(1).norm(dim=1))
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small, large = conv2d(noise, stem, padding=1), conv2d(noise, stored, padding=3)
    ratio = small[..., 3:-3, 3:-3].std() / large[..., 3:-3, 3:-3].std()
    assert float(ratio) == pytest.approx(1, rel=0.02)


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
