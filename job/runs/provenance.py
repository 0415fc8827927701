"""What a run ran on and with, for whoever wants to reproduce it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from job.device import Compute
from job.results import Trial
from job.runs.code import of as code_of


def collect(compute: Compute) -> dict[str, Any]:
    """Device, versions, platform and commit, as JSON."""
    return {
        "device": str(compute.device),
        "hardware": compute.hardware,
        "precision": compute.precision,
        "precision_reason": compute.reason,
        "arithmetic": compute.arithmetic(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "hyperopt": version("hyperopt"),
            "numpy": version("numpy"),
            "matplotlib": version("matplotlib"),
            "cuda": torch.version.cuda,
        },
        "platform": platform.platform(),
        "git_commit": git_commit(),
    }


def changes(since: Sequence[str], trials: Sequence[Trial], training: str) -> dict[str, Any]:
    """What was not computed as `arithmetic` says, for people: `since` it went on elsewhere (see `Identity.changes`), in
    a trial, or in the final training, whose note `training` is.
    """
    notes = [f"trial {trial.number + 1}: {trial.note}" for trial in trials if trial.note]
    return {"changes": [*since, *notes, *([f"final training: {training}"] if training else [])]}


def code(began: dict[str, str], model: str) -> dict[str, Any]:
    """The code that the run began with, and that which ended it where it is another."""
    now = code_of(model)
    return {"code": began if began == now else {"began": began, "ended": now}}


def git_commit() -> str | None:
    """The commit of the job's own code: from its checkout, or as the image and the Kaggle script wrote it down."""
    packed = Path(__file__).parent.with_name("COMMIT")
    if packed.is_file():
        return packed.read_text().strip()
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
