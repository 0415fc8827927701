"""Handing over a finished run: files first, the manifest that vouches for them last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from job.errors import Fault
from job.logs import event
from job.settings import Settings
from job.storage import ArtifactStore

MANIFEST = "manifest.json"


def publish(store: ArtifactStore, files: dict[str, bytes], settings: Settings, data_sha256: str) -> None:
    """Stores all files, then `manifest.json` with the size and SHA-256 of each: a run without one is not finished."""
    for name, content in files.items():
        store.put(name, content)
    manifest = {
        "run": settings.run_name,
        "settings": settings.shaping(),
        "data_sha256": data_sha256,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    store.put(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def finished_already(store: ArtifactStore, settings: Settings, data_sha256: Callable[[], str]) -> bool:
    """Whether this very run is there already. With FRESH=1 what is there is removed instead.

    `data_sha256` gives the hash of the data set as it is now: a person's own images can change under the same settings.
    Raises Fault where the finished run in that place is another one.
    """
    found = store.get(MANIFEST)
    if found is None:
        return False
    manifest = json.loads(found)
    if settings.fresh:
        for name in (MANIFEST, *manifest["files"]):  # the manifest first: from there on the run counts as not finished
            store.delete(name)
        return False
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
    event("finished", f"finished already: the files are in {store.uri} (FRESH=1 runs it again)", uri=store.uri)
    return True
