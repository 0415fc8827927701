"""What lies below a prefix of a bucket, to be fetched: small files, many of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its name below the prefix, its bytes, and its ETag, which another content changes."""

    name: str
    size: int
    etag: str


class NotWritten(Exception):
    """A file could not be written; `error` says why. No OSError itself, which to a store means the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Objects(Protocol):
    """What lies below an `s3://bucket/prefix`. `uri` is for people."""

    @property
    def uri(self) -> str: ...

    def entries(self) -> list[Entry]:
        """Every object, in alphabetical order. Raises Fault and TemporaryFault."""
        ...

    def save(self, entry: Entry, file: Path) -> None:
        """Writes an object's content into a file, whole. Raises Fault and TemporaryFault, also where it has changed
        since it was listed, and NotWritten.
        """
        ...

    def content(self, entry: Entry) -> bytes:
        """A small object's content, whole. Raises Fault and TemporaryFault, as `save` does."""
        ...


class Output:
    """A file that is written; what goes wrong is NotWritten."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, chunk: bytes) -> None:
        try:
            self.file.write(chunk)
            self.file.flush()
        except OSError as error:
            raise NotWritten(error) from None


@contextmanager
def written(file: Path) -> Iterator[Output]:
    """The file, empty, to be written."""
    try:
        opened = file.open("wb")
    except OSError as error:
        raise NotWritten(error) from None
    with opened:
        yield Output(opened)
