"""A finished run as it was left: found by the settings, each file as its manifest vouches for it. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from job import storage
from job.console.progress import Progress
from job.data import Dataset
from job.data.dataset import load_data
from job.errors import Fault
from job.interrupt import Stop
from job.runs import manifest, shapes
from job.runs.place import place_of
from job.settings import Settings
from job.settings.table import with_defaults
from job.storage import ArtifactStore

RESULTS, MODEL, WEIGHTS = "results.json", "model.json", "weights.pt"
TAKEN_OVER = ("MODEL", "DATASET", "DATA_LIMIT", "SEED", "TEST_PERCENT", "BAD_IMAGES", "IMAGE_SIZE", "RESIZE")
# what a run is tested on is the run's own, whatever is set now
NAMED = 8  # runs that a message lists


@dataclass(frozen=True)
class Finished:
    """`manifest` is None for files that somebody handed on without it: then nothing vouches for them."""

    name: str
    store: ArtifactStore
    manifest: dict[str, Any] | None


def find(settings: Settings, stop: Stop | None = None, *, handed_on: bool = False) -> Finished:
    """The finished run that RUN_ID or the settings name. `handed_on` also takes `weights.pt` with `model.json` alone.

    Raises Fault where there is none, or where a variable that is set says something else than the run does.
    """
    store = place_of(settings, stop=stop)
    found = manifest.read(store)
    if found is None:
        if handed_on and store.get(MODEL) is not None:
            return Finished(settings.run_name, store, None)
        raise Fault(f"{store.uri} holds no finished run.", others(settings))
    run = Finished(settings.run_name, store, found)
    its = taken_over(run)
    differences = [
        f"{name} is set to {value}, but the run has {its[name]}"
        for name, value in settings.values().items()
        if name in its and settings.sources()[name] == "environment" and its[name] != value
    ]
    if differences:
        raise Fault(
            f"{store.uri} is another run than the variables say: {'; '.join(differences)}.",
            "Leave them out, or name another run in RUN_ID.",
        )
    return run


def others(settings: Settings) -> str:
    """What to do about a run that is not there: which ones are."""
    end = f"/{manifest.NAME}"
    names = [name.removesuffix(end) for name in storage.open_store(settings.output).list() if name.endswith(end)]
    if not names:
        return "Run the job first, or name in OUTPUT the place where runs left their files."
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"Name in RUN_ID one of the finished runs below OUTPUT: {', '.join(names[:NAMED])}{more}."


def vouched(store: ArtifactStore, said: dict[str, Any], name: str, folder: str = "") -> bytes:
    """The content of a file below `folder` of `store`. Raises ValueError where it is not what the manifest names."""
    content = store.get(f"{folder}/{name}" if folder else name)
    if content is None:
        raise ValueError(f"{name} is missing")
    if name not in said["files"]:
        raise ValueError(f"its manifest does not name {name}")
    if hashlib.sha256(content).hexdigest() != said["files"][name]["sha256"]:
        raise ValueError(f"{name} is not the file that its manifest names")
    return content


def read(run: Finished, name: str) -> bytes:
    """A file of the run. Raises Fault where it is missing or not what the manifest vouches for."""
    try:
        if run.manifest is not None:
            return vouched(run.store, run.manifest, name)
        content = run.store.get(name)
        if content is None:
            raise ValueError(f"{name} is missing")
        return content
    except ValueError as error:
        raise Fault(f"{run.store.uri} is not whole: {error}.", manifest.MEND) from None


def results(run: Finished) -> dict[str, Any]:
    """results.json, with all that this job reads there. Raises Fault where it is damaged."""
    return read_json(run, RESULTS, shapes.RESULTS)


def model(run: Finished) -> dict[str, Any]:
    """model.json, likewise."""
    return read_json(run, MODEL, shapes.MODEL)


def read_json(run: Finished, name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """A JSON file of the run. Raises Fault where it is not as `shape` says."""
    try:
        return shapes.parsed(read(run, name), shape)
    except ValueError as error:
        raise Fault(f"{run.store.uri}/{name} is damaged: {error}.", manifest.MEND) from None


def damage(run: Finished, check: Callable[[], object]) -> list[str]:
    """A line for every file that is missing or changed; `check` is called before each and may raise."""
    assert run.manifest is not None
    lines = []
    for name in run.manifest["files"]:
        check()
        try:
            vouched(run.store, run.manifest, name)
        except ValueError as error:
            lines.append(str(error))
    return lines


def settings_of(run: Finished, settings: Settings) -> Settings:
    """The settings as they are now, with what decides the run's data set taken from the run."""
    assert run.manifest is not None
    return settings.model_copy(update={name.lower(): value for name, value in taken_over(run).items()})


def taken_over(run: Finished) -> dict[str, Any]:
    """Variable → value of what is the run's own; one that its manifest does not name had its default."""
    assert run.manifest is not None
    kept = with_defaults(run.manifest["settings"])
    return {name: kept[name] for name in TAKEN_OVER}


def data_of(run: Finished, settings: Settings, progress: Progress) -> Dataset:
    """The very data set that the run was trained and tested on. Raises Fault where what is there now is another one."""
    assert run.manifest is not None
    dataset = load_data(settings_of(run, settings), progress)
    if dataset.sha256 != run.manifest["data_sha256"]:
        raise Fault(
            f"{dataset.origin} is not the data set of {run.store.uri}: SHA-256 {dataset.sha256[:16]}… "
            f"where the run has {run.manifest['data_sha256'][:16]}….",
            "Name the run's own images in DATA_DIR; for DATASET=folder one changed file is enough to differ.",
        )
    return dataset
