"""Where a run's files go: one small interface, with a local directory or an S3-compatible bucket behind it.

In reading order: this file (the interface), `names`, `files` and `local` (a directory), `s3_client`, `s3_answers` (is
it a store at all), `s3_faults` with `s3_metadata`, `s3` and `s3_object` (a bucket), `objects` and
`s3_prefix` (all that lies there, to be fetched), `room`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from job.interrupt import Stop
from job.storage.local import LocalStore
from job.storage.objects import Objects

S3_SCHEME = "s3://"


class ArtifactStore(Protocol):
    """Named byte contents below one place. Every call raises Fault or TemporaryFault where the place does not serve.

    A name is made of parts with `/` between them; no part is empty or starts with a dot (ValueError otherwise).
    """

    @property
    def uri(self) -> str:
        """Where it is, for people."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Stores `content` whole or not at all; what was there before is replaced. On return it is durable."""
        ...

    def get(self, name: str) -> bytes | None:
        """The content as it was put, or None where there is none of that name."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """The names that start with `prefix`, in alphabetical order."""
        ...

    def delete(self, name: str) -> None:
        """Removes it; one that is not there is no fault."""
        ...

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        """The content and a mark of its version, for `put_if`. Equal contents may have equal marks."""
        ...

    def put_if(self, name: str, content: bytes, version: str | None) -> bool:
        """Stores a small `content` only where nothing is there (`version` None) or what is there still has `version`.

        Of several that try at the same time with the same `version`, at most one gets True. False says no more than
        that this call did not surely win: look with `get_versioned` at what is there. Meant for locks: contents
        differ between writers and from one heartbeat to the next. `put` and `delete` do not take part in it.
        """
        ...

    def put_known(self, name: str, content: bytes, version: str | None) -> str:
        """Stores `content` where what is there still has `version` (None: where nothing is), and returns its version.

        Raises TakenOver where somebody else has written it. Where a store knows no conditional writes, a look right
        before the write has to do.
        """
        ...

    def guarded(self, guard: Callable[[], object], patience: float) -> ArtifactStore:
        """The same place, where `guard` is called before every single step that changes something there: a rename, a
        removal, each request and each repeat of one. It may raise, which leaves that step undone. What may pass is
        tried again for `patience` seconds.
        """
        ...

    def encrypted(self, how: Mapping[str, str]) -> ArtifactStore:
        """The same place, where a bucket is asked to encrypt what is written: `how` are parameters of PutObject."""
        ...

    def keeps_versions(self) -> bool:
        """Whether what is overwritten or deleted stays, and is paid for, as in a bucket with versioning; False where
        that cannot be told.
        """
        ...

    @property
    def near(self) -> bool:
        """Whether reading a small file costs next to nothing."""
        ...

    @property
    def deletes(self) -> bool:
        """Whether it may delete, as far as is known; where not, what is deleted is empty and counts as not there."""
        ...

    def tidy(self) -> None:
        """Removes what writers that were killed left half done: temporary files, multipart uploads.

        Sound only where nobody else writes here, so call it once the run's lock is held.
        """
        ...


class Heard:
    """A store whose every call hears the stop (see `Stop.heard`); of what is promised there, nothing else changes."""

    def __init__(self, store: ArtifactStore, stop: Stop) -> None:
        self.store = store
        self.stop = stop
        self.uri = store.uri
        self.near = store.near

    @property
    def deletes(self) -> bool:
        return self.store.deletes

    def put(self, name: str, content: bytes) -> None:
        self.stop.heard(lambda: self.store.put(name, content))

    def get(self, name: str) -> bytes | None:
        return self.stop.heard(lambda: self.store.get(name))

    def list(self, prefix: str = "") -> builtins.list[str]:
        return self.stop.heard(lambda: self.store.list(prefix))

    def delete(self, name: str) -> None:
        self.stop.heard(lambda: self.store.delete(name))

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        return self.stop.heard(lambda: self.store.get_versioned(name))

    def put_if(self, name: str, content: bytes, version: str | None) -> bool:
        return self.stop.heard(lambda: self.store.put_if(name, content, version))

    def put_known(self, name: str, content: bytes, version: str | None) -> str:
        return self.stop.heard(lambda: self.store.put_known(name, content, version))

    def guarded(self, guard: Callable[[], object], patience: float) -> Heard:
        return Heard(self.store.guarded(guard, patience), self.stop)

    def encrypted(self, how: Mapping[str, str]) -> Heard:
        return Heard(self.store.encrypted(how), self.stop)

    def keeps_versions(self) -> bool:
        return self.stop.heard(self.store.keeps_versions)

    def tidy(self) -> None:
        self.stop.heard(self.store.tidy)


class Reading(Protocol):
    """An open object that sends `length` bytes from `offset` on; `validator` is its ETag. `read1` gives up to `size` as
    soon as there are any, none at the end.
    """

    length: int | None
    offset: int
    validator: str

    def read1(self, size: int, /) -> bytes: ...


def open_store(
    output: str, run_name: str = "", variable: str = "OUTPUT", *, stop: Stop | None = None, brief: bool = False
) -> ArtifactStore:
    """The store for a run: `run_name` below `output`, a directory or `s3://bucket/prefix`; without a name the one for
    `output` itself, where the files of all runs are listed as `run_name/file`. Nothing is touched yet. `variable` is
    the setting that named the bucket, for messages. `brief` is for a look: a store that does not answer is told after
    some seconds, without trying again. With a `stop` every call hears it.

    Raises Fault where `output` or the AWS settings are unusable.
    """
    store: ArtifactStore
    if output.startswith(S3_SCHEME):
        from job.storage import s3  # boto3 takes a third of a second and is not needed for a directory

        store = s3.open_store(output, run_name, s3.BRIEF if brief else s3.Limits(), variable=variable)
    else:
        store = LocalStore(Path(output) / run_name, variable=variable, links=not run_name)
    return store if stop is None else Heard(store, stop)


def open_object(url: str, offset: int = 0, validator: str = "") -> AbstractContextManager[Reading]:
    """Opens `s3://bucket/key` for reading: from byte `offset` on where the object still has the ETag `validator`, as
    what is given tells.

    Opening and reading raise OSError alone, as other downloads do: FileNotFoundError and PermissionError where asking
    again is of no use (no such object or bucket, credentials missing, wrong or not enough), else ConnectionError or
    TimeoutError.
    """
    from job.storage import s3_object

    return s3_object.open_object(url, offset, validator)


def open_prefix(url: str, connections: int = 1, *, brief: bool = False, variable: str = "DATA_URL") -> Objects:
    """All below `s3://bucket/prefix`, for so many requests at a time; `brief` and `variable` are as in `open_store`.

    Raises Fault where the AWS settings are unusable.
    """
    from job.storage import s3_prefix

    return s3_prefix.open_prefix(url, connections, brief, variable)
