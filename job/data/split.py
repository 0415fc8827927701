"""Images with their labels, wherever the images lie: on the device, in the host's memory, or in a mapped file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from job.device.feed import Feed


@dataclass(frozen=True)
class Split:
    """`images` uint8 `[all, side, side, 3]` (as decoders give them: rows, columns, RGB), `labels` int64 `[count]` on
    the device that computes.

    The images lie there as well, one for each label; or with a `feed` they lie elsewhere and come in batches. Then
    `rows` int64 `[count]` on the host says which of them these are; None: all of them.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None
    feed: Feed | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels."""
        return self.images.shape[1]

    def to(self, device: torch.device) -> Split:
        """With all images on the device."""
        return Split(self.images.to(device), self.labels.to(device))

    def fed(self, feed: Feed) -> Split:
        """With its images left where they are, on the host, and the labels on the feed's device."""
        return Split(self.images, self.labels.to(feed.device), self.rows, feed)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The images at `rows`, in that order, on the same device: copied, or where they are fed only named."""
        index = torch.from_numpy(rows)
        labels = self.labels[index.to(self.labels.device)]
        if self.feed is None:
            return Split(self.images[index.to(self.images.device)], labels)
        return replace(self, labels=labels, rows=index if self.rows is None else self.rows[index])

    def at(self, rows: NDArray[np.int64]) -> Tensor:
        """Some images, uint8 `[len(rows), side, side, 3]`, on the device."""
        return next(self.batches(torch.from_numpy(rows), [len(rows)]), self.images[:0])

    def batches(self, order: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """The images in this order, int64 on the host, in batches of `sizes`, on the device. What is fed is good until
        the next batch is asked for.
        """
        if self.feed is not None:
            rows = order if self.rows is None else self.rows[order]
            yield from self.feed.batches(self.images, rows, sizes)
            return
        for rows in torch.split(order.to(self.images.device), list(sizes)):
            yield self.images.index_select(0, rows)

    def in_turn(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels as they lie, `size` at a time; images on the device are not copied."""
        labels = torch.split(self.labels, size) if len(self) else ()
        if self.feed is not None:
            yield from zip(self.batches(torch.arange(len(self)), list(map(len, labels))), labels, strict=True)
        else:
            yield from zip(torch.split(self.images, size)[: len(labels)], labels, strict=True)


def split_of(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    """Tensors over the same memory. Where it is a mapped file torch warns that it cannot be written to: nobody does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return Split(torch.from_numpy(images), torch.from_numpy(labels))
