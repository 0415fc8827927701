"""The images that INPUT names: a file, a folder with all below it, an address, or everything below an S3 prefix."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Callable
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

REMEDY = f"Name an image, a folder with {KINDS} files, or an address in INPUT."


@dataclass(frozen=True)
class Source:
    """One image: its name below INPUT, and how to get its bytes (raises Fault, TemporaryFault or OSError)."""

    name: str
    read: Callable[[], bytes]


def found(place: str) -> list[Source]:
    """What is to be read, in alphabetical order. Only an S3 prefix is asked for what there is; nothing is read yet.

    Raises Fault where there is no image, and what a store raises.
    """
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme in ("http", "https"):
        return [Source(public(place), partial(read_whole, place))]
    if scheme == "s3":
        return in_bucket(place)
    with os_faults(f"INPUT: cannot read {place}", "INPUT"):
        return on_disk(place, scheme)


def on_disk(place: str, scheme: str) -> list[Source]:
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(place).path) if scheme == "file" else place)
    if path.is_dir():
        passed = Passed("INPUT")
        found = [Source(spelled(file.relative_to(path)), file.read_bytes) for file in images(path, passed)]
        passed.tell(place)
        if not found:
            raise Fault(f"INPUT: {place} holds no {KINDS} file.", REMEDY)
        return found
    kind = kind_of(path)
    if kind == NOWHERE:
        raise Fault(f"INPUT: there is no {path}.", REMEDY)
    if kind == OTHER:  # reading it may never end
        raise Fault(f"INPUT: {path} is a pipe, a socket or a device.", REMEDY)
    return [Source(spelled(Path(path.name)), path.read_bytes)]


def in_bucket(place: str) -> list[Source]:
    """The object `s3://bucket/key` where it ends like an image, else all images below it as a prefix."""
    parent, _, name = place.rstrip("/").rpartition("/")
    single = name.lower().endswith(SUFFIXES)
    store = storage.open_store(parent if single else place, variable="INPUT")

    def read(name: str) -> bytes:
        content = store.get(name)
        if content is None:
            raise Fault(f"{store.uri} has no object {name}.")
        return content

    return [Source(each, partial(read, each)) for each in ([name] if single else named(place, store.list()))]


def named(place: str, names: list[str]) -> list[str]:
    """Those that end like an image and are not hidden: their first bytes would be a request each. Raises Fault where
    none does.
    """
    shown = [name for name in names if not any(is_hidden(part) or is_left_behind(part) for part in name.split("/"))]
    kept = [name for name in shown if named_as_image(name)]
    if not kept:
        raise Fault(f"INPUT: {place} holds no {', '.join(SUFFIXES)} file.", REMEDY)
    if len(kept) < len(names):
        ignored = len(names) - len(kept)
        event("input", f"{place}: {ignored} object(s) left out that are not {', '.join(SUFFIXES)}", level="WARNING")
    return kept
