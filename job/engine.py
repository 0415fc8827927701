"""The mathematics: one step, one evaluation, and epochs as a stream of records. No input or output, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from job.data import Split
from job.device import Compute
from job.results import Epoch, Score
from job.seeds import seed_for

# Mean and standard deviation of each colour after scaling to [0, 1]; the values commonly used for CIFAR-10.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
EVALUATION_BATCH = 1000

OnBatch = Callable[[int], object]
"""Called after every batch with its count of images; it may raise to stop there."""


@dataclass
class Learner:
    """What learns: a model with its optimizer. `part` names its place in the run, e.g. `("trial", 3)`, and seeds it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    compute: Compute
    seed: int
    part: tuple[str | int, ...]


@dataclass(frozen=True)
class Paused:
    """A part of a run that an earlier attempt began: its epochs so far and the learner after the last of them."""

    history: tuple[Epoch, ...]
    learner: dict[str, Any]


def new_learner(
    build: Callable[[], nn.Module], learning_rate: float, compute: Compute, seed: int, part: tuple[str | int, ...]
) -> Learner:
    """A fresh model and Adam. Weights are drawn on the CPU, so that every device starts from the same ones."""
    torch.manual_seed(seed_for(seed, *part, "weights"))
    model = compute.place(build())
    return Learner(model, compute.adam(model, learning_rate), compute.scaler(), compute, seed, part)


def snapshot(learner: Learner) -> dict[str, Any]:
    """A copy on the CPU of everything that the next epoch depends on; strides are kept."""
    return {
        "model": on_cpu(learner.model.state_dict()),
        "optimizer": on_cpu(learner.optimizer.state_dict()),
        "scaler": on_cpu(learner.scaler.state_dict()),
    }


def restore(learner: Learner, state: dict[str, Any]) -> None:
    """Sets a fresh learner to what `snapshot` copied."""
    learner.model.load_state_dict(state["model"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.scaler.load_state_dict(state["scaler"])


def on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return [on_cpu(item) for item in value] if isinstance(value, list) else value


def normalise(images: Tensor) -> Tensor:
    """uint8 `[batch, 32, 32, 3]` to float32 `[batch, 3, 32, 32]`, mean 0 and variance 1, channels-last in memory."""
    scale, shift = scale_and_shift(images.device)
    return images.float().mul_(scale).add_(shift).permute(0, 3, 1, 2)


@lru_cache
def scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """`pixel * scale + shift` normalises; float32 `[3]` each, copied to the device once."""
    scale = torch.tensor([1 / (255 * std) for std in STD], device=device)
    shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=device)
    return scale, shift


def train_step(learner: Learner, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One Adam step on a batch (uint8 `[batch, 32, 32, 3]`, int64 `[batch]`).

    Returns the mean loss and the count of right answers before the step, as scalars still on the device.
    """
    with learner.compute.autocast():
        logits = learner.model(normalise(images))  # [batch, classes]
    loss = cross_entropy(logits.float(), labels)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()


def train_epoch(learner: Learner, split: Split, number: int, batch_size: int, on_batch: OnBatch) -> Score:
    """One pass in an order that depends on the seed, the learner's part and the epoch's number alone.

    The last batch may be smaller; every image counts once.
    """
    count, device = len(split), split.labels.device
    generator = torch.Generator().manual_seed(seed_for(learner.seed, *learner.part, "epoch", number, "order"))
    order = torch.randperm(count, generator=generator).to(device)
    torch.manual_seed(seed_for(learner.seed, *learner.part, "epoch", number, "dropout"))
    learner.model.train()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, count, batch_size):
        rows = order[start : start + batch_size]
        loss, right = train_step(learner, split.images[rows], split.labels[rows])
        loss_sum += loss.double() * len(rows)
        correct += right
        on_batch(len(rows))
    return score(learner.compute, loss_sum, correct, count)


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch) -> Score:
    """Mean loss and accuracy over all images, the model in evaluation mode."""
    count, device = len(split), split.labels.device
    model.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, count, EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        labels = split.labels[rows]
        with compute.autocast():
            logits = model(normalise(split.images[rows]))  # [batch, classes]
        loss_sum += cross_entropy(logits.float(), labels, reduction="sum").double()
        correct += (logits.argmax(dim=1) == labels).sum()
        on_batch(len(labels))
    return score(compute, loss_sum, correct, count)


@torch.no_grad()
def predict(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch) -> Tensor:
    """The logits of all images, float32 `[count, classes]` on the CPU, computed in `evaluate`'s very batches."""
    model.eval()
    parts = []
    for start in range(0, len(split), EVALUATION_BATCH):
        images = split.images[start : start + EVALUATION_BATCH]
        with compute.autocast():
            logits = model(normalise(images))  # [batch, classes]
        parts.append(logits.float())
        on_batch(len(images))
    return torch.cat(parts).cpu()


def score(compute: Compute, loss_sum: Tensor, correct: Tensor, count: int) -> Score:
    loss, right = compute.fetch(loss_sum, correct)
    return Score(loss=loss / count, accuracy=100 * right / count)


def epochs(
    learner: Learner,
    train: Split,
    heldout: Split,
    *,
    batch_size: int,
    numbers: range,
    on_batch: OnBatch,
) -> Iterator[tuple[int, Score, Score]]:
    """Trains through the epochs `numbers` (1-based) and evaluates on `heldout` after each.

    Yields the epoch's number, the score while training and the score on `heldout`. The caller decides when to stop.
    """
    for number in numbers:
        trained = train_epoch(learner, train, number, batch_size, on_batch)
        yield number, trained, evaluate(learner.model, heldout, learner.compute, on_batch)
