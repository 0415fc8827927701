"""Weights in one row: the same training, and the model's own names and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from job import engine
from job.data import Split
from job.device.flat import Piece, flatten, run, views
from job.device.fused import fuse
from job.engine.learner import Learner, new_learner, restore, snapshot
from job.engine.schedule import Schedule
from tests.helpers import small_models
from tests.helpers.recipes import ADAMW, SGD, under
from tests.helpers.rounding import CLOSE, FP64


class Odd(nn.Module):
    """Tied weights, frozen ones, ones that nobody uses, and ones that are not of products."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 7), nn.Linear(7, 7)
        self.second.weight = self.first.weight
        self.norm, self.spare, self.head = nn.LayerNorm(7), nn.Linear(3, 2), nn.Linear(7, 64)
        self.first.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.second(self.first(x))))


def test_the_model_keeps_its_names_and_values() -> None:
    torch.manual_seed(0)
    model, x = Odd(), torch.randn(5, 7)
    before, answer = {name: one.clone() for name, one in model.state_dict().items()}, model(x)
    pieces = flatten(model, torch.bfloat16, True, True)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert model.first.weight is model.second.weight
    assert torch.equal(model(x), answer)
    names = [place.name for piece in pieces for place in piece.places]
    assert sorted(names) == sorted(name for name, one in model.named_parameters() if one.requires_grad)
    assert {place.name for piece in pieces if piece.half is None for place in piece.places} == {
        "norm.weight",
        "norm.bias",
    }


def test_weights_that_are_loaded_reach_the_row_and_steps_reach_the_model() -> None:
    torch.manual_seed(0)
    model, other = Odd(), Odd()
    pieces = flatten(model, None, True, False)
    model.load_state_dict(other.state_dict())
    x = torch.randn(5, 7)
    assert torch.equal(run(model, views(pieces), x), other(x))
    with torch.no_grad():
        pieces[0].weights.zero_()
    assert not model.head.weight.any()


def starts(piece: Piece) -> dict[str, int]:
    sizes = [place.shape.numel() for place in piece.places]
    return {place.name: sum(sizes[:number]) for number, place in enumerate(piece.places)}


def test_matrices_begin_where_quick_kernels_want_them() -> None:
    """Multiples of 16 bytes in half precision, without gaps, also behind a bias of ten."""
    model = nn.Sequential(nn.Linear(24, 10), nn.Linear(10, 16), nn.Linear(16, 3))
    (piece,) = flatten(model, torch.bfloat16, True, False)
    at = starts(piece)
    assert all(at[name] % 8 == 0 for name in ("0.weight", "1.weight", "2.weight"))
    assert len(piece.weights) == sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("kind", ["adam", "sgd", "adamw"])
@pytest.mark.parametrize("name", ["perceptron", "convolutional"])
def test_training_is_that_of_weights_apart(kind: str, name: str) -> None:
    """Two epochs of every optimizer, the second one from a snapshot."""
    build: Callable[[], nn.Module] = small_models.MODELS[name]
    if kind != "adam":
        build = under(build, {"sgd": SGD, "adamw": ADAMW}[kind])
    random = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (30, 32, 32, 3), dtype=torch.uint8, generator=random)
    course = engine.Course(Split(pixels, torch.arange(30) % 10), Split(pixels[:9], torch.arange(9)), 8)
    rate = 1e-3 if kind == "adam" else Schedule(1e-2, 2)
    new = partial(new_learner, build, rate)
    apart, flat = (new(compute, 7, ("trial", 0)) for compute in (FP64, replace(FP64, flat=True)))
    assert isinstance(flat, Learner)
    assert flat.pieces
    expected, found = ([*engine.epochs(each, course, range(1, 2))] for each in (apart, flat))
    again = new(replace(FP64, flat=True), 7, ("trial", 0))
    restore(again, snapshot(flat))
    expected += engine.epochs(apart, course, range(2, 3))
    found += engine.epochs(again, course, range(2, 3))
    for (_, *one), (_, *other) in zip(found, expected, strict=True):
        assert [each.loss for each in one] == pytest.approx([each.loss for each in other], rel=CLOSE)
    for mine, theirs in zip(again.model.state_dict().values(), apart.model.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=CLOSE)


def test_half_precision_is_what_autocast_gives() -> None:
    """Loss and gradients of a model with products and norms, to the bit."""
    torch.manual_seed(0)
    model, x = Odd(), torch.randn(16, 7)
    model.second.weight = nn.Parameter(model.first.weight.detach().clone())
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        expected = model(x)
    weights = [model.first.weight, model.second.weight, model.norm.weight, model.head.weight]
    gradients = torch.autograd.grad(expected.float().square().mean(), weights)
    pieces = flatten(model, torch.bfloat16, True, False)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        found = run(model, views(pieces), x)
    assert torch.equal(found, expected)
    found.float().square().mean().backward()
    of = {}
    for piece in pieces:
        assert piece.weights.grad is not None
        parts = torch.split(piece.weights.grad, [place.shape.numel() for place in piece.places])
        of |= {place.name: place.seen(part) for place, part in zip(piece.places, parts, strict=True)}
    for name, gradient in zip(("first", "second", "norm", "head"), gradients, strict=True):
        assert torch.equal(of[f"{name}.weight"], gradient)


@pytest.mark.parametrize("training", [True, False])
def test_fused_attention_is_torchs(training: bool) -> None:
    """An encoder layer in float64: its answers and the gradients of all weights."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 3, 8, 0.0, batch_first=True).double().train(training)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    found = []
    for model in (layer, fuse(layer)):
        loss = model(x).square().sum()
        found.append([loss, *torch.autograd.grad(loss, list(layer.parameters()))])
    for mine, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=CLOSE, atol=CLOSE)
