"""Telling other programs how a run goes, live: TensorBoard's event files and an MLflow run.

Optional: without their variables nothing of this is imported. Both see what the log and the results hold, no more; no
run depends on them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from job.console.logs import event
from job.errors import not_installed
from job.results import Epoch, Trial

INSTALL = "make install"


class Tracker(Protocol):
    """What is told, in the order in which it happens. Trials may be under way side by side; steps are epochs, from 1.

    What an attempt told before it was killed may be told again by the next one, with the same values.
    """

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> None: ...

    def trial_done(self, trial: Trial) -> None: ...

    def final_epoch(self, epoch: Epoch) -> None: ...

    def finished(self, results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """The run is published: `results` as in results.json, `files` by name."""
        ...

    def close(self, complete: bool) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """Where a run is to be followed: a directory for TensorBoard, MLflow's address; None for neither."""

    tensorboard: Path | None = None
    mlflow: str | None = None
    experiment: str = ""


@contextmanager
def opened(
    run: str, wanted: Wanted, parameters: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Sequence[Tracker]]:
    """The trackers that were asked for; closed when it is left. `parameters` and `tags` describe the run called `run`.

    Raises Fault where a package is not installed or a place cannot be used, TemporaryFault where a server does not
    answer. Once a run is under way, a tracker that fails is given up with a warning: the training is worth more.
    """
    trackers: list[Tracker] = []
    complete = False
    try:
        if wanted.tensorboard is not None:
            need("tensorboard", "TENSORBOARD_DIR")
            from job.tracking.tensorboard import TensorBoard

            trackers.append(GivenUp("TensorBoard", TensorBoard(wanted.tensorboard / run)))
        if wanted.mlflow is not None:
            need("mlflow", "MLFLOW_TRACKING_URI")
            from job.tracking.mlflow import Mlflow

            trackers.append(GivenUp("MLflow", Mlflow(wanted.mlflow, wanted.experiment, run, parameters, tags)))
        yield trackers
        complete = True
    finally:
        for tracker in trackers:
            tracker.close(complete)


def need(package: str, variable: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise not_installed(variable, package, INSTALL)


class GivenUp:
    """Passes everything on until that fails for the first time; then says so once and leaves it at that."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker

    def _tell(self, what: Callable[[Tracker], object]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:  # whatever a library or its server comes up with: none of it may stop a training
            self._tracker = None
            event(
                "tracking",
                f"{self._name} failed ({type(error).__name__}) and gets nothing more of this run; the run goes on",
                level="WARNING",
                tracker=self._name,
            )

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> None:
        self._tell(lambda tracker: tracker.trial_epoch(trial, learning_rate, epoch))

    def trial_done(self, trial: Trial) -> None:
        self._tell(lambda tracker: tracker.trial_done(trial))

    def final_epoch(self, epoch: Epoch) -> None:
        self._tell(lambda tracker: tracker.final_epoch(epoch))

    def finished(self, results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self._tell(lambda tracker: tracker.finished(results, files))

    def close(self, complete: bool) -> None:
        self._tell(lambda tracker: tracker.close(complete))
