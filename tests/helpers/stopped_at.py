"""The job, which says when it has come to one of its parts, and stands there for a moment.

python -m tests.helpers.stopped_at PART
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from job.__main__ import leave, main
from job.console import streams

REACHED = "reached its part"
STANDS = 1.5  # seconds: the signal finds it at the very beginning of a part that would soon be over
PARTS = {  # part → the function that does it, and how long it stands there
    "data": ("job.modes.beginning.load_data", STANDS),
    "download": ("job.data.cifar10.fetch", 0.0),
    "decoding": ("job.data.decoding.decode", STANDS),
    "search": ("job.search.tune.search", 0.0),
    "training": ("job.modes.run.fit", 0.0),
    "report": ("job.report.files", STANDS),
    "upload": ("job.runs.publish.publish", STANDS),
    "waiting for the lock": ("job.runs.lock.acquire", 0.0),
    "predict": ("job.modes.predict.of_part", STANDS),
    "export": ("job.modes.export.torchs", STANDS),
    "verify": ("job.modes.verify.whole", STANDS),
}


def found(target: str) -> tuple[ModuleType, str]:
    """The module, which has that name."""
    module, _, name = target.rpartition(".")
    assert callable(getattr(import_module(module), name)), target
    return import_module(module), name


def replaced(target: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, name = found(target)
    setattr(module, name, by(getattr(module, name)))


def standing(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def by(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            print(REACHED, flush=True)
            time.sleep(seconds)
            return function(*arguments, **named)

        return call

    return by


if __name__ == "__main__":
    streams.hold()
    target, seconds = PARTS[sys.argv[1]]
    replaced(target, standing(seconds))
    leave(main([]))
