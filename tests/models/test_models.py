"""The five models: shapes, counts, gradients, and that they can learn at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18 as torchvision_resnet18

from job import models
from job.engine import build
from job.errors import Fault, TemporaryFault
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
    return partial(module.build, weights=imagenet) if hasattr(module, "load_weights") else module.build


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
    model = module.build(10, imagenet) if hasattr(module, "load_weights") else module.build(10)
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


def test_pretrained_keeps_the_body_and_replaces_stem_and_head(tmp_path: Path, imagenet: dict[str, Tensor]) -> None:
    torch.save(imagenet, tmp_path / "weights.pth")
    model = build.builder("resnet18_pretrained", 10, str(tmp_path / "weights.pth"))()
    loaded = model.state_dict()
    for name, tensor in imagenet.items():
        if name.startswith(("conv1.", "fc.")):
            assert loaded[name].shape != tensor.shape
        else:
            assert torch.equal(loaded[name], tensor), name


def test_pretrained_weights_from_a_url(
    tmp_path: Path, imagenet: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(imagenet, tmp_path / "weights.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    model = build.builder("resnet18_pretrained", 10, (tmp_path / "weights.pth").as_uri())()
    assert torch.equal(model.state_dict()["layer1.0.conv1.weight"], imagenet["layer1.0.conv1.weight"])


class Planted:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("this must not be printed",))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "layer3.0.conv1.weight"}, "missing: layer3.0.conv1.weight"),
        (lambda w: w | {"extra": torch.zeros(1)}, "unknown: extra"),
        (lambda w: w | {"fc.bias": torch.zeros(7)}, "fc.bias: shape [7] where [1000] is needed"),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, "more"),
        (lambda w: list(w.values()), "not a state_dict"),
        (lambda w: {"code": Planted()}, "cannot be read"),
        (lambda w: w | {"fc.bias": "text"}, "fc.bias: not a tensor"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path,
    imagenet: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Tensor]], object],
    told: str,
) -> None:
    torch.save(change(dict(imagenet)), tmp_path / "weights.pth")
    with pytest.raises(Fault, match="PRETRAINED_WEIGHTS") as caught:
        build.builder("resnet18_pretrained", 10, str(tmp_path / "weights.pth"))
    assert told in str(caught.value)
    assert not isinstance(caught.value, TemporaryFault)
    assert "must not be printed" not in capsys.readouterr().out


def test_weights_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"not a zip file")
    with pytest.raises(Fault, match=r"weights\.pth cannot be read"):
        build.builder("resnet18_pretrained", 10, str(tmp_path / "weights.pth"))
    with pytest.raises(Fault, match="is not a file"):
        build.builder("resnet18_pretrained", 10, str(tmp_path / "missing.pth"))


def test_weights_behind_a_dead_address_may_be_tried_again() -> None:
    with pytest.raises(TemporaryFault, match="PRETRAINED_WEIGHTS"):
        build.builder("resnet18_pretrained", 10, "http://127.0.0.1:9/weights.pth")
