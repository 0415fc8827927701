"""Decoded images kept as one file that is mapped into memory, so that the next start need not decode them again, and
that sets larger than memory can be trained on.

It is told by the content of what was decoded, and believed only where nobody else can have put it there. Its parts:
pixels uint8 `[count, side, side, 3]`, the files' widths and heights int32 `[count, 2]`, JSON, the JSON's length, MAGIC.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from job.console.logs import event
from job.data.decoding import Decoded, Found, Sink
from job.data.part import remove_stale_parts
from job.data.picture import Shape
from job.storage.files import umask

MAGIC = b"images01"
FOOT = struct.Struct("<Q8s")  # bytes of JSON before it, MAGIC
AT_ONCE = 256  # images of which the checksum is taken together


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
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        event("data", f"{place}: damaged cache, decoding again ({error})", level="WARNING")
        return None


def described(file: IO[bytes]) -> dict[str, Any]:
    """What the end of the file says of it. Raises ValueError or struct.error where it is not whole."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - FOOT.size))
    length, magic = FOOT.unpack(file.read())
    if magic != MAGIC or length > end:
        raise ValueError("it is not whole")
    file.seek(end - FOOT.size - length)
    about = json.loads(file.read(length))
    return dict(about)


def mapped(file: IO[bytes], about: dict[str, Any]) -> Decoded:
    """The images as the file has them. Raises ValueError where their CRC-32 is another one."""
    shape = (about["count"], about["side"], about["side"], 3)
    file.seek(math.prod(shape))
    sizes = np.frombuffer(file.read(8 * shape[0]), dtype="<i4").reshape(-1, 2).astype(np.int32)
    images = np.empty(shape, dtype=np.uint8)
    if images.size:  # nothing cannot be mapped
        images = np.memmap(file, dtype=np.uint8, mode="r", shape=shape)
    if len(sizes) != shape[0] or checksum(images) != about["crc32"]:
        raise ValueError("it was changed")
    return Decoded(images, Found(sizes, about["notes"]))


def checksum(images: NDArray[np.uint8]) -> int:
    crc = 0
    for start in range(0, len(images), AT_ONCE):
        crc = zlib.crc32(images[start : start + AT_ONCE].data, crc)
    return crc


def is_trusted(file: IO[bytes], root: Path) -> bool:
    """Whether the file was written by this user, by root, or by who owns the images and could have changed them."""
    return os.fstat(file.fileno()).st_uid in {os.geteuid(), 0, root.stat().st_uid}


def write(place: Path, fingerprint: str, most: tuple[int, int], decode_to: Callable[[Sink], Found]) -> Decoded | None:
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
            end = json.dumps({"fingerprint": fingerprint, **about}).encode()
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
    """Writes pixels and sizes, and returns what describes them."""
    crc = 0

    def sink(pixels: NDArray[np.uint8]) -> None:
        nonlocal crc
        content = np.ascontiguousarray(pixels).data
        crc = zlib.crc32(content, crc)
        file.write(content)

    found = decode_to(sink)
    file.write(found.sizes.astype("<i4").tobytes())
    return {"count": len(found.sizes), "side": side, "crc32": crc, "notes": found.notes}
