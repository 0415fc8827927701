"""Images to answers, in batches: threads read and decode ahead while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from job.console.logs import concerning, event, printable
from job.data.ahead import in_order
from job.data.decoding import CUT_OFF
from job.data.inputs import CONNECTIONS, Inputs
from job.data.picture import Picture, Shape, decoded
from job.device import Compute
from job.device.cgroup import cores
from job.engine.classifier import Classifier
from job.errors import Fault, TemporaryFault, os_fault
from job.modes.predict_rows import Answer

MOST, PIXELS = 500, 1 << 21  # images of a batch at most, and pixels: 500 up to a side of 64, 41 at 224
TOGETHER = 8  # images that a thread reads one after the other: handing over small ones costs as much as decoding
AHEAD = 4  # of these for each thread that may wait
THREADS = 8  # at least: reading waits for a disk most of the time


@dataclass(frozen=True)
class Reader:
    """Images as the model takes them: which, how they are brought to size, and who is asked for a stop."""

    images: Inputs
    shape: Shape
    check: Callable[[], object]

    @property
    def batch(self) -> int:
        return max(1, min(MOST, PIXELS // self.shape.side**2))

    def pictures(self, places: Sequence[range]) -> Iterator[Picture | Exception]:
        """Those at all `places`, in order: what could be read, or why it could not."""
        groups = (of[start : start + TOGETHER] for of in places for start in range(0, len(of), TOGETHER))
        threads = CONNECTIONS if self.images.far else max(THREADS, cores())
        for group in in_order(groups, self.group, threads, self.check, AHEAD):
            yield from group

    def group(self, places: range) -> list[Picture | Exception]:
        return [self.read(self.images.keys[place]) for place in places]

    def read(self, key: str) -> Picture | Exception:
        """The image, or why there is none."""
        name = self.images.name(key)
        try:
            with concerning(printable(name)):
                return decoded(self.images.read(key), self.shape)
        except (Fault, ValueError) as error:
            return error
        except OSError as error:
            return os_fault(error, f"cannot read {name}", "INPUT", "read")


def shape_of(about: Mapping[str, Any]) -> Shape:
    """How images are brought to what the model takes; runs of before RESIZE squashed them."""
    return Shape(int(about["image_size"]), str(about.get("resize", "squash")))


@dataclass(frozen=True)
class Batch:
    """Images at `places`, uint8 `[count, side, side, 3]`, black where one could not be read, and their answers."""

    places: range
    pixels: NDArray[np.uint8]
    answers: list[Answer]


def batches(model: Classifier, reader: Reader, parts: Sequence[range], compute: Compute) -> Iterator[Batch]:
    """All images of `parts`; no batch reaches over a part's end, so that what one gets does not depend on the others:
    neither on parts that are there already nor, since they stay in their batch as black, on those that cannot be read.
    """
    pictures = reader.pictures(parts)
    side = reader.shape.side
    for of in parts:
        for start in range(0, len(of), reader.batch):
            places = of[start : start + reader.batch]
            found = list(islice(pictures, len(places)))
            pixels = np.zeros((len(places), side, side, 3), np.uint8)
            for row, picture in enumerate(found):
                if isinstance(picture, Picture):
                    pixels[row] = picture.pixels
            shares = probabilities(model, pixels, compute)
            names = [reader.images.name(reader.images.keys[place]) for place in places]
            yield Batch(places, pixels, [answer(*each) for each in zip(names, found, shares, strict=True)])


def answer(name: str, picture: Picture | Exception, shares: NDArray[np.float64]) -> Answer:
    if isinstance(picture, Picture):
        if picture.cut_off:
            event("image", f"{printable(name)}: {CUT_OFF}", level="WARNING", image=name)
        return Answer(name, shares)
    reason = picture.what.rstrip(".") if isinstance(picture, Fault) else str(picture)
    return Answer(name, None, reason, isinstance(picture, TemporaryFault))


@torch.no_grad()
def probabilities(model: Classifier, images: NDArray[np.uint8], compute: Compute) -> NDArray[np.float64]:
    """Shares `[images, classes]` that add up to 1, from uint8 `[images, rows, columns, 3]`."""
    with compute.autocast():
        logits = model(torch.from_numpy(images).to(compute.device))
    shares: NDArray[np.float64] = torch.softmax(logits.double(), dim=1).cpu().numpy()
    return shares
