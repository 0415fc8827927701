"""What another user would meet: a function in a child process that has lost root's rights."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def told_to_nobody(do: Callable[[], object]) -> str:
    """What `do` returns as text, or raises as `Name: message`, as nobody sees it; where this is no root, as this user
    does.
    """
    codecs.lookup("cp437")  # zip files', which nobody may not be allowed to load
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = str(do())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode(errors="backslashreplace")[:60_000])
        os._exit(0)  # nothing of pytest's runs twice
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may enter and write to; pytest's own are root's alone."""
    place = Path(tempfile.mkdtemp(prefix="open-"))
    place.chmod(0o777)
    yield place
    for folder in place.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    shutil.rmtree(place)
