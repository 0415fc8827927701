"""The data set that the settings name."""

from __future__ import annotations

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset
from job.data.cifar10 import KAGGLE_INPUT
from job.settings import Settings


def load_data(settings: Settings, progress: Progress) -> Dataset:
    """The data set on the CPU. A copy that Kaggle mounts is looked for only where DATA_DIR was not given."""
    return data.load(
        settings.dataset,
        settings.data_dir,
        urls=settings.data_url,
        limit=settings.data_limit,
        seed=settings.seed,
        bar=progress.bar,
        open_s3=storage.open_object,
        kaggle_input=None if "data_dir" in settings.model_fields_set else KAGGLE_INPUT,
    )
