"""Augmentation against the same written out for one image at a time in Python's own whole numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from job import device, engine
from job.device import Compute, graphs
from job.engine import proof
from job.engine.augmentation import Augmentation, Batch, augmentation, augmented, blended, draws, mixed, shown
from job.engine.criterion import Criterion
from job.engine.learner import new_learner, restore, snapshot
from job.engine.schedule import Schedule
from job.engine.step import normalise
from job.models import Recipe
from tests.engine.test_engine import ignore, images
from tests.engine.test_graphs import itself, state_bytes
from tests.helpers import small_models
from tests.helpers.recipes import ADAMW, SGD, under

SEED = 0x123456789ABCDEF0 >> 1
EVERYTHING = (
    ("crop",),
    ("shift",),
    ("flip",),
    ("cutout",),
    ("crop", "flip", "cutout"),
    ("crop", "flip", "cutout", "cutmix"),
)


def how(*parts: str, seed: int = SEED) -> Augmentation:
    made = augmentation(Recipe("strong", "adamw", (0.1, 0.2), epochs=1, augmentation=parts), torch.device("cpu"))
    assert made is not None
    made.begin(seed)
    return made


def by_hand(x: int) -> int:
    """The hash, in numbers without an end."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) % 2**32
    x = ((x ^ (x >> 15)) * 0x735A2D97) % 2**32
    return x ^ (x >> 15)


def drawn_by_hand(seed: int, row: int, number: int) -> int:
    word = by_hand(by_hand((number * 0x61C88647 + seed) % 2**32) ^ (seed >> 32))
    return by_hand(row ^ word)


