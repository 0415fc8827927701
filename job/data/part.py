"""The file that a download makes: what it must be, and the part of it that is here already."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from job.data.addresses import Gone, public
from job.data.sniff import HEAD, mistaken_for
from job.errors import Fault, TemporaryFault, os_fault

STALE_PART_SECONDS = 3600


@dataclass(frozen=True)
class Wanted:
    """One file. `digest`, hex of `algorithm`, may be the hash's beginning alone, or empty where it is not known.

    It is no larger than `most` bytes: a server that sends without end must not fill the disk. A message calls the file
    `name` and the variable that says where it goes `variable`; `remedy` is what to do where nobody gives it. A part of
    one that `resumes` stays when the job ends or is killed, and the next one goes on with it where the server can tell
    that it is still the same file; nobody else may be fetching it then.
    """

    target: Path
    algorithm: str
    digest: str
    name: str
    variable: str
    remedy: str
    most: int
    resumes: bool = False

    def unwritable(self, error: OSError) -> Fault:
        """The fault for a failed write beside the target."""
        return os_fault(error, f"{self.variable}: {self.target.parent} cannot be written", self.variable)

    def not_fetched(self, said: Mapping[str, str], for_good: bool) -> Fault:
        """The fault to tell where no mirror gave the file; `said` is what each had to say."""
        tried = "; ".join(f"{public(url)}: {reason}" for url, reason in said.items())
        return (Fault if for_good else TemporaryFault)(f"{self.name} could not be fetched. {tried}.", self.remedy)


def data_file(target: Path, md5: str, most: int) -> Wanted:
    """A file of a data set, below DATA_DIR."""
    return Wanted(
        target,
        "md5",
        md5,
        name=target.name,
        variable="DATA_DIR",
        remedy=f"Put the file into DATA_DIR ({target.parent}) yourself, or name a mirror that you reach in DATA_URL.",
        most=most,
    )


@dataclass
class Part:
    """A temporary file beside the target, which takes its place at the end. `validator` names the content of which the
    bytes from `url` are, as the server calls it.
    """

    wanted: Wanted
    path: Path
    file: BinaryIO
    size: int = 0
    url: str = ""
    validator: str = field(default="", repr=False)

    def write(self, chunk: bytes) -> None:
        try:
            self.file.write(chunk)
            self.file.flush()
        except OSError as error:
            raise self.wanted.unwritable(error) from error
        self.size += len(chunk)

    def has_room_for(self, more: int | None) -> None:
        """Raises Gone, and keeps nothing, where with `more` bytes it were larger than what is wanted can be."""
        if more is not None and self.size + more > self.wanted.most:
            self.restart()
            raise Gone(f"sends more than {self.wanted.most:,} bytes, the most that {self.wanted.name} can have")

    def begins(self, url: str, source: object) -> None:
        """Takes note of who sends the rest; starts over where it sends the whole."""
        offset, validator = getattr(source, "offset", 0), getattr(source, "validator", "")
        if offset != self.size:
            self.restart()
            if offset:
                raise ConnectionError("sent another part than was asked for")
        self.url, self.validator = url, validator
        if self.wanted.resumes:
            note = {"address": public(url), "validator": validator}
            try:
                note_of(self.path).write_text(json.dumps(note))
            except OSError as error:
                raise self.wanted.unwritable(error) from error

    def restart(self) -> None:
        if self.size:
            self.file.seek(0)
            self.file.truncate()
            self.size = 0

    def goes_on(self, url: str) -> bool:
        """Whether the rest may come from `url`: a hash tells in the end, or the server what it goes on with."""
        same = self.is_from(url) and bool(self.validator)
        return self.size > 0 and (same or (bool(self.wanted.digest) and url.startswith("http")))

    def is_from(self, url: str) -> bool:
        """Whether it was begun there; what is secret in an address is not noted, and changes."""
        return public(url) == public(self.url)

    def fault(self) -> str:
        """What is wrong with it, in words; empty where nothing is known to be."""
        with self.path.open("rb") as file:
            mistaken = mistaken_for(file.read(HEAD))
        if mistaken is not None:
            return f"sent {mistaken[0]}"
        algorithm, digest = self.wanted.algorithm, self.wanted.digest
        if not digest:
            return ""
        found = hash_of(self.path, algorithm)[: len(digest)]
        return "" if found == digest else f"sent other bytes ({algorithm.upper()} {found}, expected {digest})"


@contextmanager
def part_of(wanted: Wanted) -> Iterator[Part]:
    """The temporary file; removed on leaving unless it was moved away, or is to be gone on with."""
    if wanted.resumes:
        with kept_part_of(wanted) as part:
            yield part
        return
    target = wanted.target
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise wanted.unwritable(error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Part(wanted, Path(name), file)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def kept_part_of(wanted: Wanted) -> Iterator[Part]:
    """The file that the next job goes on with, as the last one left it; empty where it is not known what it is of.
    Removed where nobody will ever give the rest. The note of what it is of goes with it to the target.
    """
    path = kept(wanted.target)
    begun = noted(path)
    try:
        file = path.open("ab" if begun[1] else "wb")
    except OSError as error:
        raise wanted.unwritable(error) from error
    try:
        with file:
            yield Part(wanted, path, file, file.tell(), *begun)
    except Fault as fault:
        if not isinstance(fault, TemporaryFault):
            path.unlink(missing_ok=True)
        raise
    finally:
        with suppress(FileNotFoundError):
            if not path.exists() and wanted.target.exists():
                note_of(path).replace(note_of(wanted.target))
            elif not path.exists():
                note_of(path).unlink()


def kept(target: Path) -> Path:
    """Where a part lies that the next job goes on with."""
    return target.with_name(f".{target.name.lstrip('.')}.part")


def note_of(file: Path) -> Path:
    """Where it is noted what a part, or a file that was fetched with `resumes`, is of."""
    return file.with_name(f"{file.name}.json")


def noted(file: Path) -> tuple[str, str]:
    """Address, without what is secret in it, and validator; empty where they are not known."""
    try:
        note = json.loads(note_of(file).read_bytes())
        return str(note["address"]), str(note["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def remove_stale_parts(target: Path) -> None:
    """Removes what killed downloads left; a part that is still growing belongs to another job."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > STALE_PART_SECONDS:
                part.unlink()
        except OSError:
            continue  # gone already, or not ours


def hash_of(file: Path, algorithm: str, on_bytes: Callable[[int], object] = lambda count: None) -> str:
    """The hash (hex) of a file's content; `on_bytes` gets the count of each piece of it."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()
