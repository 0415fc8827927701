"""The weights that a model starts from: a file, an address, or what torchvision publishes and torch keeps."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from job import models
from job.console.logs import event
from job.data.addresses import public
from job.data.attentive import Opener
from job.data.download import Bar, Limits, fetch
from job.data.part import Wanted, hash_of
from job.data.state_dicts import Unusable, fitted, read, sha256_of
from job.errors import Fault, TemporaryFault

ADDRESS = re.compile(r"(https?|s3)://.")
ELSEWHERE = "Put the file there yourself and name it in PRETRAINED_WEIGHTS."
REMEDY = f"Check the network and the address. {ELSEWHERE}"
LIMITS = Limits()
MOST_BYTES = 1 << 30  # of a file at an address: twenty times the weights, room for a whole training state
FOR_GOOD = (FileNotFoundError, PermissionError, NotADirectoryError)


@dataclass(frozen=True)
class Pretrained:
    """`state` is what the model's `build` takes, `sha256` over its names, dtypes, shapes and bytes: two files with the
    same one start the same run, wherever they lie. `origin` is the file or address, without secrets; `notes` say what
    had to be undone in its layout, and `doubt` why it may not be what its name promises.
    """

    origin: str
    sha256: str
    file_sha256: str
    state: Mapping[str, Tensor] = field(repr=False)
    notes: tuple[str, ...] = ()
    doubt: str = ""

    def record(self) -> dict[str, str]:
        """What a run's files say of it: equal for equal weights, wherever they lie."""
        return {"sha256": self.sha256, "file_sha256": self.file_sha256}

    def describe(self) -> str:
        return "; ".join([f"{self.origin}, SHA-256 {self.sha256[:16]}…", *self.notes])


def load(model: str, source: str | None, *, bar: Bar, open_s3: Opener) -> Pretrained | None:
    """What `model` starts from: `source`, a file or an http, https, file or s3 address, or else what torchvision
    publishes; None for a model that starts from random weights.

    Raises Fault where that is no such weights and TemporaryFault where they could not be fetched.
    """
    if not models.starts_from_weights(model):
        return None
    module = models.find(model)
    if source is None:
        return published(module, bar, open_s3)
    if ADDRESS.match(source):
        with tempfile.TemporaryDirectory() as directory:
            # Not kept: another file may lie at this address tomorrow.
            file = Path(directory) / (PurePosixPath(urllib.parse.urlsplit(source).path).name or "weights")
            fetch([source], wanted(module, file), bar=bar, open_s3=open_s3, limits=LIMITS)
            return opened(module, file, f"the file at {public(source)}", public(source))
    file = local(source)
    return opened(module, file, str(file), str(file))


def differs(model: str, source: str | None, recorded: Mapping[str, Any] | None, *, bar: Bar, open_s3: Opener) -> str:
    """How the weights that `model` would start from differ from those of a run that `recorded` them; empty where they
    do not. Where they cannot be had, or none were recorded, a warning says so: what is finished stays so.
    """
    if not models.starts_from_weights(model):
        return ""
    module = models.find(model)
    if recorded is None:
        event("weights", "the run does not say which weights it started from; they were not compared", level="WARNING")
        return ""
    if source is None and not os.path.lexists(kept(module)):
        same = is_published(module, recorded["file_sha256"])
        return "" if same else "it started from other weights than those that torchvision publishes"
    try:
        weights = load(model, source, bar=bar, open_s3=open_s3)
    except Fault as fault:
        event("weights", f"the weights it started from were not compared. {fault}", level="WARNING")
        return ""
    assert weights is not None
    if weights.sha256 == recorded["sha256"]:
        return ""
    return f"it started from weights with the SHA-256 {recorded['sha256'][:16]}…, those now are {weights.describe()}"


def local(source: str) -> Path:
    """The file that a path or a file:// address names. Raises Fault for other addresses."""
    if source.startswith("file://"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(source).path))
    if "://" in source:
        raise Fault(
            f"PRETRAINED_WEIGHTS: {public(source)} is no address that this job can read.",
            "Give a file, or an address that starts with http://, https://, file:// or s3://.",
        )
    return Path(source)


def opened(module: ModuleType, file: Path, name: str, origin: str) -> Pretrained:
    """The weights in `file`, which messages call `name`. Raises Fault where there are none that fit."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise Unusable("is not a file", "Name the file itself.")
        expected = module.expected()
        state, notes = fitted(read(file, expected), expected, module.REPLACED)
    except Unusable as error:
        said, remedy = f"{name} {error}", error.remedy
        raise Fault(f"PRETRAINED_WEIGHTS: {said}.", remedy) from error
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        said = f"{name} is not a file" if missing else f"{name} cannot be read ({error.strerror})"
        fault = Fault if isinstance(error, FOR_GOOD) else TemporaryFault
        raise fault(f"PRETRAINED_WEIGHTS: {said}.", "Give the path or address of a file that can be read.") from error
    whole = hash_of(file, "sha256")
    return Pretrained(origin, sha256_of(state), whole, state, tuple(notes), doubt(module, file, whole))


def kept(module: ModuleType) -> Path:
    """Where torch keeps what torchvision publishes, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / published_name(module)


def published_name(module: ModuleType) -> str:
    return PurePosixPath(urllib.parse.urlsplit(module.ADDRESS).path).name


def published(module: ModuleType, bar: Bar, open_s3: Opener) -> Pretrained:
    """What torchvision publishes, kept where torch keeps it. What does not serve there is told and replaced."""
    file = kept(module)
    if os.path.lexists(file):
        try:
            return opened(module, file, str(file), str(file))
        except Fault as fault:
            said = fault.what.removeprefix("PRETRAINED_WEIGHTS: ").rstrip(".")
            event("weights", f"TORCH_HOME: {said}; it is fetched anew", level="WARNING")
    if can_keep(file.parent):
        fetch([module.ADDRESS], wanted(module, file), bar=bar, open_s3=open_s3, limits=LIMITS)
        return opened(module, file, str(file), public(module.ADDRESS))
    event("weights", f"TORCH_HOME: {file.parent} cannot be written; the weights are not kept", level="WARNING")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / file.name
        fetch([module.ADDRESS], wanted(module, file), bar=bar, open_s3=open_s3, limits=LIMITS)
        return opened(module, file, f"the file at {module.ADDRESS}", public(module.ADDRESS))


def can_keep(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def wanted(module: ModuleType, file: Path) -> Wanted:
    """The download: of a file with the published name the hash is known, since its name holds the beginning of it."""
    return Wanted(
        file,
        "sha256",
        hash_in(file.name) if file.name == published_name(module) else "",
        name="the file with the ImageNet weights",
        variable="TORCH_HOME",
        remedy=REMEDY,
        most=MOST_BYTES,
    )


def is_published(module: ModuleType, file_sha256: str) -> bool:
    """Whether a file with this SHA-256 is the one that torchvision publishes, as far as its name tells."""
    return file_sha256.startswith(hash_in(published_name(module)))


def hash_in(name: str) -> str:
    """`f37072fd` of `resnet18-f37072fd.pth`: how torch.hub publishes the beginning of a file's SHA-256."""
    found = re.search(r"-([0-9a-f]{8,64})\.[^.]*$", name)
    return found[1] if found else ""


def doubt(module: ModuleType, file: Path, found: str) -> str:
    """Words for a file that has the published name and not the published content; torch takes it as well."""
    if file.name != published_name(module) or is_published(module, found):
        return ""
    return (
        f"{file} is not the file that torchvision publishes under this name: its SHA-256 begins with {found[:8]}; "
        "it is used as it is"
    )
