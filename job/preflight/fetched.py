"""Whether the data set that DATA_URL names can be fetched into DATA_DIR; nothing is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from job import storage
from job.data import archive, bucket
from job.data.addresses import public
from job.data.archive import Archive
from job.data.dataset import apart
from job.data.fetched import understood
from job.data.files import named_as_image
from job.data.staging import Place
from job.data.unpack import format_of
from job.errors import Fault
from job.preflight import disk
from job.preflight.findings import Finding, failed, ok, warn
from job.settings import Settings
from job.storage.room import nearest, size


def look(settings: Settings, check: Callable[[], object]) -> tuple[Path | None, list[Finding]]:
    """The folder of the data set where it is there and has not changed, else None; and what was found.

    Raises Fault where it cannot be had. `check` is called while an answer is waited for and may raise.
    """
    apart(settings)
    source = understood(settings.data_url, settings.data_dir)
    if isinstance(source, Archive):
        return look_at_archive(source, check)
    return look_at_prefix(settings.data_url[0], source)


def look_at_archive(source: Archive, check: Callable[[], object]) -> tuple[Path | None, list[Finding]]:
    """Asks whether the download begins, how long it is and what kind of archive; no more is read."""
    answer = source.probe(check, timeout=5.0)
    record, said, doubtful = archive.current(source, answer)
    if record is not None:
        return source.place.root, [warn("data", said) if doubtful else ok("data", said)]
    if answer.url is None:
        return None, [failed("data", source.wanted.not_fetched(answer.said, answer.for_good))]
    findings = [warn("data", f"{public(url)}: {why}", "The next address is taken.") for url, why in answer.said.items()]
    length = "of unknown length" if answer.length is None else size(answer.length)
    kind = format_of(answer.head, source.called)
    told = f"{public(answer.url)} answers: {kind}, {length}, would be downloaded and unpacked into {source.place.root}"
    return None, [*findings, ok("data", told), *room(source.place, archive.needed(answer))]


def look_at_prefix(url: str, place: Place) -> tuple[Path | None, list[Finding]]:
    """Lists the objects; none is read."""
    objects = storage.open_prefix(url, brief=True)
    record = place.record((objects.uri,))
    try:
        found = bucket.listing(objects)
    except Fault as fault:
        if record is None:
            raise
        return place.root, [warn("data", f"{place.root} would be used as it was fetched: {fault.what}")]
    here = bucket.unchanged(found, record, place.root)
    if record is not None and bucket.is_current(found, record, place):
        return place.root, [ok("data", f"{place.root} is there already, and {found.uri} has not changed")]
    missing = sum(entry.size for name, entry in found.entries.items() if name not in here)
    pictures = sum(map(named_as_image, found.entries))
    told = (
        f"{found.uri}: {len(found.entries):,} objects, {size(found.bytes)}, {pictures:,} of them named as images; "
        f"{len(found.entries) - len(here):,}, {size(missing)}, would be downloaded into {place.root}"
    )
    return None, [ok("data", told), *room(place, missing)]


def room(place: Place, needed: int) -> list[Finding]:
    """On the disk, and whether it may be written to."""
    found = [disk.room("DATA_DIR", place.directory, needed)]
    if not os.access(nearest(place.directory), os.W_OK):
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        found.append(failed("data", place.unwritable(denied)))
    return found
