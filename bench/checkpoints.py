"""What keeping the run's state costs: whole jobs with and without it take turns, and the processor time is told apart.

`python -m bench.checkpoints`. The wall-clock ratio is what a user pays; on a shared machine the share of processor time
(the copies that the training waits for, and the thread that writes) is the steadier figure.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from job.console.progress import Progress
from job.engine.learner import Learner, snapshot
from job.interrupt import Stop
from job.modes import beginning, limit, run
from job.runs.keeper import Keeper
from job.search import book
from job.settings import Settings

processor_seconds = [0.0]  # that states have taken since it was last cleared


class Counting(Keeper):
    """Counts what its thread does."""

    def _write_all(self) -> None:
        super()._write_all()
        processor_seconds[0] += time.thread_time()


class Without(Keeper):
    """Keeps nothing."""

    def offer(self, take: object) -> None:
        pass

    def hand_over(self, standing: object) -> None:
        pass


def counted_copy(learner: Learner) -> dict[str, Any]:
    started = time.thread_time()
    state = snapshot(learner)
    processor_seconds[0] += time.thread_time() - started
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("models", nargs="*", default=["mlp", "cnn"])
    arguments = parser.parse_args()
    for model in arguments.models:
        timed(model, arguments.images, Counting)  # warms up
        with_: list[float] = []
        without: list[float] = []
        shares: list[float] = []
        for number in range(arguments.rounds):
            for keeper in (Counting, Without)[:: -1 if number % 2 else 1]:
                processor_seconds[0] = 0.0
                seconds = timed(model, arguments.images, keeper)
                (with_ if keeper is Counting else without).append(seconds)
                if keeper is Counting:
                    shares.append(processor_seconds[0] / seconds)
        ratios = sorted(a / b for a, b in zip(with_, without, strict=True))
        print(
            f"{model}: {median(with_):.2f} s with states, {median(without):.2f} s without; ratios of the pairs "
            f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}, median {median(ratios):.3f}; "
            f"copying and writing took {100 * median(shares):.2f} % of a processor",
            flush=True,
        )


def timed(model: str, images: int, keeper: type[Keeper]) -> float:
    """Wall-clock seconds of a whole job."""
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(
            model=model, dataset="synthetic", data_limit=images, tune_percent=50, max_evals=3, tune_max_epochs=4,
            device="cpu", output=str(Path(place) / "out"),
        )  # fmt: skip
        with (
            patch.object(limit, "snapshot", counted_copy),
            patch.object(book, "snapshot", counted_copy),
            patch.object(beginning, "Keeper", keeper),
        ):
            started = time.monotonic()
            run.run(settings, Progress("off"), Stop())
            return time.monotonic() - started


if __name__ == "__main__":
    main()
