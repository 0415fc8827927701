"""The only reader of the environment: every variable with its type, default, range and meaning.

Loaded before torch, so that a wrong setting is told within a second.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from job import models
from job.errors import Fault

SECRET_IN_URL = re.compile(r"(?<=://)[^/\s,]*@|(?<=\?)[^\s,]+")  # user and password; a signed query
NOT_SLIPS = {"MODELS"}  # the list of models for `make run-all` and indexed jobs
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def variable(group: str, default: Any, meaning: str, *, shapes: bool = False, **limits: Any) -> Any:
    """One setting. `shapes` marks what changes the result: such settings make up the run's name."""
    return Field(default=default, description=meaning, json_schema_extra={"group": group, "shapes": shapes}, **limits)


class Settings(BaseSettings):
    """All settings of a run, checked and frozen. A variable that is set but empty counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", protected_namespaces=())

    mode: Literal["run", "summary", "verify", "predict", "export"] = variable(
        "What to do",
        "run",
        "`run`: tune, train, report, publish; `summary`: all finished runs below `OUTPUT` side by side; "
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
        "Training", None, "file or URL of the ImageNet ResNet-18 weights; without it torchvision's own", shapes=True
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


def load() -> Settings:
    """The settings in the process environment. Raises Fault that lists every fault at once."""
    faults = misspelled(os.environ)
    settings = None
    try:
        settings = Settings()
    except ValidationError as error:
        faults += [describe(detail) for detail in error.errors()]
    if settings is None or faults:
        word = "setting is" if len(faults) == 1 else "settings are"
        raise Fault(
            f"{len(faults)} {word} wrong:\n" + "\n".join(f"  - {fault}" for fault in faults),
            "Every variable is explained by: python -m job --help",
        )
    return settings


def log_format() -> str:
    """`LOG_FORMAT` where it is right, else `text`: wrong settings have to be told in some format."""
    return "json" if os.environ.get("LOG_FORMAT", "").strip() == "json" else "text"


def describe(detail: Mapping[str, Any]) -> str:
    """`VARIABLE=value: what is allowed`, from one of pydantic's errors."""
    name = str(detail["loc"][0]).upper()
    raw = os.environ.get(name) or next((v for k, v in os.environ.items() if k.upper() == name), "")
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "value_error":
        rule = str(context["error"])
    elif kind == "literal_error":
        choices = literal_choices(name)
        rule = f"choose from: {', '.join(choices)}{did_you_mean(raw, choices)}"
    elif kind.startswith(("int_", "float_", "finite_")):
        rule = f"must be {'a whole number' if kind.startswith('int_') else 'a number'}{bounds(name)}"
    elif kind.startswith("bool_"):
        rule = "must be 1 or 0"
    else:
        rule = f"{detail['msg']}{bounds(name)}"
    return f"{name}={without_secrets(raw)}: {rule}" if raw else f"{name}: {rule}"


def bounds(name: str) -> str:
    """The allowed range in words, from the field's own limits."""
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    parts = [
        f"{word} {getattr(limit, key):g}"
        for limit in variables()[name.lower()].metadata
        for key, word in words.items()
        if getattr(limit, key, None) is not None
    ]
    return f", {' and '.join(parts)}" if parts else ""


def literal_choices(name: str) -> tuple[str, ...]:
    return tuple(variables()[name.lower()].annotation.__args__)  # type: ignore[union-attr]


def did_you_mean(value: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def misspelled(environment: Mapping[str, str]) -> list[str]:
    """One line for every variable whose name is nearly one of ours: a setting that would silently do nothing."""
    ours = {name.upper() for name in variables()}
    lines = []
    for name in sorted(environment):
        if name.upper() in ours | NOT_SLIPS or not environment[name]:
            continue
        near = [own for own in sorted(ours) if nearly(name.upper(), own)]
        if near:
            lines.append(f"{name}: there is no such variable; did you mean {near[0]}?")
    return lines


def nearly(name: str, own: str) -> bool:
    """Whether `name` is a likely slip for `own`. Short names are judged strictly: NODE is not MODE, nor SPEED SEED."""
    if name[0] != own[0] or abs(len(name) - len(own)) > 2:
        return False
    if name.replace("_", "") == own.replace("_", "") or (len(name) == len(own) and sorted(name) == sorted(own)):
        return True
    if name in (own + "S", own[:-1]):
        return True
    return len(own) > 6 and difflib.SequenceMatcher(None, name, own, autojunk=False).ratio() >= 0.88


def without_secrets(value: Any) -> Any:
    """Text or list with `***` for the user, the password and the query of an address (https://user:password@host?key)."""
    if isinstance(value, str):
        return SECRET_IN_URL.sub("***", value) if "://" in value else value
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def default_of(name: str) -> str:
    """The default as one would write it in the environment; empty for none."""
    value = variables()[name.lower()].default
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else repr(value)  # repr: the very same number when it is read again
    return f"./{value}" if isinstance(value, Path) else str(value)


def env_file() -> str:
    """`env.example`: every variable with its default, ready for `docker run --env-file`."""
    lines = ["# Every variable of the job with its default; one that is empty counts as not set."]
    group = ""
    for name, field in variables().items():
        if extra(name)["group"] != group:
            group = extra(name)["group"]
            lines += ["", f"# {group}"]
        lines += [f"# {(field.description or '').replace('`', '')}", f"{name.upper()}={default_of(name)}"]
    return "\n".join(lines) + "\n"


def help_text() -> str:
    """What `--help` prints: every variable with its default and meaning, by group."""
    lines = [
        "usage: python -m job [--help | --print-env]",
        "",
        "Tunes, trains and reports an image classifier. Everything is set by environment variables:",
    ]
    group = ""
    for name, field in variables().items():
        if extra(name)["group"] != group:
            group = extra(name)["group"]
            lines += ["", group]
        default = default_of(name) or "none"
        lines.append(f"  {name.upper()}  (default: {default}){bounds(name)}")
        lines.append(f"      {(field.description or '').replace('`', '')}")
    lines += ["", "Exit codes: 0 finished, 78 a fault to mend first, 75 try again, 143 stopped by SIGTERM, 1 a bug."]
    return "\n".join(lines)
