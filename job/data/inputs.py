"""The images that INPUT names: a file, a folder with all below it, an address, or everything below an S3 prefix."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from job import storage
from job.console.logs import event
from job.data.addresses import public, read_whole
from job.data.files import (
    KINDS,
    NOWHERE,
    OTHER,
    SUFFIXES,
    Passed,
    images,
    is_hidden,
    is_left_behind,
    kind_of,
    named_as_image,
    spelled,
)
from job.errors import Fault, os_faults
from job.storage.objects import Entry

REMEDY = f"Name an image, a folder with {KINDS} files, or an address in INPUT."
CONNECTIONS = 32  # objects of a bucket that are read at the same time


@dataclass(frozen=True)
class Inputs:
    """All images, by keys in the order in which they are answered; a key is all that is held of each.

    `read` gives an image's bytes (raises Fault, TemporaryFault or OSError); `mark` tells another content from this one
    without reading it: size and time, or an ETag; None where nothing does. `far`: each waits for a network.
    """

    keys: Sequence[str]
    read: Callable[[str], bytes]
    mark: Callable[[str], str | None]
    far: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, key: str) -> str:
        """As every file and page takes it."""
        return spelled(Path(key)) if not self.far else key


def found(place: str) -> Inputs:
    """What is to be read, in alphabetical order. Only an S3 prefix is asked for what there is; nothing is read yet.

    Raises Fault where there is no image, and what a store raises.
    """
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme in ("http", "https"):
        return Inputs([public(place)], lambda key: read_whole(place), lambda key: None, far=True)
    if scheme == "s3":
        return in_bucket(place)
    with os_faults(f"INPUT: cannot read {place}", "INPUT"):
        return on_disk(place, scheme)


def on_disk(place: str, scheme: str) -> Inputs:
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(place).path) if scheme == "file" else place)
    if path.is_dir():
        passed = Passed("INPUT")
        keys = [file.relative_to(path).as_posix() for file in images(path, passed)]
        passed.tell(place)
        if not keys:
            raise Fault(f"INPUT: {place} holds no {KINDS} file.", REMEDY)
        return files_of(path, keys)
    kind = kind_of(path)
    if kind == NOWHERE:
        raise Fault(f"INPUT: there is no {path}.", REMEDY)
    if kind == OTHER:  # reading it may never end
        raise Fault(f"INPUT: {path} is a pipe, a socket or a device.", REMEDY)
    return files_of(path.parent, [path.name])


def files_of(folder: Path, keys: Sequence[str]) -> Inputs:
    """Files by their paths below `folder`."""

    def mark(key: str) -> str | None:
        try:
            status = (folder / key).stat()
        except OSError:  # whoever reads it will tell
            return None
        return f"{status.st_size} {status.st_mtime_ns}"

    return Inputs(keys, lambda key: (folder / key).read_bytes(), mark)


def in_bucket(place: str) -> Inputs:
    """The object `s3://bucket/key` where it ends like an image, else all images below it as a prefix."""
    parent, _, name = place.rstrip("/").rpartition("/")
    if name.lower().endswith(SUFFIXES):
        return Inputs([name], partial(read_object, parent), lambda key: None, far=True)
    objects = storage.open_prefix(place, CONNECTIONS, variable="INPUT")
    entries = {entry.name: entry for entry in named(place, objects.entries())}
    return Inputs(
        list(entries),
        lambda key: objects.content(entries[key]),
        lambda key: f"{entries[key].size} {entries[key].etag}",
        far=True,
    )


def read_object(place: str, name: str) -> bytes:
    store = storage.open_store(place, variable="INPUT")
    content = store.get(name)
    if content is None:
        raise Fault(f"{store.uri} has no object {name}.")
    return content


def named(place: str, entries: list[Entry]) -> list[Entry]:
    """Those that end like an image and are not hidden: their first bytes would be a request each. Raises Fault where
    none does.
    """
    shown = [
        entry for entry in entries if not any(is_hidden(part) or is_left_behind(part) for part in entry.name.split("/"))
    ]
    kept = [entry for entry in shown if named_as_image(entry.name)]
    if not kept:
        raise Fault(f"INPUT: {place} holds no {', '.join(SUFFIXES)} file.", REMEDY)
    if len(kept) < len(entries):
        ignored = len(entries) - len(kept)
        event("input", f"{place}: {ignored} object(s) left out that are not {', '.join(SUFFIXES)}", level="WARNING")
    return kept
