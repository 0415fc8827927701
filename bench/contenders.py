"""The loops that are compared: each prepares itself once and returns what runs one epoch with its evaluation.

All of them train the same model on the same images with Adam at the same rate and batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from job import engine, models
from job.data import Split
from job.device import Compute, graphs
from job.engine.learner import Learner, new_learner
from job.engine.step import EVALUATION_BATCH, MEAN, STD, normalise

BATCH = 128
LEARNING_RATE = 1e-3

Epoch = Callable[[], None]


class DecodedImages(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10 has them: arrays in memory, and for each image PIL → ToTensor → Normalize."""

    def __init__(self, split: Split) -> None:
        self.images = split.images.cpu().numpy()  # uint8 [count, 32, 32, 3]
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(np.asarray(self.images[row]))), self.labels[row]


def notebook(name: str, train: Split, test: Split, compute: Compute) -> Epoch:
    """The conventional loop: no workers, fp32, `loss.item()` each step, evaluation with the same batch size."""
    return conventional(name, train, test, compute, workers=0)


def tuned_loader(name: str, train: Split, test: Split, compute: Compute) -> Epoch:
    """The same loop with two persistent workers and pinned memory."""
    return conventional(name, train, test, compute, workers=2)


def conventional(name: str, train: Split, test: Split, compute: Compute, workers: int) -> Epoch:
    options = loader_options(compute) if workers else {}
    train_loader = DataLoader(DecodedImages(train), batch_size=BATCH, shuffle=True, **options)
    test_loader = DataLoader(DecodedImages(test), batch_size=BATCH, **options)
    device = compute.device
    model = builder(name)().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss()

    def epoch() -> None:
        model.train()
        running_loss = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in test_loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                running_loss += criterion(logits, labels).item()
                correct += (logits.argmax(dim=1) == labels).sum().item()

    return epoch


def loader_options(compute: Compute) -> dict[str, Any]:
    """Of a tuned DataLoader. Workers are forked, as is usual on Linux: in a spawned process they would be spawned."""
    on_gpu = compute.device.type != "cpu"
    return {"num_workers": 2, "persistent_workers": True, "pin_memory": on_gpu, "multiprocessing_context": "fork"}


def lightning_classifier(name: str) -> Any:
    """The model as a LightningModule."""
    import lightning as L  # of the benchmark alone

    class Classifier(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = builder(name)()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    return Classifier()


def lightning(precision: str) -> Callable[[str, Split, Split, Compute], Epoch]:
    """Lightning's Trainer in `precision`, with the tuned loader; its progress bar, logger and checkpoints off."""

    def prepare(name: str, train: Split, test: Split, compute: Compute) -> Epoch:
        import logging
        import warnings

        import lightning as L

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")

        options = loader_options(compute)
        train_loader = DataLoader(DecodedImages(train), batch_size=BATCH, shuffle=True, **options)
        test_loader = DataLoader(DecodedImages(test), batch_size=BATCH, **options)
        classifier = lightning_classifier(name)

        def epoch() -> None:
            trainer = L.Trainer(
                max_epochs=1,
                accelerator=compute.device.type if compute.device.type == "cpu" else "gpu",
                devices=1,
                precision=precision,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
            )
            trainer.fit(classifier, train_loader, test_loader)

        return epoch

    return prepare


def job(name: str, train: Split, test: Split, compute: Compute) -> Epoch:
    """One epoch with its evaluation, as a run has them."""
    learner = learner_of(name, compute)

    course = engine.Course(train, test, BATCH)

    def epoch() -> None:
        for _ in engine.epochs(learner, course, range(1, 2)):
            pass

    return epoch


def limit(name: str, train: Split, test: Split, compute: Compute) -> Epoch:
    """The arithmetic alone: the job's step repeated on one batch that is on the device, evaluation likewise.

    On a GPU the step is a CUDA graph here as well, where the job's is one.
    """
    learner = learner_of(name, compute)
    model = learner.model
    images, labels = normalise(train.images[:BATCH]), train.labels[:BATCH]
    rest = len(train) % BATCH
    held = normalise(test.images[:EVALUATION_BATCH])
    whole, left = divmod(len(test), EVALUATION_BATCH)

    steps = steps_of(learner, (images, labels), {BATCH, rest} - {0}, compute)

    @torch.no_grad()
    def evaluate(count: int) -> None:
        with compute.autocast():
            model(held[:count])

    def epoch() -> None:
        model.train()
        for _ in range(len(train) // BATCH):
            steps[BATCH]()
        if rest:
            steps[rest]()
        model.eval()
        for _ in range(whole):
            evaluate(EVALUATION_BATCH)
        if left:
            evaluate(left)
        compute.fetch(next(model.parameters()).sum())  # waits for the device

    return epoch


def steps_of(
    learner: Learner, batch: tuple[Tensor, Tensor], sizes: set[int], compute: Compute
) -> dict[int, Callable[[], None]]:
    """What runs a training step on the first images of `batch`, for each size; a CUDA graph where the job has one."""
    images, labels = batch

    def step(count: int) -> None:
        logits = learner.answer(images[:count], learner.weights())
        loss = cross_entropy(logits.float(), labels[:count])
        learner.optimizer.zero_grad(set_to_none=True)
        learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()

    steps: dict[int, Callable[[], None]] = {size: partial(step, size) for size in sizes}
    if compute.step != "graph":
        return steps
    learner.model.train()
    with graphs.aside(compute.device):
        for _ in range(graphs.WARM_UP):
            for run in steps.values():
                run()
        learner.optimizer.zero_grad(set_to_none=True)
        return {size: graphs.record_graph(run, None) for size, run in steps.items()}


def builder(name: str) -> Callable[[], nn.Module]:
    """The model with ten classes; one that would start from stored weights starts at random, which costs the same."""
    return partial(models.find(name).build, 10)


def learner_of(name: str, compute: Compute) -> Learner:
    return new_learner(builder(name), LEARNING_RATE, compute, 1, ("bench",))


PREPARE: dict[str, Callable[[str, Split, Split, Compute], Epoch]] = {
    "notebook": notebook,
    "tuned loader": tuned_loader,
    "Lightning fp32": lightning("32-true"),
    "Lightning bf16": lightning("bf16-mixed"),
    "job": job,
    "limit": limit,
}
