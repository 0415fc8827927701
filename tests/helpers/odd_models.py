"""Models that misbehave, for workers to build; in a file of their own, which a worker imports quickly."""

from __future__ import annotations

import os
import signal

import torch
from torch import nn


def stubborn() -> nn.Module:
    """Kills its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead processes do not get here")


def hungry() -> nn.Module:
    """No memory can hold it."""
    return nn.Linear(2**40, 2**10)


def broken() -> nn.Module:
    raise RuntimeError(f"a bug in a model; threads: {torch.get_num_threads()}")
