"""A data set as uint8 tensors that stay on the device: loaded once, no per-image work in an epoch.

In reading order: this file (what a data set is, and parts of it), `dataset` (the one that the settings name),
`split` and `places` (where its images lie), `arrays`, `draws` and `remade` (parts of a data set), `synthetic`,
`cifar10` with `download`; `folder` with `layouts`, `labels`, `files`, `known`, `decoding`, `picture` and `cache`;
`survey`; `fetched` (what DATA_URL names for a folder) with `archive`, `unpack`, `bucket` and `staging`; `inputs` are
images to predict on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from job.data import cifar10, folder, picture, synthetic
from job.data.arrays import Arrays, Bad
from job.data.attentive import Opener
from job.data.download import Bar
from job.data.draws import stratified
from job.data.remade import AT_ONCE, made
from job.data.split import Split as Split
from job.data.split import split_of
from job.data.survey import Survey, doubts, survey
from job.device.mapping import Mapping
from job.errors import Fault
from job.seeds import seed_for

EXAMPLES = 8  # training images of a class that a report shows
NAMES = ("cifar10", "folder", "synthetic")


@dataclass(frozen=True)
class Dataset:
    """`sha256` is over the tensors and the class names: two data sets with the same one train the same model.

    `test_names` has one for each test image: its file below DATA_DIR, or its number in the set as it was published.
    `validation` is for the search, where the data set has one of its own. `bad` are images, damaged or left out.
    `fetched` is where it came from, where DATA_URL named that: address, bytes, ETag or count of objects, SHA-256.
    `mapping` is the file that all images are mapped from, where one is.
    """

    name: str
    origin: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    sha256: str
    test_names: tuple[str, ...]
    validation: Split | None = None
    bad: tuple[Bad, ...] = ()
    survey: Survey | None = None
    fetched: dict[str, Any] | None = None
    mapping: Mapping | None = None

    def describe(self) -> dict[str, Any]:
        """What the results say of it, as JSON."""
        return {
            "name": self.name,
            "origin": self.origin,
            "classes": list(self.classes),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "sha256": self.sha256,
            **({"validation_images": len(self.validation)} if self.validation else {}),
            **({"fetched": self.fetched} if self.fetched else {}),
            **({"survey": self.survey.as_json()} if self.survey else {}),
            **({"bad_images": [bad.told() for bad in self.bad]} if self.bad else {}),
        }

    def doubts(self) -> list[str]:
        """Sentences on what makes figures on these images doubtful."""
        left_out = sum(not bad.used for bad in self.bad)
        what = "image that cannot be read is" if left_out == 1 else "images that cannot be read are"
        said = [f"{left_out:,} {what} left out (BAD_IMAGES=skip)"] if left_out else []
        return said + (doubts(self.survey, self.classes) if self.survey else [])

    def examples(self, count: int = EXAMPLES) -> tuple[NDArray[np.uint8], ...]:
        """The first `count` training images of each class, uint8 `[count, rows, columns, 3]`."""
        labels = self.train.labels.cpu().numpy()
        rows = (np.flatnonzero(labels == label)[:count] for label in range(len(self.classes)))
        return tuple(self.train.at(each).cpu().numpy() for each in rows)

    def to(self, device: torch.device) -> Dataset:
        validation = self.validation.to(device) if self.validation else None
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


@dataclass(frozen=True)
class Wanted:
    """Which data set, where it is or is cached, and how much of it.

    `urls` replace the built-in mirrors of CIFAR-10; `kaggle_input` is searched for a copy of it before anything is
    downloaded. `limit` reduces the training set and, by the same fraction, the others; `seed` draws what is left.
    `rules` are for a folder, but for the size of the images.
    """

    name: str
    directory: Path
    limit: int | None
    seed: int
    urls: tuple[str, ...] = ()
    kaggle_input: Path | None = None
    rules: folder.Rules = folder.RULES


def is_kept(name: str, side: int, limit: int | None) -> bool:
    """Whether a file holds what `load` gives, or would where memory is too small (`remade`): not what lies in memory as
    it was read or drawn.
    """
    part = name == "cifar10" and limit is not None and limit < cifar10.TRAIN_COUNT
    return name == "folder" or part or side != picture.SMALL.side


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
            arrays = folder.load(wanted.directory, bar=bar, rules=wanted.rules)
        arrays = reduced(arrays, wanted.limit, wanted.seed, wanted.directory)
    arrays = scaled(arrays, wanted.rules.shape.side, wanted.directory)
    return Dataset(
        name=wanted.name,
        origin=arrays.origin,
        classes=arrays.classes,
        train=split_of(arrays.train_images, arrays.train_labels),
        test=split_of(arrays.test_images, arrays.test_labels),
        sha256=digest(arrays),
        test_names=arrays.names(),
        validation=split_of(*arrays.validation) if arrays.validation else None,
        bad=arrays.bad,
        survey=survey(arrays, wanted.rules.shape),
        mapping=arrays.mapping,
    )


def scaled(arrays: Arrays, side: int, directory: Path) -> Arrays:
    """The images `side` pixels wide and high, for data sets that come in one size; bilinear, some at a time."""
    if arrays.train_images.shape[1] == side:
        return arrays

    def bigger() -> Iterator[NDArray[np.uint8]]:
        for images in (arrays.train_images, arrays.test_images):
            for start in range(0, len(images), AT_ONCE):
                part = torch.from_numpy(images[start : start + AT_ONCE])
                planes = part.permute(0, 3, 1, 2)  # [count, 3, rows, columns]
                drawn = interpolate(planes, (side, side), mode="bilinear", antialias=True)
                yield drawn.permute(0, 2, 3, 1).numpy()

    anew = made(bigger(), [len(arrays.train_labels), len(arrays.test_labels)], side, directory)
    train, test = anew.parts
    return replace(arrays, train_images=train, test_images=test, mapping=anew.mapping)


def digest(arrays: Arrays) -> str:
    """SHA-256 (hex) over images, labels and class names, in a fixed order."""
    sha = hashlib.sha256("\0".join(arrays.classes).encode())
    parts = (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels)
    for array in (*parts, *(arrays.validation or ())):
        for start in range(0, len(array), AT_ONCE):
            sha.update(np.ascontiguousarray(array[start : start + AT_ONCE]).data)
            if arrays.mapping is not None:
                arrays.mapping.looked_at(AT_ONCE)
    return sha.hexdigest()


def reduced(arrays: Arrays, limit: int | None, seed: int, directory: Path) -> Arrays:
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
    rows, own = test[:0], arrays.validation or (arrays.train_images[:0], arrays.train_labels[:0])
    if arrays.validation is not None:
        rows = stratified(own[1], round(len(own[1]) * limit / count), seed_for(seed, "limit", "validation"))
    parts = ((arrays.train_images, train), (own[0], rows), (arrays.test_images, test))
    pieces = (
        images[chosen[start : start + AT_ONCE]] for images, chosen in parts for start in range(0, len(chosen), AT_ONCE)
    )
    anew = made(pieces, [len(chosen) for _, chosen in parts], arrays.train_images.shape[1], directory)
    sizes, contents = arrays.sizes, arrays.contents
    if sizes is not None:
        sizes = sizes[0][train], sizes[1][rows], sizes[2][test]
    if contents is not None:
        contents = contents[0][train], contents[1][rows], contents[2][test]
    return replace(
        arrays,
        train_images=anew.parts[0],
        train_labels=arrays.train_labels[train],
        test_images=anew.parts[2],
        test_labels=arrays.test_labels[test],
        test_names=tuple(names[row] for row in test),
        validation=(anew.parts[1], own[1][rows]) if arrays.validation else None,
        sizes=sizes,
        contents=contents,
        mapping=anew.mapping,
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
