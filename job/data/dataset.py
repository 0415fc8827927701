"""The data set and the pretrained weights that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset, pretrained
from job.data.cifar10 import KAGGLE_INPUT
from job.data.pretrained import Pretrained
from job.settings import Settings


def load_data(settings: Settings, progress: Progress) -> Dataset:
    """The data set on the CPU. A copy that Kaggle mounts is looked for only where DATA_DIR was not given."""
    wanted = data.Wanted(
        name=settings.dataset,
        directory=settings.data_dir,
        limit=settings.data_limit,
        seed=settings.seed,
        urls=settings.data_url,
        kaggle_input=None if "data_dir" in settings.model_fields_set else KAGGLE_INPUT,
    )
    return data.load(wanted, progress.bar, storage.open_object)


def load_weights(settings: Settings, progress: Progress) -> Pretrained | None:
    """The weights that the model starts from; None where it starts from random ones."""
    return pretrained.load(settings.model, settings.pretrained_weights, bar=progress.bar, open_s3=storage.open_object)


def other_weights(settings: Settings, progress: Progress) -> Callable[[Mapping[str, Any] | None], str]:
    """A function that tells how the weights that the settings name differ from those that a run recorded."""
    return partial(
        pretrained.differs,
        settings.model,
        settings.pretrained_weights,
        bar=progress.bar,
        open_s3=storage.open_object,
    )
