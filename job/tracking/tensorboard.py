"""TensorBoard's event files, one folder for the final training and one for each trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from job.errors import Fault
from job.results import Epoch, Trial


class TensorBoard:
    """Curves below `directory`: `train/` and `trial-N/` (from 1), so that TensorBoard lays them over each other."""

    def __init__(self, directory: Path) -> None:
        """Raises Fault where nothing can be written there."""
        self._directory = directory
        self._writers: dict[str, Any] = {}
        try:
            self._writer("train")
        except OSError as error:
            raise Fault(
                f"TENSORBOARD_DIR: {directory} cannot be written ({error.strerror}).",
                "Name a directory that this user may write to, or unset TENSORBOARD_DIR.",
            ) from error

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            self._writers[part] = SummaryWriter(str(self._directory / part))
        return self._writers[part]

    def _curves(self, part: str, epoch: Epoch, heldout: str) -> None:
        writer = self._writer(part)
        for name, score in (("train", epoch.train), (heldout, epoch.heldout)):
            writer.add_scalar(f"loss/{name}", score.loss, epoch.number)
            writer.add_scalar(f"accuracy/{name}", score.accuracy, epoch.number)
        writer.flush()

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> None:
        part = f"trial-{trial + 1}"
        if part not in self._writers:
            self._writer(part).add_scalar("learning_rate", learning_rate, 0)
        self._curves(part, epoch, "validation")

    def trial_done(self, trial: Trial) -> None:
        writer = self._writers.pop(f"trial-{trial.number + 1}", None)
        if writer is not None:
            writer.close()

    def final_epoch(self, epoch: Epoch) -> None:
        self._curves("train", epoch, "test")

    def finished(self, results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self._writer("train").add_text("results", f"```\n{files['results.txt'].decode()}\n```")

    def close(self, complete: bool) -> None:
        for writer in self._writers.values():
            writer.close()
