"""The variables of the work itself; those of machine and output follow in `variables`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict

from job import models
from job.settings.variable import variable


class OfTheWork(BaseSettings):
    """What to do, with which images, searched and trained how."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    mode: Literal["run", "check", "summary", "verify", "predict", "export"] = variable(
        "What to do",
        "run",
        "`run`: tune, train, report, publish; `check`: whether a run would work here, how long it would take and what "
        "it would cost, in seconds; `summary`: all finished runs below `OUTPUT` side by side; "
        "`verify`: compute a finished run's figures again; `predict`: its answers for the images in `INPUT`; "
        "`export`: its model for other programs, as `EXPORT_FORMAT` says",
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
    top_k: int | None = variable(
        "What to do",
        None,
        "with `MODE=predict`: a row has so many likeliest classes by name, in the place of every class's probability",
        ge=1,
    )
    heatmaps: bool = variable(
        "What to do",
        False,
        "with `MODE=predict`: 1 leaves pages that show what the network looked at in each image",
    )
    export_format: str = variable(
        "What to do",
        "onnx",
        "with `MODE=export`: `onnx`, `onnx-int8`, `pt2` (of `torch.export`), `safetensors`, or several, with commas",
    )

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
        "`DATASET=folder`: an archive (zip, tar, tar.gz, tar.zst) or an `s3://bucket/prefix/` of files, fetched into "
        "`DATA_DIR`",
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
        "`full`: every trial to its own end; `halving`: synchronous successive halving: after 2, 4, 8, 16 … epochs "
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
