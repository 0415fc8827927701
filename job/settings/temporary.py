"""A temporary folder for Python, torch and matplotlib, also where the machine has none that can be written.

`docker run --read-only` without `--tmpfs /tmp` is such a machine, and one whose /tmp is full.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from job.errors import Fault, TemporaryFault

NAME = ".job-tmp"  # below OUTPUT or DATA_DIR; hidden, so that no mode takes it for a run or for images


def settle(folders: Iterable[Path]) -> None:
    """Where the system has no temporary folder that takes a file, makes one in the first of `folders` that does, and has
    all that come later use it. Call it before the libraries that ask for one are loaded.

    Raises Fault where there is none, and TemporaryFault where only room is missing.
    """
    try:
        tempfile.gettempdir()
        return
    except FileNotFoundError:  # each of the usual places was tried, the working folder too
        pass
    full = is_full(Path(os.environ.get("TMPDIR", "/tmp")))
    for folder in folders:
        place = folder / NAME
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(bytes(1 << 16))
        except OSError as error:
            full = full or error.errno in (errno.ENOSPC, errno.EDQUOT)
            continue
        tempfile.tempdir = os.environ["TMPDIR"] = str(place.absolute())
        return
    remedy = "Name one in TMPDIR that this user may write to (docker run --tmpfs /tmp)."
    if full:
        raise TemporaryFault("the temporary folders have no room left.", f"Make room there. {remedy}")
    raise Fault("there is no temporary folder that can be written.", remedy)


def is_full(folder: Path) -> bool:
    """Whether a file fails there for want of room alone."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def leave() -> None:
    """Removes a folder made by `settle`, where nothing is left in it."""
    made = Path(tempfile.tempdir or "")
    if made.name == NAME:
        try:
            made.rmdir()
        except OSError:
            return
