"""The data set and the pretrained weights that the settings name."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset, pretrained
from job.data.cifar10 import KAGGLE_INPUT
from job.data.folder import Rules, Unreadable
from job.data.picture import Shape
from job.data.pretrained import Pretrained
from job.errors import Fault
from job.settings import Settings

TABLE = "unreadable_images.csv"  # below OUTPUT: which images of DATA_DIR cannot be read, and why


def load_data(settings: Settings, progress: Progress) -> Dataset:
    """The data set on the CPU. A copy that Kaggle mounts is looked for only where DATA_DIR was not given."""
    shape = Shape(settings.image_size, settings.resize)
    wanted = data.Wanted(
        name=settings.dataset,
        directory=settings.data_dir,
        limit=settings.data_limit,
        seed=settings.seed,
        urls=settings.data_url,
        kaggle_input=None if "data_dir" in settings.model_fields_set else KAGGLE_INPUT,
        rules=Rules(settings.test_percent, settings.seed, settings.skips_bad_images, shape),
    )
    try:
        return data.load(wanted, progress.bar, storage.open_object)
    except Unreadable as fault:
        raise listed(fault, settings) from fault


def listed(fault: Unreadable, settings: Settings) -> Fault:
    """The same fault, once all its images are in a table below OUTPUT; as it is where that cannot be written."""
    store = storage.open_store(settings.output)
    rows = [[each.file, each.reason] for each in fault.bad]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["file", "reason"], *rows])
    try:
        store.put(TABLE, out.getvalue().encode(errors="backslashreplace"))
    except Fault:
        return fault
    return Fault(f"{fault.what} All of them are listed in {store.uri}/{TABLE}.", fault.remedy)


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
