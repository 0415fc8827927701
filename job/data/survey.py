"""What a data set is like, before time is spent on it: images a class, and images that occur more than once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.console.logs import printable
from job.data.arrays import Arrays

FEW = 10  # images of a class; fewer teach and test little
NAMED = 5  # in a sentence


@dataclass(frozen=True)
class Survey:
    """Images by class in each part; how many images of a part equal an earlier one in it, pixel by pixel; the test
    images, by name, that are also trained or validated on.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    again_in_train: int
    again_in_test: int
    leaked: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        said = asdict(self) | {"leaked": len(self.leaked), "leaked_examples": list(self.leaked[:NAMED])}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def survey(arrays: Arrays) -> Survey:
    """Counts, and hashes every image (some 10 µs each)."""
    validation_images, validation_labels = arrays.validation or (arrays.test_images[:0], arrays.test_labels[:0])
    train = Counter(contents(arrays.train_images))
    validation = set(contents(validation_images))
    test = list(contents(arrays.test_images))
    leaked = [
        name for name, content in zip(arrays.names(), test, strict=True) if content in train or content in validation
    ]

    def by_class(labels: NDArray[np.int64]) -> tuple[int, ...]:
        return tuple(np.bincount(labels, minlength=len(arrays.classes)).tolist())

    return Survey(
        by_class(arrays.train_labels),
        by_class(validation_labels) if arrays.validation else (),
        by_class(arrays.test_labels),
        sum(train.values()) - len(train),
        len(test) - len(set(test)),
        tuple(leaked),
    )


def contents(images: NDArray[np.uint8]) -> Iterator[bytes]:
    """A hash of each image's pixels, uint8 `[count, rows, columns, 3]`."""
    for image in images:
        yield hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def doubts(found: Survey, classes: tuple[str, ...]) -> list[str]:
    """Sentences on what makes the figures of a run on these images doubtful."""
    said = []
    if found.leaked:
        names = ", ".join(printable(name) for name in found.leaked[:NAMED]) + " …" * (len(found.leaked) > NAMED)
        said.append(
            f"{len(found.leaked):,} of {sum(found.test):,} test images are in the training set as well, pixel by pixel "
            f"({names}): the test accuracy is better than on images never seen"
        )
    again = [
        f"{n:,} in the {part} set"
        for n, part in ((found.again_in_train, "training"), (found.again_in_test, "test"))
        if n
    ]
    if again:
        said.append(f"images that equal another one of their set: {' and '.join(again)}")
    few = [printable(name) for name, count in zip(classes, found.train, strict=True) if count < FEW]
    if few:
        shown = ", ".join(few[:NAMED]) + " …" * (len(few) > NAMED)
        said.append(f"{len(few)} of {len(classes)} classes have fewer than {FEW} training images: {shown}")
    untested = [printable(name) for name, count in zip(classes, found.test, strict=True) if not count]
    if untested:
        said.append(f"no test image of {', '.join(untested[:NAMED])}{' …' * (len(untested) > NAMED)}")
    return said
