"""What a run ran on and with, for whoever wants to reproduce it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from job.device import Compute


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
