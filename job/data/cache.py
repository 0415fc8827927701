"""Decoded images kept as one file that is mapped into memory, so that the next start need not decode them again, and
that sets larger than memory can be trained on.

It is told by the content of what was decoded, and believed only where nobody else can have put it there. Its parts:
pixels uint8 `[count, side, side, 3]`; the files' widths and heights int32 `[count, 2]`; a hash of each image's pixels
uint8 `[count, 16]`; which files have which content (`known`); JSON, the JSON's length, MAGIC.

A file is replaced, never changed. Who cuts it short in place, under a job that has it mapped, ends that job with
SIGBUS (mmap(2)), which no check beforehand can rule out: it belongs to this user, or to who owns the images, and nobody
else may write to it. Where images stay on the disk they are read, not mapped, and that is a message and code 75.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from job.console.logs import event
from job.data.decoding import Decoded, Found, Sink
from job.data.known import NOTED, Known, known_from, noted
from job.data.part import remove_stale_parts
from job.data.picture import HASH, Shape
from job.device.cgroup import cores
from job.device.mapping import Mapping
from job.storage.files import umask

MAGIC = b"images02"
FOOT = struct.Struct("<Q8s")  # bytes of JSON before it, MAGIC
AT_ONCE = 256  # images of which a checksum is taken together
DAMAGE = (OSError, ValueError, KeyError, TypeError, struct.error)


@dataclass(frozen=True)
class Key:
    """What a cache is of: the content of all images with how they are decoded, as SHA-256 (hex); and which files have
    which content.
    """

    fingerprint: str
    known: Known


def places(root: Path, shape: Shape) -> list[Path]:
    """Where it may be, best first: in the tree, beside it, or (for a read-only tree) in the temporary folder."""
    how = "" if shape.resize == "crop" else f"-{shape.resize}"
    name = f".{root.resolve().name}-{shape.side}x{shape.side}{how}.images"
    return [directory / name for directory in (root, root.resolve().parent, Path(tempfile.gettempdir()))]


def read(place: Path, fingerprint: str, root: Path) -> Decoded | None:
    """What was kept of the data set with this fingerprint, mapped, not read; None where it is not there, damaged, or a
    stranger's.
    """
    try:
        with place.open("rb") as file:
            if not is_trusted(file, root):
                event("data", f"{place} belongs to another user: not believed, decoding anew", level="WARNING")
                return None
            about = described(file)
            if about["fingerprint"] != fingerprint:
                return None
            return mapped(file, about)
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        event("data", f"{place}: damaged cache, decoding again ({error})", level="WARNING")
        return None


def known(place: Path, root: Path) -> Known:
    """The contents that were noted when it was made; nothing where it is not to be believed."""
    try:
        with place.open("rb") as file:
            if not is_trusted(file, root):
                return {}
            about = described(file)
            file.seek(before_known(about))
            content = file.read(about["known"] * NOTED.itemsize)
            return known_from(content) if zlib.crc32(content) == about["known_crc32"] else {}
    except DAMAGE:
        return {}  # `read` tells


def described(file: IO[bytes]) -> dict[str, Any]:
    """What the end of the file says of it. Raises ValueError or struct.error where it is not whole."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - FOOT.size))
    length, magic = FOOT.unpack(file.read())
    if magic != MAGIC or length > end:
        raise ValueError("it is not whole, or of another version")
    file.seek(end - FOOT.size - length)
    about = json.loads(file.read(length))
    if before_known(about) + about["known"] * NOTED.itemsize != end - FOOT.size - length:
        raise ValueError("it is not whole")
    return dict(about)


def before_known(about: dict[str, Any]) -> int:
    """Bytes of pixels, sizes and hashes."""
    return int(about["count"] * (3 * about["side"] ** 2 + 8 + HASH))


def mapped(file: IO[bytes], about: dict[str, Any]) -> Decoded:
    """The images as the file has them. Raises ValueError where their CRC-32 is another one."""
    count, side = about["count"], about["side"]
    mapping = Mapping(file, (count, side, side, 3))
    file.seek(3 * side**2 * count)
    rest = file.read((8 + HASH) * count)
    if checksums(mapping) != about["crc32"] or zlib.crc32(rest) != about["rest_crc32"]:
        raise ValueError("it was changed")
    sizes = np.frombuffer(rest, "<i4", 2 * count).reshape(-1, 2).astype(np.int32)
    contents = np.frombuffer(rest, np.uint8, offset=8 * count).reshape(-1, HASH)
    return Decoded(mapping.array, Found(sizes, contents, about["notes"]), mapping)


def checksums(mapping: Mapping) -> list[int]:
    """CRC-32 of each AT_ONCE images, with all cores; nothing of them stays in this process's memory."""
    images = mapping.array

    def one(start: int) -> int:
        return zlib.crc32(images[start : start + AT_ONCE].data)

    with ThreadPoolExecutor(cores()) as pool:
        found = []
        for crc in pool.map(one, range(0, len(images), AT_ONCE)):
            found.append(crc)
            mapping.looked_at(AT_ONCE)
    mapping.give_back()
    return found


def is_trusted(file: IO[bytes], root: Path) -> bool:
    """Whether the file was written by this user, by root, or by who owns the images and could have changed them."""
    return os.fstat(file.fileno()).st_uid in {os.geteuid(), 0, root.stat().st_uid}


def write(place: Path, key: Key, most: tuple[int, int], decode_to: Callable[[Sink], Found]) -> Decoded | None:
    """Has the images decoded into the file, whole or not at all, for all who may read the folder, and maps it. `most`
    are the count of images that there can be and their side. None where the place cannot be written or has no room.
    """
    count, side = most
    try:
        if shutil.disk_usage(place.parent).free < 3 * side**2 * count:
            return None
        remove_stale_parts(place)
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    except OSError:
        return None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            os.fchmod(descriptor, 0o644 & ~umask())  # what is mapped is for nobody else to change
            about = filled(file, side, decode_to)
            rows = noted(key.known).tobytes()
            file.write(rows)
            about |= {"fingerprint": key.fingerprint, "known": len(key.known), "known_crc32": zlib.crc32(rows)}
            end = json.dumps(about).encode()
            file.write(end + FOOT.pack(len(end), MAGIC))
            file.flush()
            decoded = mapped(file, about)
        os.replace(name, place)
        return decoded
    except OSError:
        return None
    finally:
        Path(name).unlink(missing_ok=True)


def filled(file: IO[bytes], side: int, decode_to: Callable[[Sink], Found]) -> dict[str, Any]:
    """Writes pixels, sizes and hashes, and returns what describes them."""
    checks: list[int] = []
    count = 0

    def sink(pixels: NDArray[np.uint8]) -> None:
        nonlocal count
        content = np.ascontiguousarray(pixels).data
        if count % AT_ONCE == 0:
            checks.append(0)
        checks[-1] = zlib.crc32(content, checks[-1])
        file.write(content)
        count += 1

    found = decode_to(sink)
    rest = found.sizes.astype("<i4").tobytes() + found.contents.tobytes()
    file.write(rest)
    return {
        "count": count,
        "side": side,
        "crc32": checks,
        "rest_crc32": zlib.crc32(rest),
        "notes": found.notes,
    }
