"""Whether the pretrained weights are there or can be had, for a model that starts from some."""

from __future__ import annotations

from pathlib import Path

import torch

from job import models, storage
from job.data import download
from job.engine import build
from job.errors import Fault, TemporaryFault
from job.preflight import disk
from job.preflight.findings import Finding, failed, ok
from job.settings import Settings

BYTES = 46_900_000  # of torchvision's ResNet-18


def look(settings: Settings) -> list[Finding]:
    """Reads and checks a file; asks an address whether it answers. Raises Fault for a file that does not serve."""
    module = models.find(settings.model)
    if not hasattr(module, "load_weights"):
        return [ok("weights", f"{settings.model} starts from random weights")]
    source = settings.pretrained_weights
    kept = module.kept() if source is None else None
    if kept is not None or (source is not None and "://" not in source):
        build.builder(settings.model, 10, source)
        return [ok("weights", f"{kept or source}: read, and it fits the model")]
    url = source or module.ADDRESS
    answer = download.probe([url], open_s3=storage.open_object)
    if answer.url is None:
        name = "PRETRAINED_WEIGHTS" if source else "torchvision's address"
        fault = (Fault if answer.for_good else TemporaryFault)(
            f"the ImageNet weights could not be fetched from {name}: {answer.said[url]}.",
            "Check the network, or put the file there yourself and name it in PRETRAINED_WEIGHTS.",
        )
        return [failed("weights", fault)]
    cache = Path(torch.hub.get_dir())
    return [
        ok("weights", f"{download.public(url)} answers; they would be downloaded"),
        disk.room("TORCH_HOME", cache, BYTES),
    ]
