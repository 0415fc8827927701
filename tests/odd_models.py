"""Models that misbehave, for workers to build; in a file of their own, which a worker imports quickly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import nn

from job import models


def stubborn(spare: Path | None = None) -> nn.Module:
    """Kills its process: always, or until the file `spare` is there."""
    if spare is None or not spare.exists():
        if spare is not None:
            spare.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return models.find("mlp").build(10)


def hungry() -> nn.Module:
    """No memory can hold it."""
    return nn.Linear(2**40, 2**10)


def broken() -> nn.Module:
    raise RuntimeError(f"a bug in a model; threads: {torch.get_num_threads()}")
