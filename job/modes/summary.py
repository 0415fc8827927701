"""`MODE=summary`: every finished run below OUTPUT side by side, as page, text and table."""

from __future__ import annotations

import json

from job import storage
from job.console.logs import event
from job.console.progress import Progress
from job.errors import Fault
from job.interrupt import Stop
from job.report import answers, comparison
from job.report import summary as pages
from job.runs import finished, publish
from job.settings import Settings
from job.storage import ArtifactStore


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Reads the results of all finished runs and stores `summary.html`, `.txt` and `.csv` beside them.

    Raises Fault where no run is finished, and what a store raises.
    """
    store = storage.open_store(settings.output)
    found, left_out = collect(store, stop)
    if not found:
        raise Fault(
            f"there is no finished run below {store.uri}" + (f" ({'; '.join(left_out)})." if left_out else "."),
            "Name in OUTPUT the place where runs left their files, or run the job first.",
        )
    files = pages.files(found, left_out, settings.price_per_hour)
    for name, content in files.items():
        stop.check()
        publish.put_checked(store, name, content)
    event("summary", files["summary.txt"].decode().rstrip(), runs=len(found), left_out=left_out)
    event("finished", f"finished: {', '.join(files)} are in {store.uri}", uri=store.uri)


def collect(store: ArtifactStore, stop: Stop) -> tuple[list[comparison.Run], list[str]]:
    """The finished runs, and a line for each that cannot be trusted: its results are not what its manifest says."""
    found, left_out = [], []
    for name in store.list():
        if not name.endswith(f"/{publish.MANIFEST}"):
            continue
        stop.check()
        folder = name.removesuffix(f"/{publish.MANIFEST}")
        try:
            found.append(read(store, folder))
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error) if type(error) is ValueError else "its results cannot be read"
            left_out.append(f"{folder}: {reason}")
            event("left_out", f"{folder} is left out: {reason}", level="WARNING", run=folder, reason=reason)
    return found, left_out


def read(store: ArtifactStore, folder: str) -> comparison.Run:
    """A run. Raises ValueError where its results or answers are not what the manifest vouches for."""
    manifest = json.loads(store.get(f"{folder}/{publish.MANIFEST}") or b"{}")
    results = json.loads(finished.vouched(store, manifest, finished.RESULTS, folder))
    kept = answers.FILE in manifest["files"]
    return comparison.run_from(
        folder, manifest, results, finished.vouched(store, manifest, answers.FILE, folder) if kept else None
    )
