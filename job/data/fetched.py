"""The data set that DATA_URL names, for DATASET=folder: in a folder of its own below DATA_DIR, fetched where it is not
there yet or has changed.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.data import archive, bucket
from job.data.archive import Archive
from job.data.download import Bar
from job.data.staging import Place
from job.errors import Fault

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tar.xz", ".7z", ".rar")
TOLD = ("address", "bytes", "etag", "sha256")  # of a record, in a run's results


@dataclass(frozen=True)
class Fetched:
    """The folder, and what the results say of where it came from."""

    root: Path
    about: dict[str, Any]


def fetched(urls: tuple[str, ...], directory: Path, bar: Bar) -> Fetched:
    """The data set at its place below `directory`. Raises Fault and TemporaryFault where it cannot be had."""
    source = understood(urls, directory)
    if isinstance(source, Archive):
        place, record = source.place, archive.brought(source, bar)
    else:
        place, record = source, bucket.brought(urls[0], source, bar)
    return Fetched(place.root, about(record))


def about(record: dict[str, Any]) -> dict[str, Any]:
    told = {name: record[name] for name in TOLD if name in record}
    return told | ({"objects": len(record["objects"])} if "objects" in record else {})


def understood(urls: tuple[str, ...], directory: Path) -> Archive | Place:
    """An archive that several addresses may give, or the place for a bucket's prefix. An address in a bucket is one of
    an archive where it ends like one; elsewhere there is nothing but archives.

    Raises Fault for a prefix beside other addresses.
    """
    prefixes = [url for url in urls if url.startswith("s3://") and not url.lower().endswith(ENDINGS)]
    place = Place(directory, name_of(urls[0]))
    if not prefixes:
        return Archive(urls, place, called(urls[0]))
    if len(urls) > 1:
        raise Fault(
            "DATA_URL: one s3://bucket/prefix serves alone, without other addresses.",
            "Name one folder, or several addresses of the same archive.",
        )
    return place


def called(url: str) -> str:
    """The file that an address names, for people."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc.rpartition("@")[2]


def name_of(url: str) -> str:
    """What the folder is called: the archive without its ending, or the prefix's last part."""
    name = called(url)
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return re.sub(r"[^\w.-]+", "-", name[: len(name) - len(ending)]).strip(".-")[:100] or "images"
