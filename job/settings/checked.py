"""All settings of a run: the table of `variables`, read from the environment, with the rules that look further."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, cast

from pydantic import (
    ModelWrapValidatorHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from job import models
from job.settings.effects import without_effect
from job.settings.places import PLACES
from job.settings.recipe import recipe_defaults
from job.settings.redaction import without_secrets
from job.settings.slips import did_you_mean, several
from job.settings.table import extra, variables
from job.settings.values import EXPORT_FORMATS, read, whole
from job.settings.variables import Variables

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Settings(Variables):
    """All settings of a run, checked and frozen. A variable that is set but empty counts as not set."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment alone, as it is written: `model` and `Model` are names of somebody else's."""
        given = {name: os.environ[name.upper()] for name in variables() if os.environ.get(name.upper())}
        return init_settings, InitSettingsSource(settings_cls, init_kwargs=given)

    @model_validator(mode="wrap")
    @classmethod
    def _by_recipe(cls, given: Any, made: ModelWrapValidatorHandler[Settings]) -> Settings:
        """Where a recipe has defaults of its own they are checked as what is given is, and count as defaults."""
        own = recipe_defaults(given)
        settings = made({**own, **given})
        settings.model_fields_set.difference_update(own)
        return settings

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """What a variable says, whatever an env file left around it; see `values.read`."""
        if not isinstance(value, str):
            return value
        name = str(info.field_name)
        return read(name.upper(), value, variables()[name].annotation, PLACES.get(name))

    @field_validator("model")
    @classmethod
    def _model_exists(cls, value: str) -> str:
        if value not in models.names():
            raise ValueError(f"choose from: {', '.join(models.names())}{did_you_mean(value, models.names())}")
        return value

    @field_validator("recipe")
    @classmethod
    def _recipe_is_one(cls, value: str, info: ValidationInfo) -> str:
        try:
            models.recipe(info.data.get("model", "cnn"), value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"STRONG in job/models/{info.data['model']}.py is no recipe: {error}") from None
        if value == "strong" and info.data.get("search") == "halving":
            raise ValueError(
                "strong does not go with SEARCH=halving: a trial is a short schedule of its own, and one that is "
                "stopped before its end says nothing of where it would have come: leave SEARCH out"
            )
        return value

    @field_validator("image_size")
    @classmethod
    def _model_takes_it(cls, value: int, info: ValidationInfo) -> int:
        name = info.data.get("model")
        if value != 32 and name and not models.takes_any_size(name):
            raise ValueError(f"job/models/{name}.py takes 32 pixels alone: its build has no image_size")
        return value

    @field_validator("input")
    @classmethod
    def _input_for_predict(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("mode") == "predict":
            raise ValueError("MODE=predict needs it: an image, a folder or an address")
        return value

    @field_validator("export_format")
    @classmethod
    def _formats_exist(cls, value: str) -> str:
        several(value, EXPORT_FORMATS)
        return value

    @field_validator("tune_percent", mode="wrap")
    @classmethod
    def _percentage(cls, given: Any, number: ValidatorFunctionWrapHandler) -> float:
        """Told before the bounds are: a fraction is what was meant."""
        try:
            value = float(given)
        except ValueError:
            return cast(float, number(given))  # which raises
        if 0 < value < 1:
            raise ValueError(
                f"it is a percentage, from 1 to 100: for {value:g} of the training set write {100 * value:g}"
            )
        return cast(float, number(given))

    @field_validator("lr_max")
    @classmethod
    def _range_in_order(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("lr_min", 0):
            raise ValueError(f"must be greater than LR_MIN ({info.data['lr_min']:g})")
        return value

    @field_validator("epochs")
    @classmethod
    def _both_or_neither(cls, value: int | None, info: ValidationInfo) -> int | None:
        rate_given = info.data.get("learning_rate") is not None
        if value is not None and not rate_given and info.data.get("recipe") == "strong":
            return value
        if "learning_rate" in info.data and (value is None) == rate_given:
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
        value = whole(value)
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
        # Weights are told apart by content, not here; the name stays what version 0.1.0 made of the same settings.
        shaping = json.dumps(self.shaping() | {"PRETRAINED_WEIGHTS": None}, sort_keys=True)
        return f"{self.model}-{hashlib.sha256(shaping.encode()).hexdigest()[:8]}"

    def shaping(self) -> dict[str, Any]:
        """Variable → value of every setting that shapes the result."""
        values = self.values()
        idle = without_effect(self)  # another value of them makes no other run
        shaping = {
            name: variables()[name.lower()].default if name in idle else value
            for name, value in values.items()
            if extra(name)["shapes"]
        }
        shaping = {
            name: value
            for name, value in shaping.items()
            if not extra(name)["later"] or value != variables()[name.lower()].default
        }
        return shaping | ({"WORKERS": values["WORKERS"]} if self.adapts and self.workers not in ("auto", "1") else {})

    @property
    def encryption(self) -> dict[str, str]:
        """How a bucket is asked to encrypt what is written, in the words of S3's PutObject; mostly empty."""
        key = self.s3_sse_kms_key_id if self.s3_sse == "aws:kms" else None
        given = {"ServerSideEncryption": self.s3_sse, "SSEKMSKeyId": key}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def export_formats(self) -> tuple[str, ...]:
        """The names in `EXPORT_FORMAT`, each once."""
        return several(self.export_format, EXPORT_FORMATS)

    @property
    def way(self) -> models.Recipe:
        """How the model is trained."""
        return models.recipe(self.model, self.recipe)

    @property
    def trial_patience(self) -> int:
        """`PATIENCE`; under a schedule so much that none stops before its end."""
        return self.tune_max_epochs if self.way.scheduled else self.patience

    @property
    def final_epochs(self) -> int | None:
        """Epochs of the final training where they are known before the search: given, or the recipe's own."""
        return self.epochs or self.way.epochs

    @property
    def skips_bad_images(self) -> bool:
        return self.bad_images == "skip"

    @property
    def adapts(self) -> bool:
        """Whether suggestions are made from finished trials: then it matters how many are made at the same time."""
        return self.learning_rate is None and self.max_evals > self.tune_startup_trials

    @property
    def uses_s3(self) -> bool:
        """Whether a bucket is written or read, so that the AWS variables count."""
        return any(str(place).startswith("s3://") for place in (self.output, self.input, *self.data_url))

    def values(self) -> dict[str, Any]:
        """Variable → value as JSON, in the order of the documentation; without user and password in addresses."""
        values = {name.upper(): value for name, value in self.model_dump(mode="json").items()}
        return {name: without_secrets(value) for name, value in values.items()}

    def sources(self) -> dict[str, str]:
        """Variable → `environment` or `default`."""
        return {name.upper(): "environment" if name in self.model_fields_set else "default" for name in variables()}
