"""Fetching one file from the first mirror that gives it, whole, unchanged and fast enough."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from job.console.logs import event
from job.data import attentive
from job.data.addresses import Gone, RangeRefused, describe, open_url, public
from job.data.attentive import CHUNK, Opener
from job.data.part import Part, Wanted, part_of, remove_stale_parts
from job.data.sniff import HEAD, mistaken_for


class Move(Protocol):
    """Moves a bar on; `total` is given once it is known. It may raise, to stop the work."""

    def __call__(self, count: int, total: int | None = None) -> object: ...


Bar = Callable[[str, "int | None", str], AbstractContextManager[Move]]


@dataclass(frozen=True)
class Limits:
    """`slowest` is in bytes a second, over `window` seconds at a time, for each round through the mirrors: the second
    round takes what is slow but alive. `timeout` (seconds) is for a connection that says nothing at all.
    """

    slowest: Sequence[float] = (300e3, 10e3)
    window: float = 10.0
    timeout: float = 30.0


def fetch(urls: Sequence[str], wanted: Wanted, *, bar: Bar, open_s3: Opener, limits: Limits = Limits()) -> None:
    """Puts the file at its target, trying `urls` in order, and once more those that may still mend. What was cut off is
    gone on with where the server can do that and the outcome can be checked.

    The target appears whole or not at all. Raises Fault where no mirror has the file or the target cannot be written,
    TemporaryFault where trying again may help, and what the bar raises, which is moved several times a second.
    """
    try:
        wanted.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise wanted.unwritable(error) from error
    remove_stale_parts(wanted.target)
    said: dict[str, str] = {}
    gone: set[str] = set()
    with part_of(wanted) as part:
        for slowest in limits.slowest:
            for url in urls:
                if url in gone:
                    continue
                try:
                    _fetch_one(_Source(url, open_s3, slowest, limits), part, bar)
                    return
                except (Gone, FileNotFoundError, PermissionError) as error:  # the latter two from `open_s3`
                    gone.add(url)
                    said[url] = str(error)
                except (OSError, http.client.HTTPException) as error:
                    said[url] = describe(error)
                event("mirror", f"{public(url)}: {said[url]}", level="WARNING")
    raise wanted.not_fetched(said, for_good=gone.issuperset(urls))


@dataclass(frozen=True)
class Probe:
    """Which address answers (None: none does), what the ones before it said, and whether that is their last word. Of
    the one that answers its `length` in bytes, where it says it, what names its content, and how this begins.
    """

    url: str | None
    said: Mapping[str, str]
    for_good: bool
    length: int | None = None
    validator: str = ""
    head: bytes = field(default=b"", repr=False)


def probe(urls: Sequence[str], *, open_s3: Opener, check: Callable[[], object], timeout: float = 5.0) -> Probe:
    """Looks for the first of `urls` that begins to send its file, as `fetch` would ask for it; nothing is kept.

    `timeout` is in seconds, for each address. `check` is called while an answer is waited for and may raise.
    """
    said: dict[str, str] = {}
    gone: set[str] = set()
    for url in urls:
        opener = open_s3 if url.startswith("s3://") else partial(open_url, timeout=timeout)
        try:
            with attentive.opened(opener, url, check, timeout) as stream:
                head, length, source = stream.read1(CHUNK)[:HEAD], stream.length, stream.source
            mistaken = mistaken_for(head)
            if mistaken is None:
                return Probe(url, said, False, length, getattr(source, "validator", ""), head)
            gone.add(url)
            said[url] = f"sends {mistaken[0]}"
        except (Gone, FileNotFoundError, PermissionError) as error:
            gone.add(url)
            said[url] = str(error)
        except (OSError, http.client.HTTPException) as error:
            said[url] = describe(error)
    return Probe(None, said, for_good=gone.issuperset(urls))


@dataclass(frozen=True)
class _Source:
    url: str
    open_s3: Opener
    slowest: float
    limits: Limits


def _fetch_one(source: _Source, part: Part, bar: Bar) -> None:
    """Goes on with the part, or begins anew, and puts it in its place where it is right."""
    resumed = part.goes_on(source.url)
    if not resumed:
        part.restart()
    try:
        _receive(source, part, bar)
        fault = part.fault()
    except RangeRefused as error:
        fault = str(error)
    if fault and resumed:  # what was there already may have been of another file
        part.restart()
        _receive(source, part, bar)
        fault = part.fault()
    if fault:
        part.restart()
        raise Gone(fault)
    part.file.close()
    part.path.replace(part.wanted.target)


def _receive(source: _Source, part: Part, bar: Bar) -> None:
    """Adds to the part what is missing. Raises OSError where the rest does not come, or too slowly; the part stays."""
    limits = source.limits
    validator = part.validator if part.is_from(source.url) else ""
    opener: Opener = partial(open_url, timeout=limits.timeout, offset=part.size, validator=validator)
    if source.url.startswith("s3://"):
        opener = partial(source.open_s3, offset=part.size, validator=validator) if part.size else source.open_s3
    with (
        bar(f"download {part.wanted.name}", None, "B") as move,
        attentive.opened(opener, source.url, lambda: move(0), limits.timeout) as stream,
    ):
        part.begins(source.url, stream.source)
        part.has_room_for(stream.length)
        whole = None if stream.length is None else part.size + stream.length
        move(part.size, whole)
        started, received = time.monotonic(), 0
        while chunk := stream.read1(CHUNK):
            part.has_room_for(len(chunk))
            part.write(chunk)
            move(len(chunk))
            received += len(chunk)
            elapsed = time.monotonic() - started
            if elapsed >= limits.window:
                if received / elapsed < source.slowest:
                    raise TimeoutError(f"slower than {source.slowest / 1e3:g} kB/s")
                started, received = time.monotonic(), 0
    if whole is not None and part.size < whole:
        raise ConnectionError(f"cut off after {part.size} of {whole} bytes")
