"""Names that are nearly ours end the job; what others call the same thing is told; the rest is left alone."""

from __future__ import annotations

import pytest

from job import settings
from job.settings.slips import ELSEWHERE, foreign_names, misspelled

OURS = {name.upper() for name in settings.variables()}
NEAR = {
    "TUNE_PERCENTAGE": "TUNE_PERCENT",
    "TUNE_PERCENTS": "TUNE_PERCENT",
    "TUNE_PCT": "TUNE_PERCENT",
    "TUNE_PERCENT_PCT": "TUNE_PERCENT",
    "TUNE_PERC": "TUNE_PERCENT",
    "MAX_EVALUATIONS": "MAX_EVALS",
    "TUNE_EPOCHS": "TUNE_MAX_EPOCHS",
    "STARTUP_TRIALS": "TUNE_STARTUP_TRIALS",
    "TUNE_TRIALS": "TUNE_STARTUP_TRIALS",
    "LEARN_RATE": "LEARNING_RATE",
    "BATCH_SIZES": "BATCH_SIZE",
    "DATA_DIRECTORY": "DATA_DIR",
    "PRICE_HOUR": "PRICE_PER_HOUR",
    "MLFLOW_URI": "MLFLOW_TRACKING_URI",
    "TENSORBOARD_DIRECTORY": "TENSORBOARD_DIR",
    "PATIENCES": "PATIENCE",
}
LISTED = """
LR NUM_EPOCHS MAX_EPOCHS BATCH N_TRIALS NUM_TRIALS MAX_TRIALS EARLY_STOPPING_PATIENCE OUTPUT_DIR OUT_DIR DATA_PATH
DATASET_DIR RANDOM_SEED
"""
LEFT_ALONE = """
MODEL_SERVICE_HOST DEVICES_ALL OUTPUT_PORT OUTPUT_PORT_80_TCP MODE_SERVICE_PORT NODE SPEED OUT MODELS HOSTNAME DATA
MLFLOW_RUN_ID MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_TOKEN MLFLOW_EXPERIMENT_ID GITHUB_RUN_ID GITHUB_ACTION NO_COLOR
RAY_RUNTIME_ENV_DIR INPUTRC LOG_LEVEL SEEDS_DIR KAGGLE_KERNEL_RUN_TYPE AWS_BATCH_JOB_ID RUNNER_NAME EPOCHSECONDS
EPOCHREALTIME SM_MODEL_DIR AIP_MODEL_DIR CI_RUNNER_ID learning_rates patienc tune_percentage
"""


@pytest.mark.parametrize(("name", "meant"), NEAR.items())
def test_a_near_name_is_found(name: str, meant: str) -> None:
    assert misspelled({name: "1"}, OURS) == {name: meant}


def test_names_of_other_tools_are_warned_of() -> None:
    assert set(LISTED.split()) <= set(ELSEWHERE)
    for name, meant in ELSEWHERE.items():
        assert set(meant.split(" or ")) <= OURS
        assert misspelled({name: "1"}, OURS) == {}
        assert foreign_names({name: "1"}, OURS) == [
            f"{name} is set, but this job does not read it: write {meant} if it is meant for this job"
        ]
        assert foreign_names({name: "1", meant.split(" or ")[0]: "2"}, OURS) == [], "who sets ours knows it"
        assert foreign_names({name: ""}, OURS) == []


def test_small_letters_are_somebody_elses() -> None:
    assert foreign_names({"mode": "check", "Seed": "1"}, OURS) == [
        "Seed is set, but only capitals count: write SEED if it is meant for this job",
        "mode is set, but only capitals count: write MODE if it is meant for this job",
    ]


@pytest.mark.parametrize("name", LEFT_ALONE.split())
def test_other_peoples_names_are_left_alone(name: str) -> None:
    assert misspelled({name: "1"}, OURS) == {}
    assert foreign_names({name: "1"}, OURS) == []


def test_capitals_alone_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"model": "vit", "MODEL": "mlp", "mode": "check", "output": "x", "Workers": "3"}.items():
        monkeypatch.setenv(name, value)
    loaded = settings.load()
    assert (loaded.model, loaded.mode, loaded.output, loaded.workers) == ("mlp", "run", "./outputs", "auto")
    assert "  MODEL = mlp  (environment)" in settings.help_text()
    assert "NOTE: model is set, but only capitals count" in settings.help_text()
