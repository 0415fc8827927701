"""Where images lie while a run trains: on the device, in the host's memory, or on the disk. Results are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from job.data import Dataset, Split
from job.data.remade import SHARE
from job.device.feed import Feed
from job.device.mapping import Mapping
from job.device.memory import free_memory, free_on_host, has_own
from job.storage.room import size

DEVICE, HOST, DISK = "device", "host", "disk"


@dataclass(frozen=True)
class Place:
    """`name` is one of the three; the rest says why: the images' bytes, and those free on the device and on the host.
    `on_gpu`: these are two memories. `kept`: the images are mapped from a file.
    """

    name: str
    images: int
    device: int
    host: int
    on_gpu: bool
    kept: bool

    def words(self) -> str:
        free = f"{size(self.host)} of memory free"
        if self.on_gpu:
            free = f"{size(self.device)} free on the GPU, {size(self.host)} on the host"
        return f"{size(self.images)} of images {self.where()}: {free}"

    def where(self) -> str:
        if self.name == DEVICE:
            return "on the GPU" if self.on_gpu else "in memory"
        if self.name == HOST:
            return "in the host's memory, copied batch by batch"
        return "on the disk, read batch by batch"

    def as_json(self) -> dict[str, object]:
        return {
            "place": self.name,
            "image_bytes": self.images,
            "free_on_device": self.device,
            "free_on_host": self.host,
        }


def choose(images: int, device: torch.device, *, kept: bool) -> Place:
    """For so many bytes of images. What no file holds is in the host's memory already and can be nowhere less.

    No variable: memory decides, and a wrong guess costs time, not a result.
    """
    on_gpu = has_own(device)
    host = free_on_host()
    free = free_memory(device) if on_gpu else host
    if images <= SHARE * free or not (kept or on_gpu):
        name = DEVICE
    elif on_gpu and (images <= SHARE * host or not kept):
        name = HOST
    else:
        name = DISK
    return Place(name, images, free, host, on_gpu, kept)


def placed(data: Dataset, device: torch.device) -> tuple[Dataset, Place]:
    """A data set as it was loaded, for this device, and where its images are now."""
    splits = filter(None, (data.train, data.validation, data.test))
    place = choose(sum(split.images.nbytes for split in splits), device, kept=data.mapping is not None)
    return put(data, place, device), place


def put(data: Dataset, place: Place, device: torch.device) -> Dataset:
    """The data set with its labels on the device, and its images where `place` says."""
    if place.name == DEVICE:
        return data.to(device)
    file = data.mapping if place.name == DISK else None

    def fed(split: Split) -> Split:
        return split.fed(feed_of(split, device, file))

    validation = fed(data.validation) if data.validation else None
    return replace(data, train=fed(data.train), test=fed(data.test), validation=validation)


def feed_of(split: Split, device: torch.device, file: Mapping | None) -> Feed:
    """How batches of this split come: from memory, or from the file."""
    return Feed(device, file, file.first_row(split.images.numpy()) if file else 0)
