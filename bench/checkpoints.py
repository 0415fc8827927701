"""What keeping the run's state costs: whole jobs with and without it take turns, and the processor time is told apart.

`python -m bench.checkpoints`. The wall-clock ratio is what a user pays; on a shared machine the share of processor time
(the copies that the training waits for, and the thread that writes) is the steadier figure.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from job import checkpoint, pipeline
from job.checkpoint import Keeper
from job.interrupt import Stop
from job.progress import Progress
from job.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("models", nargs="*", default=["mlp", "cnn"])
    arguments = parser.parse_args()
    for model in arguments.models:
        with_, without, share = [], [], []
        for _ in range(arguments.rounds):
            seconds, kept = timed(model, arguments.images)
            with_.append(seconds)
            share.append(kept / seconds)
            with patch.object(Keeper, "due", lambda _: False), patch.object(Keeper, "hand_over", lambda *_: None):
                without.append(timed(model, arguments.images)[0])
        print(
            f"{model}: {median(with_):.2f} s with states, {median(without):.2f} s without, "
            f"ratio {median(a / b for a, b in zip(with_, without, strict=True)):.4f}; "
            f"copying and writing took {100 * median(share):.2f} % of the run",
            flush=True,
        )


def timed(model: str, images: int) -> tuple[float, float]:
    """Wall-clock seconds of a whole job, and the seconds of processor time that states took in it."""
    kept = 0.0

    def counted(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(argument: Any) -> Any:
            nonlocal kept
            started = time.thread_time()
            result = function(argument)
            kept += time.thread_time() - started
            return result

        return call

    copy, encode = counted(pipeline.snapshot), counted(checkpoint.encode)
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(
            model=model, dataset="synthetic", data_limit=images, tune_percent=50, max_evals=3, tune_max_epochs=4,
            device="cpu", output=str(Path(place) / "out"),
        )  # fmt: skip
        with patch.object(pipeline, "snapshot", copy), patch.object(checkpoint, "encode", encode):
            started = time.monotonic()
            pipeline.run(settings, Progress("off"), Stop())
            return time.monotonic() - started, kept


if __name__ == "__main__":
    main()
