"""Whether the store takes, gives back and deletes an object."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from job.console.progress import Progress
from job.data.dataset import other_weights
from job.data.pretrained import ADDRESS
from job.errors import TemporaryFault
from job.preflight.findings import Finding, ok, warn
from job.runs import manifest, publish, status
from job.runs.place import place_of
from job.settings import Settings
from job.storage import ArtifactStore


def probe(settings: Settings) -> list[Finding]:
    """Writes, reads back and deletes an object where the run's files would go; leaves nothing behind.

    Raises Fault and TemporaryFault as the store does, and TemporaryFault where the object does not come back as it was.
    """
    store = place_of(settings, brief=True)
    name, content = f"preflight-{uuid.uuid4().hex}", uuid.uuid4().bytes
    made = folders_to_be_made(settings)
    started = time.monotonic()
    try:
        store.put(name, content)
        found = store.get(name)
        store.delete(name)
        left = store.get(name)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
    if found != content:
        raise TemporaryFault(f"{store.uri}/{name} does not come back as it was stored.", "Check the store or disk.")
    if left is not None:
        raise TemporaryFault(f"{store.uri}/{name} is still there after it was deleted.", "Check the store or disk.")
    took = f"{1000 * (time.monotonic() - started):.0f} ms"
    return [taken(store, took), *versions(store)]


def taken(store: ArtifactStore, took: str) -> Finding:
    if not store.deletes:
        told = f"{store.uri}: an object was written and read back in {took}, but may not be deleted"
        return warn("store", told, "Allow s3:DeleteObject; else what is not needed any more stays there, emptied.")
    return ok("store", f"{store.uri}: an object was written, read back and deleted in {took}")


def versions(store: ArtifactStore) -> list[Finding]:
    """A warning where every heartbeat and every state stays for good."""
    if not store.keeps_versions():
        return []
    told = (
        f"{store.uri}: the bucket keeps versions, so every state and heartbeat of the run stays there and is paid for"
    )
    rule = "Give it a lifecycle rule with NoncurrentVersionExpiration (docs/configuration.md has one)."
    return [warn("store", told, rule)]


def folders_to_be_made(settings: Settings) -> list[Path]:
    """The folders that a directory as store would be made with, the deepest first."""
    if "://" in settings.output:
        return []
    run = (Path(settings.output) / settings.run_name).absolute()
    return [place for place in (run, *run.parents) if not os.access(place, os.F_OK)]


def standing(settings: Settings, check: Callable[[], object]) -> list[Finding]:
    """Where the run of this name stands. Raises Fault where another one is finished in its place."""
    store = place_of(settings, brief=True)
    if settings.fresh:
        return [ok("run", f"{settings.run_name}: starts over (FRESH=1)")]
    found = manifest.read(store)
    if found is not None:
        at_address = ADDRESS.match(settings.pretrained_weights or "") is not None
        weights = (lambda _: "") if at_address else other_weights(settings, Progress("off", check))
        publish.finished_already(store, settings, lambda: str(found["data_sha256"]), weights)
        downloads = "; whether its weights still lie at that address takes a download" * at_address
        told = f"{settings.run_name} is finished: a run would do nothing{downloads}"
        return [warn("run", told, "FRESH=1 runs it again.")]
    return [ok("run", f"{settings.run_name}: {unfinished(store)}")]


def unfinished(store: ArtifactStore) -> str:
    try:
        said = status.read(store)
    except ValueError as error:
        return f"begun; {error}"
    if not said:
        return "not begun"
    return f"begun, attempt {said['attempt']} came to phase {said['phase']}; a run would go on from there"
