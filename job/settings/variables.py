"""Every variable with its type, default, range and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from job.settings.variable import variable
from job.settings.work import OfTheWork


class Variables(OfTheWork):
    """The table: a field for every variable, in the order of the documentation. `checked.Settings` reads it."""

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
    s3_sse: Literal["AES256", "aws:kms"] | None = variable(
        "Output",
        None,
        "server-side encryption asked of the bucket in `OUTPUT` for what is written: `AES256` or `aws:kms`",
    )
    s3_sse_kms_key_id: str | None = variable(
        "Output",
        None,
        "with `S3_SSE=aws:kms` the key: its id, alias or ARN; without it the account's own for S3",
        pattern=r"^[A-Za-z0-9:/_-]{1,2048}$",
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
