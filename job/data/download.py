"""Fetching one file from the first mirror that gives it, whole, unchanged and fast enough."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from job.console.logs import event
from job.errors import Fault, TemporaryFault


class Stream(Protocol):
    """An open download: `read1` gives at most `size` bytes as soon as there are any, and none at the end."""

    length: int | None

    def read1(self, size: int, /) -> bytes: ...


Opener = Callable[[str], AbstractContextManager[Stream]]
Bar = Callable[[str, "int | None", str], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class Limits:
    """`slowest` is in bytes a second, over `window` seconds at a time, for each round through the mirrors: the second
    round takes what is slow but alive. `timeout` (seconds) is for a connection that says nothing at all.
    """

    slowest: Sequence[float] = (300e3, 10e3)
    window: float = 10.0
    timeout: float = 30.0


CHUNK = 1 << 16
STALE_PART_SECONDS = 3600
LARGEST_WHOLE = 1 << 28  # bytes of an image; no camera makes larger ones


class _Gone(Exception):
    """This mirror will not give the file however often it is asked."""


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    md5: str,
    bar: Bar,
    open_s3: Opener,
    limits: Limits = Limits(),
) -> None:
    """Puts the file with this MD5 at `target`, trying `urls` in order, and once more those that may still mend.

    `target` appears whole or not at all. Raises Fault where no mirror has the file or `target` cannot be written, and
    TemporaryFault where trying again may help.
    """
    make_directory(target.parent)
    remove_stale_parts(target)
    said: dict[str, str] = {}
    gone: set[str] = set()
    for slowest in limits.slowest:
        for url in urls:
            if url in gone:
                continue
            try:
                _fetch_one(url, target, md5, bar, open_s3, slowest, limits)
                return
            except (_Gone, FileNotFoundError, PermissionError) as error:  # the latter two from `open_s3`
                gone.add(url)
                said[url] = str(error)
            except (OSError, http.client.HTTPException) as error:
                said[url] = describe(error)
            event("mirror", f"{public(url)}: {said[url]}", level="WARNING")
    raise not_fetched(target, said, for_good=gone.issuperset(urls))


def not_fetched(target: Path, said: Mapping[str, str], for_good: bool) -> Fault:
    """The fault to tell where no mirror gave the file; `said` is what each had to say."""
    tried = "; ".join(f"{public(url)}: {reason}" for url, reason in said.items())
    return (Fault if for_good else TemporaryFault)(
        f"{target.name} could not be fetched. {tried}.",
        f"Put the file into DATA_DIR ({target.parent}) yourself, or name a mirror that you reach in DATA_URL.",
    )


@dataclass(frozen=True)
class Probe:
    """Which address answers (None: none does), what the ones before it said, and whether that is their last word."""

    url: str | None
    said: Mapping[str, str]
    for_good: bool


def probe(urls: Sequence[str], *, open_s3: Opener, timeout: float = 5.0) -> Probe:
    """Looks for the first of `urls` that begins to send its file, as `fetch` would ask for it; nothing is kept.

    `timeout` is in seconds, for each address.
    """
    said: dict[str, str] = {}
    gone: set[str] = set()
    for url in urls:
        opener = open_s3 if url.startswith("s3://") else lambda address: open_url(address, timeout)
        try:
            with opener(url) as stream:
                if stream.read1(CHUNK):
                    return Probe(url, said, for_good=False)
            said[url] = "an empty file"
            gone.add(url)
        except (_Gone, FileNotFoundError, PermissionError) as error:
            gone.add(url)
            said[url] = str(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            said[url] = describe(error)
    return Probe(None, said, for_good=gone.issuperset(urls))


def _fetch_one(url: str, target: Path, md5: str, bar: Bar, open_s3: Opener, slowest: float, limits: Limits) -> None:
    opener = open_s3 if url.startswith("s3://") else lambda address: open_url(address, limits.timeout)
    digest = hashlib.md5(usedforsecurity=False)
    with part_of(target) as (part, write), opener(url) as stream:
        with bar(f"download {target.name}", stream.length, "B") as update:
            received, window_start, window_bytes = 0, time.monotonic(), 0
            while chunk := stream.read1(CHUNK):
                write(chunk)
                digest.update(chunk)
                received += len(chunk)
                window_bytes += len(chunk)
                update(len(chunk))
                elapsed = time.monotonic() - window_start
                if elapsed >= limits.window:
                    if window_bytes / elapsed < slowest:
                        raise TimeoutError(f"slower than {slowest / 1e3:g} kB/s")
                    window_start, window_bytes = time.monotonic(), 0
        if stream.length is not None and received < stream.length:
            raise ConnectionError(f"cut off after {received} of {stream.length} bytes")
        if digest.hexdigest() != md5:
            raise _Gone(f"sent other bytes (MD5 {digest.hexdigest()}, expected {md5})")
        part.replace(target)


@contextmanager
def open_url(url: str, timeout: float) -> Iterator[Stream]:
    """Opens an http, https or file address. Raises _Gone for what the server says is not there or not allowed."""
    try:
        response = urllib.request.urlopen(url, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _Gone(f"HTTP status {error.code}") from None
            raise ConnectionError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, FileNotFoundError | IsADirectoryError | PermissionError):
            raise _Gone(f"{error.reason.strerror or 'cannot be read'}") from None
        raise
    with response:
        length = response.headers.get("Content-Length")
        response.length = int(length) if length else None
        yield _Measured(response, response.length)


def read_whole(url: str, limits: Limits = Limits(), largest: int = LARGEST_WHOLE) -> bytes:
    """The content of a small http, https or file address.

    Raises Fault where it is not there or larger than `largest` bytes, TemporaryFault where trying again may help.
    """
    try:
        with open_url(url, limits.timeout) as stream:
            content = bytearray()
            while chunk := stream.read1(CHUNK):
                content += chunk
                if len(content) > largest:
                    raise _Gone(f"larger than {largest / 1e6:.0f} MB")
            if stream.length is not None and len(content) < stream.length:
                raise ConnectionError(f"cut off after {len(content)} of {stream.length} bytes")
            return bytes(content)
    except _Gone as error:
        raise Fault(f"{public(url)}: {error}.") from None
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryFault(f"{public(url)}: {describe(error)}.") from None


@dataclass
class _Measured:
    """http.client lowers its own `length` while it is read; this one stays."""

    response: http.client.HTTPResponse
    length: int | None

    def read1(self, size: int, /) -> bytes:
        read = getattr(self.response, "read1", self.response.read)
        return read(size)


@contextmanager
def part_of(target: Path) -> Iterator[tuple[Path, Callable[[bytes], object]]]:
    """A temporary file beside `target` and its write function; removed on leaving unless it was moved away."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise unwritable(target.parent, error) from error
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:

            def write(chunk: bytes) -> None:
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise unwritable(target.parent, error) from error

            yield part, write
    finally:
        part.unlink(missing_ok=True)


def make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error


def unwritable(directory: Path, error: OSError) -> Fault:
    """The fault for a failed write below DATA_DIR; a full disk may be mended by a retry elsewhere."""
    fault = TemporaryFault if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else Fault
    return fault(
        f"DATA_DIR: {directory} cannot be written ({error.strerror}).",
        "Name a writable directory with enough room in DATA_DIR, or put the data set there beforehand.",
    )


def remove_stale_parts(target: Path) -> None:
    """Removes what killed downloads left; a part that is still growing belongs to another job."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > STALE_PART_SECONDS:
                part.unlink()
        except OSError:
            continue  # gone already, or not ours


def public(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def describe(error: Exception) -> str:
    """What the network said, in a few words; never the address, which may hold a password."""
    if isinstance(error, http.client.InvalidURL | ValueError):
        return "not a usable address (a user and password in it are not supported)"
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return "no answer in time" if isinstance(reason, TimeoutError) and "timed out" in str(text) else str(text)
