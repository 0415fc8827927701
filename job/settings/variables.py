"""Every variable with its type, default, range and meaning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from job.settings.asked import Asked, variable


class Variables(Asked):
    """The table: a field for every variable, in the order of the documentation, the first of them in `Asked`.
    `checked.Settings` reads it.
    """

    dataset: Literal["cifar10", "folder", "synthetic"] = variable(
        "Data",
        "cifar10",
        "`cifar10`, `folder` (your own images: `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone), "
        "`synthetic` (drawn by the job, no download)",
        shapes=True,
    )
    data_dir: Path = variable("Data", Path("./data"), "where the data set is, or is cached (`/data` in the image)")
    data_url: tuple[str, ...] = variable(
        "Data",
        (),
        "mirrors of the CIFAR-10 archive, tried in order, with commas between them; http(s), file, s3. With "
        "`DATASET=folder`: an archive (zip, tar, tar.gz) or an `s3://bucket/prefix/` of files, fetched into `DATA_DIR`",
    )
    test_percent: float = variable(
        "Data",
        20.0,
        "with `DATASET=folder`: percent of each class kept for testing where the folder has no test set; "
        "drawn by `SEED` and each image's bytes",
        shapes=True,
        later=True,
        ge=1,
        le=90,
    )
    bad_images: Literal["stop", "skip"] = variable(
        "Data",
        "stop",
        "with `DATASET=folder`: `stop` names all images that cannot be read and trains nothing, "
        "`skip` leaves them out, counted and listed in the report",
        shapes=True,
        later=True,
    )
    image_size: int = variable(
        "Data",
        32,
        "pixels a side that images are brought to: a multiple of 8; from 96 on the ResNets keep their ImageNet stem",
        shapes=True,
        later=True,
        ge=32,
        le=512,
        multiple_of=8,
        validate_default=True,
    )
    resize: Literal["crop", "pad", "squash"] = variable(
        "Data",
        "crop",
        "with `DATASET=folder`: `crop` brings the shorter side to size and cuts out the middle, `pad` keeps the whole "
        "image and fills the borders, `squash` gives up the proportions",
        shapes=True,
        later=True,
    )
    data_limit: int | None = variable(
        "Data",
        None,
        "a reduced data set: at most this many training images, stratified and seeded; "
        "the test set shrinks by the same fraction",
        shapes=True,
        ge=10,
    )

    search: Literal["full", "halving"] = variable(
        "Search",
        "full",
        "`full`: every trial to its own end; `halving`: synchronous successive halving: after 1, 3, 9, 27 … epochs "
        "the best third of the start-up trials goes on; not with `RECIPE=strong`",
        shapes=True,
        later=True,
    )
    tune_percent: float = variable(
        "Search", 20.0, "percent of the training set used for tuning", shapes=True, ge=1, le=100
    )
    max_evals: int = variable("Search", 20, "trials", shapes=True, ge=1, le=10_000)
    tune_max_epochs: int = variable("Search", 50, "epochs a trial may take (`strong`: 10, and all)", shapes=True, ge=1)
    patience: int = variable(
        "Search", 5, "epochs without a better validation loss before a trial stops", shapes=True, ge=1
    )
    lr_min: float = variable(
        "Search",
        math.exp(-10),
        "lower end of the log-uniform search range; with `RECIPE=strong` the recipe's own",
        shapes=True,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    lr_max: float = variable(
        "Search",
        math.exp(-4),
        "upper end of the log-uniform search range; with `RECIPE=strong` the recipe's own",
        shapes=True,
        gt=0,
        le=10,
        allow_inf_nan=False,
    )
    tune_startup_trials: int = variable(
        "Search", 20, "trials drawn at random before TPE adapts (hyperopt's own default)", shapes=True, ge=1
    )

    recipe: Literal["plain", "strong"] = variable(
        "Training",
        "plain",
        "`plain`: Adam at one rate, as the notebook; `strong`: the model's own recipe for the best accuracy",
        shapes=True,
        later=True,
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
        "together with `LEARNING_RATE`: no tuning, train with these; with `RECIPE=strong` alone: the training's length",
        shapes=True,
        ge=1,
        validate_default=True,
    )
    batch_size: int = variable("Training", 128, "images a step", shapes=True, ge=1, le=65_536)
    class_weights: Literal["none", "balanced"] = variable(
        "Training",
        "none",
        "`balanced`: the training loss weighs classes by the inverse of their frequency; losses on validation and test "
        "images stay plain",
        shapes=True,
        later=True,
    )
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
        "trials at the same time: a number, or `auto` (one per visible GPU of one kind, 1 on a CPU); "
        "it shapes the result only where `MAX_EVALS` exceeds `TUNE_STARTUP_TRIALS`",
    )
    ray_address: str | None = variable(
        "Machine", None, "a Ray cluster that runs the trials: `auto`, `host:port` or `ray://host:port`"
    )

    max_hours: float | None = variable(
        "Machine",
        None,
        "working hours within which the run is finished and published, added up over all attempts: trials and epochs "
        "that do not fit are left out",
        shapes=True,
        later=True,
        gt=0,
        allow_inf_nan=False,
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
    min_accuracy: float | None = variable(
        "Output",
        None,
        "percent; a finished and published run ends with exit code 65 where the lower end of the test accuracy's 95 % "
        "interval lies below it",
        ge=1,
        le=100,
        allow_inf_nan=False,
    )
    progress: Literal["auto", "bar", "line", "off"] = variable(
        "Output", "auto", "`bar` on a terminal, `line` elsewhere, `off`"
    )
    tensorboard_dir: Path | None = variable("Output", None, "where TensorBoard's event files go, live")
    mlflow_tracking_uri: str | None = variable(
        "Output",
        None,
        "an MLflow server or store that records the run, live; user, password or token go into MLflow's own variables",
    )
    mlflow_experiment_name: str = variable("Output", "image-classification", "the MLflow experiment that gets the run")
    github_step_summary: Path | None = variable(
        "Output",
        None,
        "a file that gets a short Markdown report at the end; GitHub Actions sets it by itself",
    )
    log_format: Literal["text", "json"] = variable("Output", "text", "`text`, or `json`: one object a line")
