"""The data set and the pretrained weights that the settings name."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset, fetched, pretrained
from job.data.cifar10 import KAGGLE_INPUT
from job.data.download import Bar
from job.data.fetched import Fetched
from job.data.folder import Rules, Unreadable
from job.data.picture import Shape
from job.data.pretrained import Pretrained
from job.errors import Fault
from job.settings import Settings

TABLE = "unreadable_images.csv"  # below OUTPUT: which images of DATA_DIR cannot be read, and why


def load_data(settings: Settings, progress: Progress) -> Dataset:
    """The data set on the CPU. A copy that Kaggle mounts is looked for only where DATA_DIR was not given."""
    shape = Shape(settings.image_size, settings.resize)
    come = brought(settings, progress.bar)
    wanted = data.Wanted(
        name=settings.dataset,
        directory=come.root if come else settings.data_dir,
        limit=settings.data_limit,
        seed=settings.seed,
        urls=settings.data_url,
        kaggle_input=None if "data_dir" in settings.model_fields_set else KAGGLE_INPUT,
        rules=Rules(settings.test_percent, settings.seed, settings.skips_bad_images, shape),
    )
    try:
        dataset = data.load(wanted, progress.bar, storage.open_object)
    except Unreadable as fault:
        raise listed(fault, settings) from fault
    return replace(dataset, fetched=come.about) if come else dataset


def brought(settings: Settings, bar: Bar) -> Fetched | None:
    """A folder's data set that DATA_URL names, below DATA_DIR; None where none is. Raises Fault where the run would
    write into what it reads.
    """
    if settings.dataset != "folder" or not settings.data_url:
        return None
    apart(settings)
    return fetched.fetched(settings.data_url, settings.data_dir, bar)


def apart(settings: Settings) -> None:
    for url in settings.data_url:
        if f"{settings.output.rstrip('/')}/".startswith(f"{url.rstrip('/')}/"):
            raise Fault(
                "OUTPUT lies within the prefix that DATA_URL names: every run would change its own data set.",
                "Give the runs, or the images, a prefix of their own.",
            )


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
