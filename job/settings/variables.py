"""Every variable with its type, default, range, meaning and rules."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from job import models
from job.settings.redaction import without_secrets
from job.settings.slips import did_you_mean

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def variable(group: str, default: Any, meaning: str, *, shapes: bool = False, **limits: Any) -> Any:
    """One setting. `shapes` marks what changes the result: such settings make up the run's name."""
    return Field(default=default, description=meaning, json_schema_extra={"group": group, "shapes": shapes}, **limits)


class Settings(BaseSettings):
    """All settings of a run, checked and frozen. A variable that is set but empty counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", protected_namespaces=())

    mode: Literal["run", "check", "summary", "verify", "predict", "export"] = variable(
        "What to do",
        "run",
        "`run`: tune, train, report, publish; `check`: whether a run would work here, how long it would take and what "
        "it would cost, in seconds; `summary`: all finished runs below `OUTPUT` side by side; "
        "`verify`: compute a finished run's figures again; `predict`: its answers for the images in `INPUT`; "
        "`export`: its model as ONNX",
    )
    model: str = variable(
        "What to do", "cnn", "a file name in `job/models/`: " + ", ".join(models.names()), shapes=True
    )
    input: str | None = variable(
        "What to do",
        None,
        "with `MODE=predict`: an image, a folder with all below it, or an address (http(s), file, s3)",
        validate_default=True,
    )

    dataset: Literal["cifar10", "folder", "synthetic"] = variable(
        "Data",
        "cifar10",
        "`cifar10`, `folder` (your own images: `train/<class>/*`, `test/<class>/*`), "
        "`synthetic` (drawn by the job, no download)",
        shapes=True,
    )
    data_dir: Path = variable("Data", Path("./data"), "where the data set is, or is cached (`/data` in the image)")
    data_url: Annotated[tuple[str, ...], NoDecode] = variable(
        "Data", (), "mirrors of the CIFAR-10 archive, tried in order, with commas between them; http(s), file, s3"
    )
    data_limit: int | None = variable(
        "Data",
        None,
        "a reduced data set: at most this many training images, stratified and seeded; "
        "the test set shrinks by the same fraction",
        shapes=True,
        ge=10,
    )

    tune_percent: float = variable(
        "Search", 20.0, "percent of the training set used for tuning", shapes=True, gt=0, le=100
    )
    max_evals: int = variable("Search", 20, "trials", shapes=True, ge=1, le=10_000)
    tune_max_epochs: int = variable("Search", 50, "epochs a trial may take", shapes=True, ge=1)
    patience: int = variable(
        "Search", 5, "epochs without a better validation loss before a trial stops", shapes=True, ge=1
    )
    lr_min: float = variable(
        "Search",
        math.exp(-10),
        "lower end of the log-uniform search range",
        shapes=True,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    lr_max: float = variable(
        "Search",
        math.exp(-4),
        "upper end of the log-uniform search range",
        shapes=True,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    tune_startup_trials: int = variable(
        "Search", 20, "trials drawn at random before TPE adapts (hyperopt's own default)", shapes=True, ge=1
    )

    learning_rate: float | None = variable(
        "Training",
        None,
        "together with `EPOCHS`: no tuning, train with these",
        shapes=True,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    epochs: int | None = variable(
        "Training",
        None,
        "together with `LEARNING_RATE`: no tuning, train with these",
        shapes=True,
        ge=1,
        validate_default=True,
    )
    batch_size: int = variable("Training", 128, "images a step", shapes=True, ge=1, le=65_536)
    seed: int = variable("Training", 3407, "seeds everything that is random", shapes=True, ge=0, lt=2**63)
    pretrained_weights: str | None = variable(
        "Training", None, "file or URL of the ImageNet ResNet-18 weights; without it torchvision's own"
    )

    device: str = variable("Machine", "auto", "`auto`, `cuda`, `cuda:N`, `cpu`")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = variable(
        "Machine", "auto", "`auto` (the fastest that the chip computes natively), `fp32`, `bf16`, `fp16`", shapes=True
    )

    workers: str = variable(
        "Machine",
        "auto",
        "trials at the same time: a number, or `auto` (one per visible GPU, 1 on a CPU); "
        "it shapes the result only where `MAX_EVALS` exceeds `TUNE_STARTUP_TRIALS`",
    )
    ray_address: str | None = variable(
        "Machine", None, "a Ray cluster that runs the trials: `auto`, `host:port` or `ray://host:port`"
    )

    output: str = variable(
        "Output",
        "./outputs",
        "directory (`/outputs` in the image) or `s3://bucket/prefix`; "
        "endpoint and credentials through the standard AWS variables and files only",
    )
    run_id: str | None = variable(
        "Output",
        None,
        "names the run's folder under `OUTPUT`; "
        "without it the model's name and 8 hex digits of the settings that shape the result",
    )
    fresh: bool = variable("Output", False, "1 starts over instead of resuming or returning the finished run")
    price_per_hour: float | None = variable(
        "Output",
        None,
        "the machine's price in USD an hour; reports then tell what a run cost",
        gt=0,
        allow_inf_nan=False,
    )
    progress: Literal["auto", "bar", "line", "off"] = variable(
        "Output", "auto", "`bar` on a terminal, `line` elsewhere, `off`"
    )
    tensorboard_dir: Path | None = variable(
        "Output", None, "where TensorBoard's event files go, live; needs `make install-extras`"
    )
    mlflow_tracking_uri: str | None = variable(
        "Output",
        None,
        "an MLflow server or store that records the run, live; needs `make install-extras`; user, password or token go "
        "into MLflow's own variables",
    )
    mlflow_experiment_name: str = variable("Output", "image-classification", "the MLflow experiment that gets the run")
    github_step_summary: Path | None = variable(
        "Output", None, "a file that gets a short Markdown report at the end; GitHub Actions sets it by itself"
    )
    log_format: Literal["text", "json"] = variable("Output", "text", "`text`, or `json`: one object a line")

    @field_validator("model")
    @classmethod
    def _model_exists(cls, value: str) -> str:
        if value not in models.names():
            raise ValueError(f"choose from: {', '.join(models.names())}{did_you_mean(value, models.names())}")
        return value

    @field_validator("input")
    @classmethod
    def _input_for_predict(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("mode") == "predict":
            raise ValueError("MODE=predict needs it: an image, a folder or an address")
        if value is not None and "://" in value and not re.match(r"(https?|file|s3)://.", value):
            raise ValueError("an address must start with http://, https://, file:// or s3://")
        return value

    @field_validator("data_url", mode="before")
    @classmethod
    def _data_url_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        urls = tuple(url for url in re.split(r"[\s,]+", value) if url)
        for url in urls:
            if not re.match(r"(https?|file|s3)://.", url):
                raise ValueError("each must start with http://, https://, file:// or s3://")
        return urls

    @field_validator("tune_percent")
    @classmethod
    def _percentage(cls, value: float) -> float:
        if value < 1:
            raise ValueError(
                f"it is a percentage, from 1 to 100: for {value:g} of the training set write {100 * value:g}"
            )
        return value

    @field_validator("lr_max")
    @classmethod
    def _range_in_order(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("lr_min", 0):
            raise ValueError(f"must be greater than LR_MIN ({info.data['lr_min']:g})")
        return value

    @field_validator("epochs")
    @classmethod
    def _both_or_neither(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "learning_rate" in info.data and (value is None) != (info.data["learning_rate"] is None):
            given, missing = ("LEARNING_RATE", "EPOCHS") if value is None else ("EPOCHS", "LEARNING_RATE")
            raise ValueError(f"{given} is set but {missing} is not: give both (no tuning) or neither")
        return value

    @field_validator("device")
    @classmethod
    def _device_name(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
            raise ValueError(
                "choose auto, cuda, cuda:N (such as cuda:0) or cpu" + did_you_mean(value, ("auto", "cuda", "cpu"))
            )
        return value

    @field_validator("workers")
    @classmethod
    def _workers_number(cls, value: str) -> str:
        if value != "auto" and not re.fullmatch(r"[1-9]\d{0,3}", value):
            raise ValueError("choose auto or a whole number from 1 to 9999" + did_you_mean(value, ("auto",)))
        return value

    @field_validator("ray_address")
    @classmethod
    def _ray_cluster(cls, value: str | None) -> str | None:
        if (
            value is not None
            and value != "auto"
            and not re.fullmatch(r"(ray://)?(\[[^\]]+\]|[^\s:/@]+):\d{1,5}", value)
        ):
            raise ValueError("choose auto, host:port or ray://host:port" + did_you_mean(value, ("auto",)))
        return value

    @field_validator("output")
    @classmethod
    def _output_place(cls, value: str) -> str:
        if "://" in value and not re.match(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)", value):
            raise ValueError(
                "give a directory or s3://bucket/prefix (a bucket's name has 3 to 63 of a-z, 0-9, '-' and '.')"
            )
        return value

    @field_validator("run_id")
    @classmethod
    def _run_id_is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not RUN_ID.fullmatch(value):
            raise ValueError("use up to 100 letters, digits, '.', '_' and '-', the first a letter or digit")
        return value

    @property
    def run_name(self) -> str:
        """The run's folder: `RUN_ID`, or the model and 8 hex digits of the settings that shape the result."""
        if self.run_id:
            return self.run_id
        shaping = json.dumps(self.shaping(), sort_keys=True)
        return f"{self.model}-{hashlib.sha256(shaping.encode()).hexdigest()[:8]}"

    def shaping(self) -> dict[str, Any]:
        """Variable → value of every setting that shapes the result."""
        values = self.values()
        shaping = {name: value for name, value in values.items() if extra(name)["shapes"]}
        return shaping | ({"WORKERS": values["WORKERS"]} if self.adapts and self.workers not in ("auto", "1") else {})

    @property
    def adapts(self) -> bool:
        """Whether suggestions are made from finished trials: then it matters how many are made at the same time."""
        return self.learning_rate is None and self.max_evals > self.tune_startup_trials

    def values(self) -> dict[str, Any]:
        """Variable → value as JSON, in the order of the documentation; without user and password in addresses."""
        values = {name.upper(): value for name, value in self.model_dump(mode="json").items()}
        return {name: without_secrets(value) for name, value in values.items()}

    def sources(self) -> dict[str, str]:
        """Variable → `environment` or `default`."""
        return {name.upper(): "environment" if name in self.model_fields_set else "default" for name in variables()}


def variables() -> dict[str, FieldInfo]:
    return Settings.model_fields


def extra(variable_name: str) -> dict[str, Any]:
    content = variables()[variable_name.lower()].json_schema_extra
    assert isinstance(content, dict)
    return content
