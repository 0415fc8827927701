"""The first of the variables: what to do, with which model. And what a variable is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from job import models


def variable(
    group: str, default: Any, meaning: str, *, shapes: bool = False, later: bool = False, **limits: Any
) -> Any:
    """One setting. `shapes` marks what changes the result: such settings make up the run's name; one that came `later`
    than version 0.1.0 only where it is not its default, so that runs of before keep their names.
    """
    about: dict[str, Any] = {"group": group, "shapes": shapes, "later": later}
    return Field(default=default, description=meaning, json_schema_extra=about, **limits)


class Asked(BaseSettings):
    """The group "What to do"; `variables.Variables` goes on with all others."""

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
    export_format: str = variable(
        "What to do",
        "onnx",
        "with `MODE=export`: `onnx`, `onnx-int8`, `pt2` (of `torch.export`), `safetensors`, or several, with commas",
    )
