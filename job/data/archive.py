"""A data set that DATA_URL names as an archive: fetched, unpacked beside its place, and kept until it changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job import storage
from job.console.logs import event
from job.data import download
from job.data.addresses import public
from job.data.attentive import Opener
from job.data.download import Bar, Limits, Probe
from job.data.part import Wanted, hash_of, kept, note_of, noted
from job.data.staging import Place
from job.data.unpack import format_of, unpack
from job.errors import Fault, TemporaryFault
from job.storage.room import free, lacking, size

LIMITS = Limits()
LOOK_TIMEOUT = 30.0  # seconds that an address may take to answer


@dataclass(frozen=True)
class Archive:
    """An archive that any of `urls` gives, for the data set at `place`. A message calls it `called`."""

    urls: tuple[str, ...]
    place: Place
    called: str
    open_s3: Opener = storage.open_object
    limits: Limits = LIMITS

    @property
    def addresses(self) -> tuple[str, ...]:
        """Without what is secret in them."""
        return tuple(map(public, self.urls))

    @property
    def file(self) -> Path:
        """Where it lies until it is unpacked."""
        return self.place.beside(".archive")

    @property
    def wanted(self) -> Wanted:
        """At most half of the room there is, since as much again is needed to unpack it."""
        part = kept(self.file)
        begun = part.stat().st_size if part.exists() else 0
        return Wanted(
            self.file,
            "sha256",
            "",
            name=self.called,
            variable="DATA_DIR",
            remedy="Correct DATA_URL, or fetch the archive yourself and unpack it into DATA_DIR.",
            most=(free(self.place.directory) + begun) // 2,
            resumes=True,
        )

    def probe(self, check: Callable[[], object], timeout: float = LOOK_TIMEOUT) -> Probe:
        return download.probe(self.urls, open_s3=self.open_s3, check=check, timeout=timeout)


def needed(answer: Probe) -> int:
    """Bytes for the archive and for what it holds: photographs are packed already."""
    return 2 * (answer.length or 0)


def is_same(record: dict[str, Any], answer: Probe) -> bool:
    """Whether what was fetched is what the address still gives, as far as it tells."""
    if answer.length is not None and answer.length != record["bytes"]:
        return False
    own = answer.url is not None and public(answer.url) == record["address"]
    return not own or answer.validator == record["etag"]


def current(archive: Archive, answer: Probe) -> tuple[dict[str, Any] | None, str, bool]:
    """The record of what is there, where that will do, else None; what to say of it, and whether that is a doubt.

    Raises Fault for an archive that cannot be unpacked.
    """
    record, root = archive.place.record(archive.addresses), archive.place.root
    if record is not None and answer.url is None:
        said = "; ".join(f"{public(url)}: {reason}" for url, reason in answer.said.items())
        return record, f"{root} is used as it was fetched: {said}", True
    if record is not None and is_same(record, answer):
        return record, f"{root} is there already, and {record['address']} has not changed", False
    if answer.url is not None:
        format_of(answer.head, archive.called)
    return None, "", False


def brought(archive: Archive, bar: Bar) -> dict[str, Any]:
    """The record of the data set, which is at its place. Raises Fault and TemporaryFault where it cannot be had."""
    with bar(f"look at {archive.called}", None, "B") as move:
        answer = archive.probe(lambda: move(0))
        record, said, doubtful = current(archive, answer)
        if record is not None:
            event("data", said, level="WARNING" if doubtful else "INFO")
            return record
        waiting = archive.place.locked(lambda: move(0))
    with waiting:
        record = archive.place.record(archive.addresses)  # another job may have fetched it meanwhile
        if record is None or not is_same(record, answer):
            record = fetched(archive, answer, bar)
            archive.place.put(record)
    return record


def fetched(archive: Archive, answer: Probe, bar: Bar) -> dict[str, Any]:
    """The record of an archive that is unpacked in the place's `part`. Where that fails for good nothing is left, else
    the archive, or what there is of it.
    """
    place, target = archive.place, archive.file
    try:
        shutil.rmtree(place.part, ignore_errors=True)
        few = lacking("DATA_DIR", place.directory, needed(answer))
        if few is not None:
            raise few
        if not is_here(archive, answer):
            download.fetch(archive.urls, archive.wanted, bar=bar, open_s3=archive.open_s3, limits=archive.limits)
        address, etag = noted(target)
        with bar(f"hash {archive.called}", target.stat().st_size, "B") as move:
            sha256 = hash_of(target, "sha256", move)
        record: dict[str, Any] = {"address": address, "bytes": target.stat().st_size, "etag": etag, "sha256": sha256}
        place.part.mkdir()
        unpack(target, archive.called, place.part, bar)
    except Fault as fault:
        shutil.rmtree(place.part, ignore_errors=True)
        if not isinstance(fault, TemporaryFault):
            forget(target)
        raise
    except OSError as error:
        raise place.unwritable(error) from error
    forget(target)
    event("data", f"{address}: {size(record['bytes'])} fetched and unpacked into {place.root}")
    return record


def is_here(archive: Archive, answer: Probe) -> bool:
    """Whether a job that was stopped while it unpacked has left the archive whole."""
    target = archive.file
    address, etag = noted(target)
    if not target.exists() or answer.url is None or not etag:
        return False
    return (address, etag, target.stat().st_size) == (public(answer.url), answer.validator, answer.length)


def forget(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    note_of(archive).unlink(missing_ok=True)
