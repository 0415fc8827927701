"""A data set that DATA_URL names as a prefix of a bucket: what is new or changed is fetched, many objects at a time."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from job import storage
from job.console.logs import event, printable
from job.data.download import Bar, Move
from job.data.files import is_left_behind
from job.data.staging import Place
from job.data.unpack import safe
from job.errors import Fault, os_fault
from job.storage.objects import Entry, NotWritten, Objects
from job.storage.room import lacking

CONNECTIONS = 16  # objects that are fetched at the same time
LOOK_SECONDS = 0.1  # between two looks at whether the work shall stop
REMEDY = "Correct DATA_URL: s3://bucket/prefix of the folder with train/ or the classes, or an archive's address."

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """What lies below a prefix and is fetched, by its name."""

    uri: str
    entries: dict[str, Entry]

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    def record(self) -> dict[str, Any]:
        """As it is kept beside the files; `sha256` is over all names, sizes and ETags."""
        objects = {name: [entry.size, entry.etag] for name, entry in self.entries.items()}
        sha = hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()
        return {"address": self.uri, "bytes": self.bytes, "sha256": sha, "objects": objects}


def listing(objects: Objects) -> Listing:
    """Raises Fault where there is nothing, or what cannot lie in a folder as it is called."""
    entries, left_behind = {}, 0
    for entry in objects.entries():
        if any(map(is_left_behind, entry.name.split("/"))):
            left_behind += 1
            continue
        path = safe(entry.name)
        if path is None or str(path) != entry.name:
            raise Fault(
                f"DATA_URL: {objects.uri} has an object that no file can be called as: {printable(entry.name)}.",
                "Rename it, or name a prefix without it.",
            )
        entries[entry.name] = entry
    clash = next((str(up) for name in entries for up in Path(name).parents if str(up) in entries), None)
    if clash is not None:
        raise Fault(
            f"DATA_URL: {objects.uri} has both {printable(clash)} and objects below it: a file cannot be a folder.",
            "Rename or remove one of them.",
        )
    if left_behind:
        event("data", f"{objects.uri}: {left_behind:,} object(s) passed over that systems leave behind")
    if not entries:
        raise Fault(f"DATA_URL: there is nothing below {objects.uri}.", REMEDY)
    return Listing(objects.uri, entries)


def brought(url: str, place: Place, bar: Bar) -> dict[str, Any]:
    """The record of the data set, which is at its place. Raises Fault and TemporaryFault where it cannot be had."""
    objects = storage.open_prefix(url, CONNECTIONS)
    record = place.record((objects.uri,))
    with bar(f"list {objects.uri}", None, "objects") as move:
        try:
            found = heard(lambda: listing(objects), move)
        except Fault as fault:
            if record is None:
                raise
            event("data", f"{place.root} is used as it was fetched: {fault.what}", level="WARNING")
            return record
        waiting = place.locked(lambda: move(0))
    if record is not None and is_current(found, record, place):
        event("data", f"{place.root} is there already, and {objects.uri} has not changed")
        return record
    with waiting:
        record = place.record((objects.uri,))  # another job may have fetched it meanwhile
        if record is None or not is_current(found, record, place):
            gathered(objects, found, record, place, bar)
            record = found.record()
            place.put(record)
            place.beside(".part.jsonl").unlink(missing_ok=True)
    return record


def is_current(found: Listing, record: dict[str, Any], place: Place) -> bool:
    """Whether all that is listed is there, and nothing else was fetched."""
    same = record["sha256"] == found.record()["sha256"]
    return same and len(unchanged(found, record, place.root)) == len(found.entries)


def unchanged(found: Listing, record: dict[str, Any] | None, folder: Path) -> dict[str, Path]:
    """The files in a folder that are what is listed, by their sizes and the ETags that were noted when they came."""
    noted = record["objects"] if record else {}
    return {
        name: folder / name
        for name, entry in found.entries.items()
        if noted.get(name) == [entry.size, entry.etag] and size_of(folder / name) == entry.size
    }


def size_of(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def gathered(objects: Objects, found: Listing, record: dict[str, Any] | None, place: Place, bar: Bar) -> None:
    """Puts everything that is listed into the place's `part`: what is there already is linked, what a killed job had
    fetched stays, the rest is fetched.
    """
    journal = place.beside(".part.jsonl")
    begun = unchanged(found, {"objects": journalled(journal)}, place.part)
    kept = {name: file for name, file in unchanged(found, record, place.root).items() if name not in begun}
    missing = [entry for name, entry in found.entries.items() if name not in begun and name not in kept]
    total = sum(entry.size for entry in missing)
    few = lacking("DATA_DIR", place.directory, total)
    if few is not None:
        raise few
    try:
        remove_others(place.part, begun)
        for name in found.entries:
            (place.part / name).parent.mkdir(parents=True, exist_ok=True)
        for name, file in kept.items():
            linked(file, place.part / name)
        with journal.open("a") as noted, bar(f"download {objects.uri}", total, "B") as move:
            for entry in in_parallel(objects, missing, place.part, move):
                noted.write(json.dumps([entry.name, entry.size, entry.etag]) + "\n")
                noted.flush()
                move(entry.size)
    except OSError as error:
        raise place.unwritable(error) from error
    event("data", f"{objects.uri}: {len(missing):,} object(s) fetched, {len(begun) + len(kept):,} were here already")


def remove_others(part: Path, begun: dict[str, Path]) -> None:
    """Removes from a killed job's folder what it had not finished, or what is not listed any more."""
    part.mkdir(exist_ok=True)
    wanted = set(begun.values())
    for file in [file for file in part.rglob("*") if not file.is_dir() and file not in wanted]:
        file.unlink()


def journalled(journal: Path) -> dict[str, list[Any]]:
    """Name → size and ETag of what a killed job had fetched; a last line may be cut off."""
    try:
        lines = journal.read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            name, *rest = json.loads(line)
        except ValueError:
            continue
        found[name] = rest
    return found


def linked(file: Path, target: Path) -> None:
    """The same file by another name; a copy where the file system has no links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def in_parallel(objects: Objects, entries: Sequence[Entry], folder: Path, move: Move) -> Iterator[Entry]:
    """Fetches all, and gives each once its file is whole. Raises the first fault; what `move` raises is heard at once,
    whatever the store does: threads that wait for it are left behind.
    """
    waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    done: queue.SimpleQueue[Entry | BaseException] = queue.SimpleQueue()
    left = threading.Event()
    for entry in entries:
        waiting.put(entry)

    def work() -> None:
        while not left.is_set():
            try:
                entry = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                objects.save(entry, folder / entry.name)
                done.put(entry)
            except NotWritten as failed:
                done.put(os_fault(failed.error, f"cannot write {printable(str(folder / entry.name))}", "DATA_DIR"))
            except BaseException as error:
                done.put(error)

    try:
        for number in range(min(CONNECTIONS, len(entries))):
            threading.Thread(target=work, name=f"objects {number}", daemon=True).start()
        for _ in entries:
            yield taken(done, move)
    finally:
        left.set()


def heard(call: Callable[[], T], move: Move) -> T:
    """What `call` returns, from a thread of its own: whatever the store does, a stop is heard."""
    done: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put(call())
        except BaseException as error:
            done.put(error)

    threading.Thread(target=work, name="listing", daemon=True).start()
    return taken(done, move)


def taken(done: queue.SimpleQueue[T | BaseException], move: Move) -> T:
    """The next result. Raises what came in its place, and what `move` raises while it is waited for."""
    while True:
        move(0)
        try:
            result = done.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if isinstance(result, BaseException):
            raise result
        return result
