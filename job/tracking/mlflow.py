"""An MLflow run: parameters, curves, results and the report's files; the weights stay in OUTPUT, which a tag names."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import environment_variables
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from job.errors import Fault, TemporaryFault
from job.results import Epoch, Trial

RUN_TAG = "job.run"
LEFT_OUT = {"weights.pt"}
LONGEST = 500  # of a parameter's value, which older servers refuse beyond it


class Mlflow:
    """Goes on with the unfinished MLflow run of the same name where an earlier attempt began one."""

    def __init__(
        self, uri: str, experiment: str, run: str, parameters: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Raises Fault for a place that cannot be used, TemporaryFault for a server that does not answer."""
        if "://" not in uri or uri.startswith("file:"):  # who names a folder wants it, though MLflow asks a second time
            environment_variables.MLFLOW_ALLOW_FILE_STORE.set(True)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            where = found.experiment_id if found else self._client.create_experiment(experiment)
            self._run = self._unfinished(where, run) or self._begin(where, run, parameters, tags)
        except MlflowException as error:
            if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):  # so MLflow calls no answer, too
                raise TemporaryFault(
                    "MLFLOW_TRACKING_URI: the server does not answer as MLflow does.",
                    "Check that it runs and can be reached from here, or unset MLFLOW_TRACKING_URI.",
                ) from error
            raise unusable(error.error_code) from error
        except (OSError, ValueError, ImportError) as error:
            raise unusable(type(error).__name__) from error

    def _unfinished(self, experiment: str, run: str) -> str | None:
        wanted = f"tags.`{RUN_TAG}` = '{run}' and attributes.status != 'FINISHED'"
        found = self._client.search_runs([experiment], wanted, max_results=1)
        if not found:
            return None
        self._client.update_run(found[0].info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        return str(found[0].info.run_id)

    def _begin(self, experiment: str, run: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        new = self._client.create_run(experiment, run_name=run).info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in parameters.items()]
        tag_list = [RunTag(RUN_TAG, run), *(RunTag(name, value) for name, value in tags.items())]
        self._client.log_batch(new, params=params, tags=tag_list)
        return str(new)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items() if math.isfinite(value)]
        self._client.log_batch(self._run, metrics=metrics)

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> None:
        named = {f"trial-{trial + 1}/{name}": value for name, value in scores(epoch, "validation").items()}
        self._log(named, epoch.number)

    def trial_done(self, trial: Trial) -> None:
        self._log(
            {"tuning/validation_loss": trial.validation_loss, "tuning/learning_rate": trial.learning_rate},
            trial.number + 1,
        )

    def final_epoch(self, epoch: Epoch) -> None:
        self._log(scores(epoch, "test"), epoch.number)

    def finished(self, results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        recipe = results["recipe"]
        self._log({"best_learning_rate": recipe["learning_rate"], "best_epochs": recipe["epochs"]}, 0)
        with tempfile.TemporaryDirectory() as directory:
            for name, content in files.items():
                if name not in LEFT_OUT:
                    (Path(directory) / name).write_bytes(content)
            self._client.log_artifacts(self._run, directory)

    def close(self, complete: bool) -> None:
        status = RunStatus.FINISHED if complete else RunStatus.KILLED
        self._client.set_terminated(self._run, RunStatus.to_string(status))


def unusable(why: str) -> Fault:
    return Fault(
        f"MLFLOW_TRACKING_URI: this MLflow cannot use it ({why}).",
        "Give http(s)://server:port, sqlite:///file or another address that MLflow knows, or unset it.",
    )


def scores(epoch: Epoch, heldout: str) -> dict[str, float]:
    """Name → value of one epoch's measures; `heldout` names the set of its second score."""
    return {
        "train_loss": epoch.train.loss,
        "train_accuracy": epoch.train.accuracy,
        f"{heldout}_loss": epoch.heldout.loss,
        f"{heldout}_accuracy": epoch.heldout.accuracy,
        "seconds": epoch.seconds,
    }
