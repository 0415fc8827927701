"""Heats of networks whose answer can be written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from job import models
from job.engine import attribution
from job.engine.classifier import Classifier
from job.report.answers import Answers
from job.report.seen import overlay, right_rows

MEAN, STD = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def images(count: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_linear_models_gradient_is_its_weight() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3 * 8 * 8, 2)
    method, heat = attribution.heats(
        Classifier(nn.Sequential(nn.Flatten(), linear), MEAN, STD), images(3, 8), torch.tensor([0, 1, 1])
    )
    assert method == "gradient"
    for found, target in zip(heat, (0, 1, 1), strict=True):
        wanted = linear.weight[target].detach().reshape(3, 8, 8).abs().amax(dim=0)
        np.testing.assert_allclose(found, wanted / wanted.max(), rtol=1e-5)


class Summed(nn.Module):
    """Two classes, each the weighed mean of the two maps of one convolution that copies red and green."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.copy = nn.Conv2d(3, 2, 1, bias=False)
        self.copy.weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).reshape(2, 3, 1, 1)
        self.weights = torch.tensor(weights)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.copy(pixels).mean(dim=(2, 3)) @ self.weights.T


def test_layercam_takes_the_maps_that_speak_for_the_class() -> None:
    pixels = images(2, 8)
    model = Classifier(Summed([[2.0, -1.0], [-1.0, 3.0]]), MEAN, STD)
    method, heat = attribution.heats(model, pixels, torch.tensor([0, 1]))
    assert method == "layercam"
    for found, image, colour in zip(heat, pixels, (0, 1), strict=True):
        wanted = image[..., colour].double()
        np.testing.assert_allclose(found, wanted / wanted.max(), rtol=1e-5)


def test_rollout_is_the_product_of_halved_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [torch.rand(2, 5, 5, generator=generator).softmax(dim=-1) for _ in range(3)]
    through = attribution.rolled(layers)
    wanted = np.eye(5)
    for layer in layers:
        wanted = (0.5 * layer[1].double().numpy() + 0.5 * np.eye(5)) @ wanted
    np.testing.assert_allclose(through[1], wanted, rtol=1e-5)
    np.testing.assert_allclose(through.sum(dim=-1), np.ones((2, 5)), rtol=1e-5)
    assert attribution.patches(through).shape == (2, 2, 2)
    np.testing.assert_array_equal(attribution.patches(through)[0].flatten(), through[0, 0, 1:])
    with pytest.raises(ValueError, match="no square"):
        attribution.patches(torch.zeros(1, 7, 7))


@pytest.mark.parametrize(
    ("name", "method"), [("mlp", "gradient"), ("cnn", "layercam"), ("resnet18", "layercam"), ("vit", "rollout")]
)
def test_each_model_has_its_method_and_comes_out_equal(name: str, method: str) -> None:
    """Batched or alone; the model's answers are the same afterwards, and no hook stays."""
    torch.manual_seed(0)
    model = Classifier(models.find(name).build(10), MEAN, STD).eval()
    pixels, targets = images(3), torch.tensor([0, 4, 9])
    before = model(pixels)
    found, heat = attribution.heats(model, pixels, targets)
    assert found == method
    assert heat.shape == (3, 32, 32)
    assert heat.min() >= 0
    np.testing.assert_allclose(heat.max(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_array_equal(attribution.heats(model, pixels, targets)[1], heat)
    alone = attribution.heats(model, pixels[1:2], targets[1:2])[1]
    np.testing.assert_allclose(alone[0], heat[1], rtol=1e-3, atol=1e-4)
    assert torch.equal(model(pixels), before)


class Odd(nn.Module):
    """A user's own: nothing in it has a gradient, and its convolution no maps."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(3, 2, kernel_size=32)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.small(pixels).flatten(1)


def test_a_network_that_no_method_fits_gets_none() -> None:
    method, heat = attribution.heats(Classifier(Odd(), MEAN, STD), images(2), torch.tensor([0, 1]))
    assert method == ""
    assert not heat.any()


def test_the_surest_right_image_of_each_class() -> None:
    answers = Answers(
        tuple("abcdef"),
        np.array([0, 0, 0, 1, 1, 2]),
        np.array([0, 0, 1, 1, 1, 0]),
        np.array([0.6, 0.9, 0.99, 0.8, 0.8, 0.7]),
    )
    assert right_rows(answers, 3) == (1, 3), "class 2 has none, of equals the first"


def test_heat_lies_over_a_grey_image() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    heat = np.array([[0, 1 / 3], [2 / 3, 1]], np.float32)
    laid = overlay(white, heat)
    assert laid[0, 0].tolist() == [115, 115, 115]
    assert laid[0, 1].tolist() == [255, 115, 115]
    assert laid[1, 0].tolist() == [255, 255, 115]
    assert laid[1, 1].tolist() == [255, 255, 255]
    assert overlay(np.zeros((224, 224, 3), np.uint8), np.zeros((224, 224), np.float32)).shape == (112, 112, 3)
