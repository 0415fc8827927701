"""`manifest.json`, which vouches for a finished run: the one reader and the one writer of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from job.errors import Fault, TemporaryFault
from job.runs import shapes
from job.storage import ArtifactStore
from job.storage.names import checked

NAME = "manifest.json"
MEND = "Copy the run again from where it was whole, or run it anew with FRESH=1."


def read(store: ArtifactStore, folder: str = "") -> dict[str, Any] | None:
    """The manifest below `folder` of the store, None where there is none. Raises Fault where it is damaged."""
    found = read_versioned(store, folder)
    return None if found is None else found[0]


def read_versioned(store: ArtifactStore, folder: str = "") -> tuple[dict[str, Any], str] | None:
    """The same with the mark of its version."""
    name = f"{folder}/{NAME}" if folder else NAME
    found = store.get_versioned(name)
    if found is None:
        return None
    try:
        manifest = shapes.parsed(found[0], shapes.MANIFEST)
        for file in manifest["files"]:
            checked(file)
    except ValueError as error:
        raise Fault(f"{store.uri}/{name} is damaged: {error}.", MEND) from None
    return manifest, found[1]


def write(store: ArtifactStore, manifest: dict[str, Any], version: str | None) -> str:
    """Puts it in place of the one with `version` (None: of none) and returns its own, once it comes back as it was put.

    Raises TakenOver where another job has put one there meanwhile.
    """
    content = (json.dumps(manifest, indent=2) + "\n").encode()
    for _ in range(2):
        version = store.put_known(NAME, content, version)
        if store.get(NAME) == content:
            return version
    raise TemporaryFault(f"{store.uri}/{NAME} does not come back as it was stored.", "Check the store or disk.")


def file_entry(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
