"""A data set as uint8 tensors that stay on the device: loaded once, no per-image work in an epoch.

In reading order: this file (what a data set is, and parts of it), `dataset` (the one that the settings name),
`arrays`, `synthetic`, `cifar10` with `download`, `folder`; `inputs` are images to predict on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from job.data import cifar10, folder, synthetic
from job.data.arrays import Arrays
from job.data.attentive import Opener
from job.data.download import Bar
from job.errors import Fault
from job.seeds import seed_for

FEW_A_CLASS = 10  # validation images; the loss over fewer is told as what it is
NAMES = ("cifar10", "folder", "synthetic")


@dataclass(frozen=True)
class Split:
    """`images` uint8 `[count, 32, 32, 3]` (as decoders give them: rows, columns, RGB), `labels` int64 `[count]`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The images at `rows`, in that order, on the same device."""
        index = torch.from_numpy(rows).to(self.labels.device)
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """`sha256` is over the tensors and the class names: two data sets with the same one train the same model.

    `test_names` has one for each test image: its file below DATA_DIR, or its number in the set as it was published.
    """

    name: str
    origin: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    sha256: str
    test_names: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """What the results say of it, as JSON."""
        return {
            "name": self.name,
            "origin": self.origin,
            "classes": list(self.classes),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "sha256": self.sha256,
        }

    def to(self, device: torch.device) -> Dataset:
        return replace(self, train=self.train.to(device), test=self.test.to(device))


@dataclass(frozen=True)
class Wanted:
    """Which data set, where it is or is cached, and how much of it.

    `urls` replace the built-in mirrors of CIFAR-10; `kaggle_input` is searched for a copy of it before anything is
    downloaded. `limit` reduces the training set and, by the same fraction, the test set; `seed` draws what is left.
    """

    name: str
    directory: Path
    limit: int | None
    seed: int
    urls: tuple[str, ...] = ()
    kaggle_input: Path | None = None


def load(wanted: Wanted, bar: Bar, open_s3: Opener) -> Dataset:
    """The data set on the CPU.

    Raises Fault where the data set is broken or unusable and TemporaryFault where it could not be fetched.
    """
    if wanted.name == "synthetic":
        arrays = synthetic.draw(wanted.seed, wanted.limit)
    else:
        if wanted.name == "cifar10":
            arrays = cifar10.load(wanted.directory, cifar10.Sources(wanted.urls, wanted.kaggle_input), bar, open_s3)
        else:
            arrays = folder.load(wanted.directory, bar=bar)
        arrays = reduced(arrays, wanted.limit, wanted.seed)
    return Dataset(
        name=wanted.name,
        origin=arrays.origin,
        classes=arrays.classes,
        train=Split(torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)),
        test=Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels)),
        sha256=digest(arrays),
        test_names=arrays.names(),
    )


def digest(arrays: Arrays) -> str:
    """SHA-256 (hex) over images, labels and class names, in a fixed order."""
    sha = hashlib.sha256("\0".join(arrays.classes).encode())
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def reduced(arrays: Arrays, limit: int | None, seed: int) -> Arrays:
    """At most `limit` training images and the same fraction of the test images, with the classes' shares kept.

    Raises Fault where less than one image a class would be left.
    """
    count = len(arrays.train_labels)
    if limit is None or limit >= count:
        return arrays
    limit, test_limit = reduced_counts(count, len(arrays.test_labels), len(arrays.classes), limit)
    train = stratified(arrays.train_labels, limit, seed_for(seed, "limit", "train"))
    test = stratified(arrays.test_labels, test_limit, seed_for(seed, "limit", "test"))
    names = arrays.names()
    return replace(
        arrays,
        train_images=arrays.train_images[train],
        train_labels=arrays.train_labels[train],
        test_images=arrays.test_images[test],
        test_labels=arrays.test_labels[test],
        test_names=tuple(names[row] for row in test),
    )


def reduced_counts(train: int, test: int, classes: int, limit: int | None) -> tuple[int, int]:
    """How many training and test images `limit` leaves. Raises Fault where that is less than one a class."""
    if limit is None or limit >= train:
        return train, test
    if limit < classes:
        raise Fault(
            f"DATA_LIMIT={limit} leaves less than one image for each of the {classes} classes.",
            f"Give at least {classes}; a few hundred make a meaningful test run.",
        )
    return limit, max(classes, round(test * limit / train))


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` row numbers in ascending order, each class with its share of them (largest remainders rounded up) and,
    where `count` allows, at least one.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    wanted = min(count, len(labels))
    shares = sizes * (wanted / len(labels))
    quota = np.maximum(np.floor(shares).astype(np.int64), 1)
    while quota.sum() < wanted:
        quota[np.argmax(shares - quota)] += 1
    while quota.sum() > wanted and quota.max() > 1:  # single images kept for tiny classes come from the large ones
        quota[np.argmax(np.where(quota > 1, quota - shares, -np.inf))] -= 1
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(labels == label))[:number] for label, number in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def tuning_counts(count: int, percent: float) -> tuple[int, int]:
    """How many of `percent` of `count` training images the search trains on, four fifths, and validates on.

    Raises Fault where that leaves no image to train on or none to validate on.
    """
    drawn = round(count * percent / 100)
    training = round(drawn * 0.8)
    if training < 1 or drawn - training < 1:
        raise Fault(
            f"TUNE_PERCENT={percent:g} of {count} training images is {drawn}: too few to train and to validate on.",
            "Raise TUNE_PERCENT or DATA_LIMIT.",
        )
    return training, drawn - training


@dataclass(frozen=True)
class Tuning:
    """Row numbers, among the training images, of what the search trains and validates on. `missed` are the labels of
    which a plain random draw left no image to train on: then it was drawn by class instead.
    """

    rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    missed: tuple[int, ...] = ()


def tuning_rows(labels: NDArray[np.int64], percent: float, seed: int) -> Tuning:
    """A random `percent` of the training images with these labels, split 80/20. Stratified where a class would be
    missing from what is trained on and need not be. Raises Fault as `tuning_counts` does.
    """
    training, validation = tuning_counts(len(labels), percent)
    drawn, classes = training + validation, np.unique(labels)
    rows = np.random.default_rng(seed_for(seed, "tuning subset")).permutation(len(labels))[:drawn]
    missed = np.setdiff1d(classes, labels[rows[:training]])
    if not len(missed) or training < len(classes):
        return Tuning(rows[:training], rows[training:])
    rows = stratified(labels, drawn, seed_for(seed, "tuning subset", "by class"))
    chosen = stratified(labels[rows], training, seed_for(seed, "tuning subset", "by class", "training"))
    return Tuning(rows[chosen], np.delete(rows, chosen), tuple(missed.tolist()))


def tuning_doubt(training: int, validation: int, classes: int) -> str:
    """Why a search over so few images tells little; empty where they are enough."""
    if training < classes:
        return f"the search trains on {training:,} images, fewer than there are classes ({classes:,})"
    if validation < FEW_A_CLASS * classes:
        return (
            f"the search validates on {validation:,} images of {classes:,} classes: so few that chance has a large "
            "part in which learning rate wins"
        )
    return ""
