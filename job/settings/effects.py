"""Which settings do nothing beside the others: they are told, and they do not make another run of it."""

from __future__ import annotations

from job import models
from job.settings.table import variables
from job.settings.variables import Variables

SEARCH = (
    "search",
    "tune_percent",
    "max_evals",
    "tune_max_epochs",
    "patience",
    "lr_min",
    "lr_max",
    "tune_startup_trials",
)


OF_RECIPE = ("tune_max_epochs", "lr_min", "lr_max")


def of_the_plain_recipe(settings: Variables) -> list[str]:
    """A sentence for each setting that was given the plain recipe's default under another one, as an env file does that
    was made from `env.example`.
    """
    if settings.recipe == "plain" or settings.learning_rate is not None:
        return []
    given = [name for name in OF_RECIPE if name in settings.model_fields_set]
    return [
        f"{name.upper()} is set to the plain recipe's default: where it is unset, RECIPE={settings.recipe} has its own"
        for name in given
        if getattr(settings, name) == variables()[name].default
    ]


def without_effect(settings: Variables) -> dict[str, str]:
    """Variable → why it does nothing here, for those that hold something else than their default."""
    idle: dict[str, str] = {}
    if not models.starts_from_weights(settings.model):
        idle["pretrained_weights"] = f"MODEL={settings.model} starts from random weights"
    if settings.learning_rate is not None:
        given = "LEARNING_RATE and EPOCHS are given: there is no search"
        idle |= dict.fromkeys((*SEARCH, "workers", "ray_address"), given)
    elif settings.recipe == "strong":
        idle["patience"] = "RECIPE=strong: every trial is a complete schedule"
    if settings.dataset == "synthetic":
        idle["data_url"] = "DATASET=synthetic is not fetched"
    if settings.dataset != "folder":
        idle |= dict.fromkeys(("test_percent", "bad_images", "resize"), "it is for DATASET=folder")
    if settings.dataset == "synthetic":
        idle["data_dir"] = "DATASET=synthetic is drawn by the job"
    if settings.mode != "predict":
        idle |= dict.fromkeys(("input", "top_k", "heatmaps"), "it is for MODE=predict")
    if settings.mode != "run":
        idle["min_accuracy"] = "it is for MODE=run"
    if settings.mode != "export":
        idle["export_format"] = "it is for MODE=export"
    if not settings.output.startswith("s3://"):
        idle["s3_sse"] = "OUTPUT is no bucket"
    if settings.s3_sse != "aws:kms":
        idle["s3_sse_kms_key_id"] = "it is for S3_SSE=aws:kms"
    if settings.mlflow_tracking_uri is None:
        idle["mlflow_experiment_name"] = "MLFLOW_TRACKING_URI is not set"
    return {name.upper(): why for name, why in idle.items() if getattr(settings, name) != variables()[name].default}
