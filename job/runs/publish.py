"""Handing over a finished run: files first, the manifest that vouches for them last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from job.console.logs import event
from job.errors import Fault, TemporaryFault
from job.runs import manifest, status, taking
from job.runs.code import differences as code_differences
from job.runs.manifest import NAME as MANIFEST
from job.runs.standing import SLOTS
from job.settings import Settings
from job.settings.table import with_defaults
from job.storage import ArtifactStore
from job.storage.names import checked


def publish(
    store: ArtifactStore,
    files: Mapping[str, bytes],
    about: Mapping[str, Any],
    check: Callable[[], object],
) -> None:
    """Stores all files, then `manifest.json` with `about` and the size and SHA-256 of each: a run without one is not
    finished.

    Every file is read back and compared before the manifest vouches for it. `check` is called between two files and may
    raise. Raises TemporaryFault where a file does not come back as it was put, TakenOver where there is a manifest.
    """
    listed = put_all(store, files, check)
    check()
    manifest.write(store, {**about, "files": listed}, None)


def about(
    settings: Settings, data_sha256: str, code: Mapping[str, str], pretrained: Mapping[str, str] | None
) -> dict[str, Any]:
    """What a manifest says of the run beside its files: what it was made from. `code` is that which it began with,
    `pretrained` the weights (see `Pretrained.record`), None where it started from random ones.
    """
    return {
        "run": settings.run_name,
        "settings": settings.shaping(),
        "data_sha256": data_sha256,
        "pretrained": pretrained,
        "code": dict(code),
    }


def add(store: ArtifactStore, files: Mapping[str, bytes], check: Callable[[], object]) -> None:
    """Puts further files into a finished run and its manifest. Call it with the run's lock held.

    Where files of these names are replaced, the manifest names none of them meanwhile: killed at any moment, what it
    vouches for is there. Raises Fault where the run is not there any more.
    """
    found = manifest.read_versioned(store)
    if found is None:
        raise Fault(f"{store.uri} holds no finished run any more.", "Start again when it is finished.")
    said, version = found
    others = {name: entry for name, entry in said["files"].items() if name not in files}
    if len(others) < len(said["files"]):
        version = manifest.write(store, said | {"files": others}, version)
    listed = put_all(store, files, check)
    check()
    manifest.write(store, said | {"files": others | listed}, version)


def put_all(store: ArtifactStore, files: Mapping[str, bytes], check: Callable[[], object]) -> dict[str, Any]:
    """Stores every file and returns what a manifest says of it."""
    listed = {}
    for name, content in files.items():
        check()
        put_checked(store, name, content)
        listed[name] = manifest.file_entry(content)
    return listed


def put_checked(store: ArtifactStore, name: str, content: bytes) -> None:
    """Stores `content` and reads it back, a second time where it comes back altered."""
    wanted = hashlib.sha256(content).digest()
    for _ in range(2):
        store.put(name, content)
        if hashlib.sha256(store.get(name) or b"").digest() == wanted:
            return
    store.delete(name)
    raise TemporaryFault(f"{store.uri}/{name} does not come back as it was stored.", "Check the store or disk.")


def finished_already(
    store: ArtifactStore,
    settings: Settings,
    data_sha256: Callable[[], str],
    other_weights: Callable[[Mapping[str, Any] | None], str],
) -> bool:
    """Whether this very run is there already. Only looks.

    `data_sha256` gives the hash of the data set as it is now: a person's own images can change under the same settings.
    `other_weights` tells how the pretrained weights as they are now differ from those that the manifest names.
    Raises Fault where the finished run in that place is another one, or its manifest is damaged.
    """
    said = manifest.read(store)
    if said is None:
        return False
    before, now = with_defaults(said["settings"]), with_defaults(settings.shaping())
    differences = [
        f"{name} was {before.get(name)} and is {value}" for name, value in now.items() if before.get(name) != value
    ]
    if said["run"] != settings.run_name and said["run"].lower() == settings.run_name.lower():
        differences.append(f"its name is {said['run']}, and this file system does not tell capitals from small letters")
    differences += code_differences(said.get("code"), settings.model, finished=True)
    if not differences and settings.dataset == "folder" and data_sha256() != said["data_sha256"]:
        differences = ["the images below DATA_DIR have changed"]
    if not differences:
        differences = [told] if (told := other_weights(said.get("pretrained"))) else []
    if differences:
        raise Fault(
            f"{store.uri} holds a finished run that differs: {'; '.join(differences)}.",
            "Choose another RUN_ID or OUTPUT, or set FRESH=1 to replace it.",
        )
    return True


def remove(store: ArtifactStore) -> None:
    """Removes all that lies in the run's place but the lock, whatever a manifest says: the manifest first, so that
    nothing vouches for a file that is gone, and the status last. Call it with the run's lock held.

    A state is removed whether it is listed or not: it would be gone on from, and some stores list late what was put
    into them (Swift; S3 of more than one site).
    """
    names = [name for name in store.list() if name not in (MANIFEST, status.NAME, taking.NAME) and is_name(name)]
    store.delete(MANIFEST)
    for name in (*dict.fromkeys((*names, *SLOTS)), status.NAME):
        store.delete(name)
    if names:
        event("fresh", f"FRESH=1: {len(names)} files of the earlier run are removed from {store.uri}")


def is_name(name: str) -> bool:
    """Whether a store lets it be named at all; what somebody put there by other means may be called otherwise."""
    try:
        return bool(checked(name))
    except ValueError:
        return False