def changed_by_hand(
    parts: Sequence[str], pixels: NDArray[np.uint8], row: int, partner: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """One image, and the share of it that is its own; `partner` is the one before it, after its own changes."""
    side, draw = len(pixels), [drawn_by_hand(SEED, row, number) for number in range(11)]
    result, own = pixels, 1.0
    if "flip" in parts and draw[2] >= 2**31:
        result = result[:, ::-1]
    if "crop" in parts or "shift" in parts:
        p = side // 8 if "crop" in parts else side // 16
        padded = np.pad(result, ((p, p), (p, p), (0, 0)), mode="reflect")
        down, right = (draw[k] * (2 * p + 1) // 2**32 for k in (0, 1))
        result = padded[down : down + side, right : right + side]
    result = result.copy()
    if "cutout" in parts:
        (y, x), half = ((draw[k] * side // 2**32 for k in (3, 4)), side // 8)
        result[max(0, y - half) : y + half, max(0, x - half) : x + half] = (125, 123, 114)
    if "cutmix" in parts:
        across = math.floor(side * math.sqrt((draw[5] // 2**22 + 0.5) / 1024) + 0.5)
        y, x = (draw[k] * side // 2**32 - across // 2 for k in (6, 7))
        box = np.zeros((side, side), bool)
        box[max(0, y) : max(0, y + across), max(0, x) : max(0, x + across)] = True
        result[box], own = partner[box], 1 - box.mean()
    return result, own


@pytest.mark.parametrize("parts", EVERYTHING, ids="+".join)
@pytest.mark.parametrize("side", [32, 40])
def test_every_pixel_is_the_one_that_it_must_be(parts: tuple[str, ...], side: int) -> None:
    pixels = torch.randint(0, 256, (40, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows, labels = torch.randperm(50_000, generator=torch.Generator().manual_seed(2))[:40], torch.arange(40) % 10
    batch = augmented(how(*parts), pixels, labels, rows)
    without = [part for part in parts if part != "cutmix"]
    numbered = list(zip(pixels.numpy(), rows.tolist(), strict=True))
    before = [changed_by_hand(without, one, row, one)[0] for one, row in numbered]
    for place, (one, row) in enumerate(numbered):
        expected, own = changed_by_hand(parts, one, row, before[place - 1])
        assert np.array_equal(batch.images[place].numpy(), expected), f"image {place}"
        if batch.share is not None and batch.partners is not None:
            assert float(batch.share[place]) == pytest.approx(own, rel=1e-6)
            assert int(batch.partners[place]) == int(labels[place - 1])
    if batch.share is not None:
        assert {bool(share > 0.9) for share in batch.share} == {True, False}
    assert any(not np.array_equal(batch.images[k].numpy(), pixels[k].numpy()) for k in range(40))


def test_the_hash_is_one_of_whole_numbers() -> None:
    numbers = torch.randint(0, 2**32, (1000,), generator=torch.Generator().manual_seed(3))
    assert mixed(numbers).tolist() == [by_hand(number) for number in numbers.tolist()]
    assert mixed(torch.tensor([2**32 - 1, 0, 1])).tolist() == [by_hand(2**32 - 1), by_hand(0), by_hand(1)]


def test_each_bit_of_an_image_s_number_moves_half_of_its_draws_bits() -> None:
    """And so does each bit of the epoch's seed: neighbours have nothing in common."""
    rows = torch.arange(4096)

    def bits(seed: int, rows: torch.Tensor) -> NDArray[np.uint8]:
        drawn = draws(how("crop", seed=seed).key, rows).numpy().astype("<u4")
        return np.unpackbits(drawn.view(np.uint8))

    base = bits(SEED, rows)
    for bit in range(20):
        assert np.mean(base != bits(SEED, rows ^ (1 << bit))) == pytest.approx(0.5, abs=0.005)
    for bit in range(63):
        assert np.mean(base != bits(SEED ^ (1 << bit), rows)) == pytest.approx(0.5, abs=0.005)


def test_draws_are_spread_evenly() -> None:
    """50,000 images, 81 places to crop: counts as far apart as a fair die's (chi-squared, 80 degrees of freedom)."""
    drawn = draws(how("crop").key, torch.arange(50_000))
    places = (drawn[:, 0] * 9 >> 32) * 9 + (drawn[:, 1] * 9 >> 32)
    counts = np.bincount(places.numpy(), minlength=81)
    chi_squared = float(((counts - 50_000 / 81) ** 2 / (50_000 / 81)).sum())
    assert 40 < chi_squared < 133  # 0.0001 below and above
    assert float((drawn.double() / 2**32).mean()) == pytest.approx(0.5, abs=0.002)


def test_an_image_is_changed_alike_in_any_company() -> None:
    split, rows = images(64), torch.arange(64)
    whole = augmented(how("crop", "flip", "cutout"), split.images, split.labels, rows).images
    some = rows[torch.randperm(64, generator=torch.Generator().manual_seed(0))][:7]
    part = augmented(how("crop", "flip", "cutout"), split.images[some], split.labels[some], some).images
    assert torch.equal(part, whole[some])
    other = augmented(how("crop", "flip", "cutout", seed=SEED + 1), split.images, split.labels, rows).images
    assert not torch.equal(other, whole)


def test_mixup_is_the_weighted_mean() -> None:
    split = images(33)
    batch = augmented(how("mixup"), split.images, split.labels, torch.arange(33))
    assert batch.blend
    assert batch.share is not None
    assert float(batch.share.min()) >= 0.5, "the larger part is the image's own, and so is its label"
    assert torch.equal(batch.judged, split.labels)
    inputs = normalise(batch.images, torch.float64)
    found = blended(inputs, batch.share.double())
    own = batch.share.double()[:, None, None, None]
    torch.testing.assert_close(found, own * inputs + (1 - own) * inputs.roll(1, 0), rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)
    seen = shown(how("mixup"), split.images, torch.arange(33))
    pixels = split.images.permute(0, 3, 1, 2).double()
    torch.testing.assert_close(
        seen.permute(0, 3, 1, 2).double(), blended(pixels, batch.share.double()), rtol=0, atol=0.5
    )


def test_mixup_shares_are_beta_distributed() -> None:
    """Beta(1/2, 1/2), of which the larger part is taken: mean 1/2 + 1/pi, and no two neighbours in the table alike."""
    shares = how("mixup").shares.double()
    assert float(shares.mean()) == pytest.approx(0.5 + 1 / math.pi, abs=1e-5)
    assert float(shares.max()) < 1
    assert float(how("cutmix").shares.double().square().mean()) == pytest.approx(0.5, abs=1e-6), "areas are uniform"


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_mixed_labels_count_by_their_share(weights: tuple[float, ...] | None) -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 2, 1]), torch.tensor([1, 0, 1, 2, 2])
    share = torch.tensor([1.0, 0.25, 0.5, 0.75, 0.0], dtype=torch.float64)
    counting = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    batch = Batch(torch.empty(0), labels, partners, share)
    each = [
        cross_entropy(logits[k : k + 1], own[k : k + 1], label_smoothing=0.1)
        * part
        * (weights[own[k]] if weights else 1)
        for k in range(5)
        for own, part in ((labels, share[k]), (partners, 1 - share[k]))
    ]
    assert float(Criterion(counting, 0.1).mean(logits, batch)) == pytest.approx(float(sum(each)) / 5, rel=1e-12)
    assert batch.judged.tolist() == [0, 0, 2, 2, 2]


# --- in an epoch ---


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Compute:
    monkeypatch.setattr(graphs, "record_graph", itself)
    return device.choose("cpu", "fp32")


CASES: dict[str, dict[str, Any]] = {
    "sgd-cutmix": SGD | {"augmentation": ("crop", "flip", "cutmix")},
    "adamw-mixup": ADAMW | {"augmentation": ("crop", "flip", "cutout", "mixup")},
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_and_replayed_it_is_the_same_to_the_byte(cpu: Compute, case: str) -> None:
    """Order, draws and rates of each epoch's own, a last batch of a single image, and steps by the counter."""
    build, split = under(small_models.MODELS["convolutional"], CASES[case]), images(41)
    plan = Schedule(0.01, 3)
    straight = new_learner(build, plan, cpu, 7, ("trial", 0))
    first = engine.train_epoch(straight, split, 1, 20, ignore)
    state = snapshot(straight)
    expected = [engine.train_epoch(straight, split, number, 20, ignore) for number in (2, 3)]
    for compute in (cpu, replace(cpu, step="graph")):
        again = new_learner(build, plan, compute, 7, ("trial", 0))
        assert engine.train_epoch(again, split, 1, 20, ignore) == first
        resumed = new_learner(build, plan, compute, 7, ("trial", 0))
        restore(resumed, deepcopy(state))  # which an optimizer takes as its own
        assert [engine.train_epoch(resumed, split, number, 20, ignore) for number in (2, 3)] == expected
        assert state_bytes(resumed) == state_bytes(straight)
    other = new_learner(build, plan, cpu, 8, ("trial", 0))
    assert engine.train_epoch(other, split, 1, 20, ignore) != first


@pytest.mark.parametrize("case", CASES)
def test_replays_of_augmented_steps_are_proven(cpu: Compute, case: str) -> None:
    build = under(small_models.MODELS["convolutional"], CASES[case])
    assert proof.fault_of_replays(replace(cpu, step="graph"), build, 16, [50], itself) == ""
