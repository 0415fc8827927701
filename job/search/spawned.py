"""New processes that find their modules as this one does, not in the working folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, util
from typing import Any

SPAWN = get_context("spawn")  # a forked process could not use a GPU that its parent has used
FIRST = "import sys; sys.path[:] = filter(None, sys.path); "  # an empty place is the working folder


@contextmanager
def no_working_folder() -> Iterator[None]:
    """What is spawned in here has the working folder off its path from its first line on: a runpy.py there would be
    taken for Python's own. From Python 3.11 on PYTHONSAFEPATH sees to that (entrypoint.sh).
    """
    if sys.version_info >= (3, 11):
        yield
        return
    start = util.spawnv_passfds

    def safe(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        at = args.index("-c") + 1
        return start(path, [*args[:at], FIRST + str(args[at]), *args[at + 1 :]], passfds)

    util.spawnv_passfds = safe
    try:
        yield
    finally:
        util.spawnv_passfds = start
