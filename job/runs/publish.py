"""Handing over a finished run: files first, the manifest that vouches for them last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from job.errors import Fault, TemporaryFault
from job.settings import Settings
from job.storage import ArtifactStore

MANIFEST = "manifest.json"


def publish(
    store: ArtifactStore,
    files: dict[str, bytes],
    settings: Settings,
    data_sha256: str,
    check: Callable[[], object],
) -> None:
    """Stores all files, then `manifest.json` with the size and SHA-256 of each: a run without one is not finished.

    Every file is read back and compared before the manifest vouches for it. `check` is called between two files and may
    raise. Raises TemporaryFault where a file does not come back as it was put.
    """
    listed = {}
    for name, content in files.items():
        check()
        listed[name] = {"size": len(content), "sha256": put_checked(store, name, content)}
    manifest = {"run": settings.run_name, "settings": settings.shaping(), "data_sha256": data_sha256, "files": listed}
    put_checked(store, MANIFEST, manifest_bytes(manifest))


def add(store: ArtifactStore, files: dict[str, bytes], check: Callable[[], object]) -> None:
    """Puts further files into a finished run and its manifest. Call it with the run's lock held.

    Where files of these names are replaced, the manifest names none of them meanwhile: killed at any moment, what it
    vouches for is there. Raises Fault where the run is not there any more.
    """
    found = store.get(MANIFEST)
    if found is None:
        raise Fault(f"{store.uri} holds no finished run any more.", "Start again when it is finished.")
    manifest = json.loads(found)
    others = {name: said for name, said in manifest["files"].items() if name not in files}
    if len(others) < len(manifest["files"]):
        put_checked(store, MANIFEST, manifest_bytes(manifest | {"files": others}))
    listed = {}
    for name, content in files.items():
        check()
        listed[name] = {"size": len(content), "sha256": put_checked(store, name, content)}
    check()
    put_checked(store, MANIFEST, manifest_bytes(manifest | {"files": others | listed}))


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()


def put_checked(store: ArtifactStore, name: str, content: bytes) -> str:
    """Stores `content`, reads it back, and returns its SHA-256 (hex)."""
    wanted = hashlib.sha256(content).hexdigest()
    store.put(name, content)
    if hashlib.sha256(store.get(name) or b"").hexdigest() != wanted:
        store.put(name, content)  # once more: a fault on the way there or back
        if hashlib.sha256(store.get(name) or b"").hexdigest() != wanted:
            store.delete(name)
            raise TemporaryFault(f"{store.uri}/{name} does not come back as it was stored.", "Check the store or disk.")
    return wanted


def finished_already(store: ArtifactStore, settings: Settings, data_sha256: Callable[[], str]) -> bool:
    """Whether this very run is there already.

    `data_sha256` gives the hash of the data set as it is now: a person's own images can change under the same settings.
    Raises Fault where the finished run in that place is another one.
    """
    found = store.get(MANIFEST)
    if found is None:
        return False
    manifest = json.loads(found)
    differences = [
        f"{name} was {manifest['settings'].get(name)} and is {value}"
        for name, value in settings.shaping().items()
        if manifest["settings"].get(name) != value
    ]
    if not differences and settings.dataset == "folder" and data_sha256() != manifest["data_sha256"]:
        differences = ["the images below DATA_DIR have changed"]
    if differences:
        raise Fault(
            f"{store.uri} holds a finished run with other settings: {'; '.join(differences)}.",
            "Choose another RUN_ID or OUTPUT, or set FRESH=1 to replace it.",
        )
    return True


def remove(store: ArtifactStore) -> None:
    """Removes a finished run: its manifest first, so that no manifest names a file that is gone."""
    found = store.get(MANIFEST)
    if found is not None:
        for name in (MANIFEST, *json.loads(found)["files"]):
            store.delete(name)
