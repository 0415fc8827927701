"""A temporary folder for Python, torch and matplotlib, also where the machine has none that can be written.

`docker run --read-only` without `--tmpfs /tmp` is such a machine, and one whose /tmp is full.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from job.errors import Fault, TemporaryFault
from job.settings.checked import Settings

NAME = ".job-tmp-"  # and some letters, below OUTPUT or DATA_DIR; hidden: no mode takes it for a run or for images


def places_of(settings: Settings) -> list[Path]:
    """Folders of the user's that may hold one: OUTPUT, where it is a directory, and DATA_DIR."""
    output = [] if "://" in settings.output else [Path(settings.output)]
    return [*output, settings.data_dir]


def settle(folders: Iterable[Path]) -> None:
    """Where the system has no temporary folder that takes a file, makes one in the first of `folders` that does, for
    all that ask later; it goes with the process. Call it before the libraries that ask for one are loaded.

    Raises Fault where there is none, and TemporaryFault where only room is missing.
    """
    try:
        tempfile.gettempdir()
        return
    except FileNotFoundError:  # each of the usual places was tried, the working folder too
        pass
    full = is_full(Path(os.environ.get("TMPDIR", "/tmp")))
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            place = tempfile.mkdtemp(prefix=NAME, dir=folder.absolute())
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(bytes(1 << 16))
        except OSError as error:
            full = full or error.errno in (errno.ENOSPC, errno.EDQUOT)
            continue
        tempfile.tempdir = os.environ["TMPDIR"] = place
        os.environ["MPLCONFIGDIR"] = str(Path(place) / "matplotlib")  # else it complains of one that cannot be written
        atexit.register(leave)  # the first to be registered is the last to be called
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
    """Removes a folder made by `settle`."""
    if Path(tempfile.tempdir or "").name.startswith(NAME):
        shutil.rmtree(str(tempfile.tempdir), ignore_errors=True)
