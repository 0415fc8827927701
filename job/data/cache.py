"""Decoded images kept as one file, so that the next start need not decode them again.

It is told by the content of what was decoded, and believed only where nobody else can have put it there.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from job.console.logs import event
from job.data.decoding import Decoded
from job.data.picture import Shape
from job.storage.files import umask


def places(root: Path, shape: Shape) -> list[Path]:
    """Where it may be, best first: in the tree, beside it, or (for a read-only tree) in the temporary folder."""
    how = "" if shape.resize == "crop" else f"-{shape.resize}"
    name = f".{root.resolve().name}-{shape.side}x{shape.side}{how}.npz"
    return [directory / name for directory in (root, root.resolve().parent, Path(tempfile.gettempdir()))]


def read(place: Path, fingerprint: str, root: Path) -> Decoded | None:
    """What was kept of the data set with this fingerprint; None where it is not there, damaged, or a stranger's."""
    try:
        with place.open("rb") as file:
            if not is_trusted(file, root):
                event("data", f"{place} belongs to another user: not believed, decoding anew", level="WARNING")
                return None
            with np.load(file, allow_pickle=False) as stored:  # the zip's CRC-32 tells a damaged file
                if str(stored["fingerprint"]) != fingerprint:
                    return None
                return Decoded(stored["images"], stored["sizes"], json.loads(str(stored["notes"])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        event("data", f"{place}: damaged cache, decoding again ({error})", level="WARNING")
        return None


def is_trusted(file: IO[bytes], root: Path) -> bool:
    """Whether the file was written by this user, by root, or by who owns the images and could have changed them."""
    return os.fstat(file.fileno()).st_uid in {os.geteuid(), 0, root.stat().st_uid}


def write(place: Path, fingerprint: str, decoded: Decoded) -> bool:
    """Writes it whole or not at all, for all who may read the folder; False where the place cannot be written."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".decoding-", suffix=".part", dir=place.parent)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o666 & ~umask())
            np.savez(
                file,
                fingerprint=np.array(fingerprint),
                notes=np.array(json.dumps(decoded.notes)),
                images=decoded.images,
                sizes=decoded.sizes,
            )
        os.replace(name, place)
        return True
    except OSError:
        Path(name).unlink(missing_ok=True)
        return False
