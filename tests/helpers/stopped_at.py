"""The job, which says when it has come to one of its parts, and stands there for a moment.

python -m tests.helpers.stopped_at PART
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
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
    "predict": ("job.modes.predict.classified", STANDS),
    "export": ("job.modes.export.torchs", STANDS),
    "verify": ("job.modes.verify.whole", STANDS),
}


def replaced(target: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, _, name = target.rpartition(".")
    setattr(import_module(module), name, by(getattr(import_module(module), name)))


def standing(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def by(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            print(REACHED, flush=True)
            time.sleep(seconds)
            return function(*arguments, **named)

        return call

    return by


def without_onnx() -> None:
    """Exports some bytes where the packages are not installed: what a stop meets is the store's part of it."""
    from job.modes import export

    alike = export.Comparison(1, 0.0, 1.0, 1, 1, 0, 0)
    replaced("job.modes.export.check_packages", lambda _: lambda: None)
    replaced("job.modes.export.torchs", lambda _: lambda *given: (b"onnx", 18))
    replaced("job.modes.export.compare", lambda _: lambda *given: alike)
    replaced("job.modes.export.describe", lambda _: lambda *given: {})


if __name__ == "__main__":
    streams.hold()
    if find_spec("onnx") is None:
        without_onnx()
    target, seconds = PARTS[sys.argv[1]]
    replaced(target, standing(seconds))
    leave(main([]))
