"""Whether the pretrained weights are there or can be had, for a model that starts from some."""

from __future__ import annotations

import os
from collections.abc import Callable

from job import models, storage
from job.data import download, pretrained
from job.data.addresses import public
from job.errors import Fault
from job.preflight import disk
from job.preflight.findings import Finding, failed, ok, warn
from job.settings import Settings


def look(settings: Settings, check: Callable[[], object]) -> list[Finding]:
    """Reads a file as a run would; asks an address whether it answers. Raises Fault for a file that does not serve.

    `check` is called while an answer is waited for and may raise.
    """
    module = models.find(settings.model)
    if not models.starts_from_weights(settings.model):
        return [ok("weights", f"{settings.model} starts from random weights")]
    source = settings.pretrained_weights
    findings = []
    if source is None:
        kept = pretrained.kept(module)
        try:
            if os.path.lexists(kept):
                return [found(pretrained.opened(module, kept, str(kept), str(kept)))]
        except Fault as fault:
            findings.append(warn("weights", f"{fault.what} It would be fetched anew.", fault.remedy))
    elif not pretrained.ADDRESS.match(source):
        file = pretrained.local(source)
        return [found(pretrained.opened(module, file, str(file), str(file)))]
    return [*findings, *look_at_address(settings, source or module.ADDRESS, check)]


def found(weights: pretrained.Pretrained) -> Finding:
    if weights.doubt:
        return warn("weights", f"{weights.describe()}; it fits the model", f"{weights.doubt}.")
    return ok("weights", f"{weights.describe()}; it fits the model")


def look_at_address(settings: Settings, url: str, check: Callable[[], object]) -> list[Finding]:
    """Whether the download begins, and whether there is room for it where torchvision's own is kept."""
    module = models.find(settings.model)
    kept = pretrained.kept(module)
    wanted = pretrained.wanted(module, kept)
    answer = download.probe([url], open_s3=storage.open_object, check=check)
    if answer.url is None:
        return [failed("weights", wanted.not_fetched(answer.said, answer.for_good))]
    finding = ok("weights", f"{public(url)} answers; they would be downloaded")
    if settings.pretrained_weights is not None:
        return [finding]
    bytes_needed = sum(tensor.nbytes for tensor in module.expected().values())
    return [finding, disk.room("TORCH_HOME", kept.parent, bytes_needed)]
