"""What a data set is like, before time is spent on it: images a class, their sizes, and those that occur twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.console.logs import printable
from job.data.arrays import Arrays
from job.data.picture import Shape, content

FEW = 10  # images of a class; fewer teach and test little
NAMED = 5  # in a sentence
LONG = 1.5  # times as long as wide: a photograph (3:2) is not; beyond it a square holds less than two thirds
MANY = 0.1  # share of the images that is told as a doubt


@dataclass(frozen=True)
class Sizes:
    """Widths and heights, in pixels, of the files of so many `images`: of the least area, the middle one, the largest.

    `enlarged` counts those whose pixels were fewer than `side` asks for; `long` those longer than LONG to 1, of which
    `crop` cuts off more than a third, `pad` fills more than a third, and which `squash` deforms.
    """

    images: int
    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    enlarged: int
    long: int
    side: int
    resize: str


@dataclass(frozen=True)
class Survey:
    """Images by class in each part; how many images of a part equal an earlier one in it, pixel by pixel; the test
    images, by name, that are also trained or validated on; `sizes` where images came in any.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    again_in_train: int
    again_in_test: int
    leaked: tuple[str, ...]
    sizes: Sizes | None = None

    def as_json(self) -> dict[str, Any]:
        said = asdict(self) | {"leaked": len(self.leaked), "leaked_examples": list(self.leaked[:NAMED])}
        if self.sizes is None:
            del said["sizes"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


@dataclass(frozen=True)
class Part:
    """Labels int64 `[count]` and, for each image, what equal images have in common."""

    labels: NDArray[np.int64]
    contents: Sequence[Hashable]


def survey(arrays: Arrays, shape: Shape) -> Survey:
    """Counts, and hashes every image (some 10 µs each) where that has not been done."""
    own = arrays.validation
    if arrays.contents is not None:
        train, validation, test = ([bytes(each) for each in part] for part in arrays.contents)
    else:
        train, test = (list(map(content, images)) for images in (arrays.train_images, arrays.test_images))
        validation = list(map(content, own[0])) if own else []
    return counted(
        len(arrays.classes),
        (Part(arrays.train_labels, train), Part(own[1], validation) if own else None, Part(arrays.test_labels, test)),
        arrays.names(),
        None if arrays.sizes is None else sizes(np.concatenate(arrays.sizes), shape),
    )


def counted(
    classes: int, parts: tuple[Part, Part | None, Part], test_names: Sequence[str], measured: Sizes | None
) -> Survey:
    """The survey of training, validation and test set."""
    train, validation, test = parts
    trained = set(train.contents)
    seen = trained | set(validation.contents if validation else ())

    def by_class(part: Part) -> tuple[int, ...]:
        return tuple(np.bincount(part.labels, minlength=classes).tolist())

    return Survey(
        by_class(train),
        by_class(validation) if validation else (),
        by_class(test),
        len(train.contents) - len(trained),
        len(test.contents) - len(set(test.contents)),
        tuple(name for name, content in zip(test_names, test.contents, strict=True) if content in seen),
        measured,
    )


def sizes(measured: NDArray[np.int32], shape: Shape) -> Sizes | None:
    """Of widths and heights int32 `[count, 2]`; None of none."""
    if not len(measured):
        return None
    widths, heights = measured.astype(np.int64).T
    order = np.lexsort((heights, widths, widths * heights))
    smallest, median, largest = (tuple(measured[order[at]].tolist()) for at in (0, (len(order) - 1) // 2, -1))
    short, long = measured.min(axis=1), measured.max(axis=1)
    enlarged = (long if shape.resize == "pad" else short) < shape.side
    lengthy = int((long > LONG * short).sum())
    return Sizes(len(measured), smallest, median, largest, int(enlarged.sum()), lengthy, shape.side, shape.resize)


def doubts(found: Survey, classes: tuple[str, ...]) -> list[str]:
    """Sentences on what makes the figures of a run on these images doubtful."""
    size = unfit(found.sizes) if found.sizes else []
    return equal_ones(found) + few(found, classes) + size + untested(found, classes)


def equal_ones(found: Survey) -> list[str]:
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
    return said


def few(found: Survey, classes: tuple[str, ...]) -> list[str]:
    names = [printable(name) for name, count in zip(classes, found.train, strict=True) if count < FEW]
    if not names:
        return []
    shown = ", ".join(names[:NAMED]) + " …" * (len(names) > NAMED)
    return [f"{len(names)} of {len(classes)} classes have fewer than {FEW} training images: {shown}"]


def untested(found: Survey, classes: tuple[str, ...]) -> list[str]:
    names = [printable(name) for name, count in zip(classes, found.test, strict=True) if not count]
    if not names:
        return []
    return [f"no test image of {', '.join(names[:NAMED])}{' …' * (len(names) > NAMED)}"]


def unfit(found: Sizes) -> list[str]:
    """Where many images are far from the size or the shape that all are brought to."""
    said = []
    if found.enlarged >= MANY * found.images:
        said.append(
            f"{found.enlarged:,} of {found.images:,} images have fewer pixels than IMAGE_SIZE={found.side} and were "
            "enlarged: that adds no detail"
        )
    if found.long >= MANY * found.images:
        lost = {
            "crop": "of these RESIZE=crop cuts off more than a third, pad keeps all",
            "pad": "RESIZE=pad fills more than a third of their squares with borders",
            "squash": "RESIZE=squash deforms them, pad does not",
        }[found.resize]
        said.append(f"{found.long:,} of {found.images:,} images are long, beyond {LONG:g} to 1: {lost}")
    return said
