"""Images on the device, in the host's memory or on the disk: the same bytes of result, and never the whole set in
memory where they are on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from job import device, engine, models
from job.data import Split
from job.data.split import split_of
from job.device import Compute, feed, graphs
from job.device.feed import Feed
from job.device.mapping import Mapping
from job.engine.build import Builder
from job.engine.learner import Learner, new_learner, snapshot
from job.errors import TemporaryFault
from job.search.stacked.architecture import architecture
from job.search.stacked.epochs import epoch
from job.search.stacked.state import fresh, joined
from job.search.stacked.step import Stack

CPU = torch.device("cpu")
COUNT, BATCH = 41, 16


def mapped(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Mapping:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join([pixels.tobytes(), b"what comes behind"]))
        file.flush()
        return Mapping(file, pixels.shape)


def splits(count: int = COUNT, side: int = 32) -> dict[str, Split]:
    """The same images at each place; on the disk they begin some rows behind the beginning."""
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count + 3, side, side, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, count)
    here, file = split_of(pixels[3:], labels), mapped(pixels)
    there = split_of(file.array[3:], labels)
    return {
        "device": here,
        "host": here.fed(Feed(CPU)),
        "disk": there.fed(Feed(CPU, file, file.first_row(there.images.numpy()))),
    }


@pytest.fixture(params=["host", "disk"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_images_are_the_same_ones(place: str) -> None:
    at = splits()
    here, there = at["device"], at[place]
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    for sizes in ([COUNT], [16, 16, 9], [1] * COUNT, [7, 34], [40, 1]):
        for one, other in zip(here.batches(order, sizes), there.batches(order, sizes), strict=True):
            assert torch.equal(one, other)
    for size in (1, 7, 41, 100):
        for one, other in zip(here.in_turn(size), there.in_turn(size), strict=True):
            assert all(map(torch.equal, one, other))
    rows = np.array([40, 3, 3, 0])
    assert torch.equal(here.at(rows), there.at(rows))
    twice = [split.take(np.arange(30, 5, -1)).take(np.array([4, 0, 24])) for split in (here, there)]
    assert torch.equal(twice[0].at(np.arange(3)), twice[1].at(np.arange(3)))
    assert torch.equal(twice[0].labels, twice[1].labels)
    assert twice[1].images is there.images, "copied, where naming would do"
    empty = there.take(np.zeros(0, np.int64))
    assert (len(empty), list(empty.in_turn(5)), len(empty.at(np.zeros(0, np.int64)))) == (0, [], 0)


def state_bytes(learner: Learner) -> list[bytes]:
    state = snapshot(learner)
    means = [value for each in state["optimizer"]["state"].values() for value in each.values()]
    tensors = [value for value in (*state["model"].values(), *means) if isinstance(value, torch.Tensor)]
    return [tensor.contiguous().numpy().tobytes() for tensor in tensors]


@pytest.fixture(params=["eager", "graph"])
def compute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Compute:
    """fp32 on a CPU; where `step` is graph, the step finds its batch in a buffer that stays where it is."""
    monkeypatch.setattr(graphs, "record_graph", lambda run, pool: run)
    return replace(device.choose("cpu", "fp32"), step=request.param)


@pytest.mark.parametrize("recipe", ["plain", "strong"])
@pytest.mark.parametrize("name", ["mlp", "cnn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_epochs_and_scores_are_equal_bit_by_bit(place: str, compute: Compute, name: str, recipe: str) -> None:
    at = splits()
    trained = {}
    for where in ("device", place):
        split = at[where].take(np.arange(COUNT - 1, -1, -1))
        learner = new_learner(Builder(name, 10, recipe=models.recipe(name, recipe)), 1e-3, compute, 7, ("trial", 0))
        scores = [engine.train_epoch(learner, split, number, BATCH, lambda count: None) for number in (1, 2)]
        scores.append(engine.evaluate(learner.model, split, compute, lambda count: None))
        logits = engine.predict(learner.model, split, compute, lambda count: None)
        assert (learner.recorded is not None) == (compute.step == "graph")
        trained[where] = scores, logits.numpy().tobytes(), state_bytes(learner)
    assert trained["device"] == trained[place]


def test_stacks_are_equal_bit_by_bit(place: str) -> None:
    """Three learners that train as one model, each in its own order."""
    compute, build = device.choose("cpu", "fp32"), partial(models.find("mlp").build, 10)
    parts = [("trial", number) for number in range(3)]
    kind, at, found = architecture(build, compute), splits(), {}
    for where in ("device", place):
        state = joined([fresh(build, kind, compute, 0, part) for part in parts])
        stack = Stack(kind, compute, 0, [(part, 1e-3) for part in parts], state)
        scores = epoch(stack, engine.Course(at[where], at[where], BATCH), (1, 1, 2))
        found[where] = scores, stack.state.weights.numpy().tobytes()
    assert found["device"] == found[place]


def test_a_loop_that_is_left_early_leaves_no_thread(place: str) -> None:
    import threading

    before = threading.active_count()
    for _ in splits()[place].batches(torch.arange(COUNT), [1] * COUNT):
        break
    assert threading.active_count() == before


def test_no_more_than_a_few_batches_are_gathered_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[int] = []
    real = Feed.gather

    def gather(self: Feed, images: torch.Tensor, rows: torch.Tensor, into: torch.Tensor) -> None:
        gathered.append(int(rows[0]))
        real(self, images, rows, into)

    monkeypatch.setattr(Feed, "gather", gather)
    batches: Iterator[torch.Tensor] = splits()["host"].batches(torch.arange(COUNT), [1] * COUNT)
    for number in range(10):
        next(batches)
        assert len(gathered) <= number + feed.SLOTS


def test_a_cache_that_is_cut_short_is_told(tmp_path: Path) -> None:
    """Where a mapping would end the process with SIGBUS, whoever reads gets a message, and code 75."""
    pixels = np.zeros((8, 64, 64, 3), np.uint8)
    kept = tmp_path / "kept.images"
    kept.write_bytes(pixels.tobytes())
    with kept.open("rb") as file:
        mapping = Mapping(file, pixels.shape)
    split = split_of(mapping.array, np.zeros(8, np.int64)).fed(Feed(CPU, mapping))
    assert len(split.at(np.arange(8))) == 8
    with kept.open("r+b") as file:
        file.truncate(5 * 64 * 64 * 3 + 17)
    assert len(split.at(np.arange(5))) == 5
    with pytest.raises(TemporaryFault, match="cut short"):
        split.at(np.arange(8))


@pytest.mark.parametrize(("side", "images"), [(32, 1000), (64, 1000), (96, 888), (224, 163), (512, 31)])
def test_large_images_are_judged_fewer_at_a_time(side: int, images: int) -> None:
    """What a model keeps of a batch grows with its pixels: 1,000 photographs of 224 pixels would take gigabytes."""
    assert engine.evaluation_batch(side) == images
