"""Signals as a context manager: the first one asks for a stop, the second one ends the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from job.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a signal has asked for a stop. `check()` is cheap enough to be called at every batch."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def check(self) -> None:
        """Raises `Interrupted` once a signal has arrived."""
        if self.signum is not None:
            raise Interrupted(self.signum)


def ignore_signals() -> None:
    """From here on nothing can change the outcome: for the moments in which the interpreter shuts down."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turns SIGTERM and SIGINT into a request that `Stop.check` raises at the next safe place.

    A second signal restores the default action and is sent again, so that it ends the process at once.
    The handlers that were there before come back on leaving.
    """
    stop = Stop()

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.signum is None:
            stop.signum = signum
        else:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
