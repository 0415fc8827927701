"""Batches for a device that their images do not lie on: gathered on the host in the background, and on a GPU copied
there, while the batches before them are computed with.

A thread gathers and makes no call of CUDA: such a call, beside a capture, would spoil it. On a GPU the batch is
gathered in pinned memory, which a copy needs to run beside the computation, and copied on a stream of its own (CUDA C++
Programming Guide, Overlap of Data Transfer and Kernel Execution). Only these few batches are pinned, not the set: rows
in a random order have to be gathered in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from job.device.mapping import Mapping

SLOTS = 3  # batches in memory: one that is computed with, one that is copied, one that is gathered


@dataclass(frozen=True)
class Feed:
    """Where batches go, and how they are gathered: from a tensor in memory, or past the mapping of `file`, whose rows
    from `first` on the tensor is.
    """

    device: torch.device
    file: Mapping | None = None
    first: int = 0

    def gather(self, images: Tensor, rows: Tensor, into: Tensor) -> None:
        """`images[rows]`, uint8, in the host's memory; `into` is `[len(rows), ...]`."""
        if self.file is not None:
            self.file.read(rows.numpy() + self.first, into.numpy())
        else:
            # Any other mode than clip would copy twice.
            np.take(images.numpy(), rows.numpy(), axis=0, out=into.numpy(), mode="clip")

    def batches(self, images: Tensor, rows: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """`images[rows]` in pieces of `sizes`, one after the other, on the device. Each is good until the next is asked
        for.
        """
        pieces = torch.split(rows, list(sizes))
        slots = [Slot(images, max(sizes, default=0), self.device) for _ in pieces[:SLOTS]]
        side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        with ThreadPoolExecutor(1, "feed") as pool:

            def begin(number: int) -> Any:
                """Piece `number` is gathered where the one SLOTS before it has been copied from by now."""
                if number >= len(pieces):
                    return None
                slot = slots[number % SLOTS]
                slot.wait_copied()
                return pool.submit(self.gather, images, pieces[number], slot.host[: sizes[number]])

            under_way = [begin(number) for number in range(len(slots))]
            for number, size in enumerate(sizes):
                under_way.pop(0).result()
                slot = slots[number % SLOTS]
                yield slot.on_device(size, side)
                slot.used()
                under_way.append(begin(number + SLOTS))


class Slot:
    """Room for one batch on the host, pinned for a GPU, and on the device."""

    def __init__(self, images: Tensor, most: int, device: torch.device) -> None:
        shape, on_gpu = (most, *images.shape[1:]), device.type == "cuda"
        self.host = torch.empty(shape, dtype=images.dtype, pin_memory=on_gpu)
        self.there = torch.empty(shape, dtype=images.dtype, device=device) if on_gpu else self.host
        self._copied: Any = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self._used: Any = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self.used()  # its memory on the device may still be read by what was launched before

    def wait_copied(self) -> None:
        """Until the host's part may be written to."""
        if self._copied is not None:
            self._copied.synchronize()  # at once where nothing was copied yet

    def on_device(self, size: int, side: Any) -> Tensor:
        """The first `size` images; whatever is launched from here on finds them copied."""
        if self._copied is None:
            return self.host[:size]
        with torch.cuda.stream(side):
            side.wait_event(self._used)
            self.there[:size].copy_(self.host[:size], non_blocking=True)
            self._copied.record(side)
        torch.cuda.current_stream(self.there.device).wait_event(self._copied)
        return self.there[:size]

    def used(self) -> None:
        """What was launched until now is all that reads this batch."""
        if self._used is not None:
            self._used.record(torch.cuda.current_stream(self.there.device))
