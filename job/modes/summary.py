"""`MODE=summary`: every finished run below OUTPUT side by side, as page, text and table."""

from __future__ import annotations

from job import storage
from job.console.logs import event
from job.console.progress import Progress
from job.errors import Fault, TemporaryFault
from job.interrupt import Stop
from job.report import answers, comparison
from job.report import summary as pages
from job.runs import finished, manifest, publish, shapes
from job.settings import Settings
from job.storage import ArtifactStore


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Reads the results of all finished runs and stores `summary.html`, `.txt` and `.csv` beside them.

    Raises Fault where no run is finished, and what a store raises.
    """
    store = storage.open_store(settings.output, stop=stop)
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
        if not name.endswith(f"/{manifest.NAME}"):
            continue
        stop.check()
        folder = name.removesuffix(f"/{manifest.NAME}")
        try:
            found.append(read(store, folder))
        except TemporaryFault:
            raise
        except (Fault, ValueError, KeyError) as error:
            reason = error.what.rstrip(".") if isinstance(error, Fault) else str(error)
            left_out.append(f"{folder}: {reason}")
            event("left_out", f"{folder} is left out: {reason}", level="WARNING", run=folder, reason=reason)
    return found, left_out


def read(store: ArtifactStore, folder: str) -> comparison.Run:
    """A run. Raises ValueError where its results or answers are not what the manifest vouches for, or are not as they
    must be, and Fault where the manifest is damaged.
    """
    said = manifest.read(store, folder)
    if said is None:
        raise ValueError("it has just been removed")
    content = finished.vouched(store, said, finished.RESULTS, folder)
    try:
        results = shapes.parsed(content, shapes.RESULTS)
    except ValueError as error:
        raise ValueError(f"{finished.RESULTS} is damaged: {error}") from None
    kept = answers.FILE in said["files"]
    rows = finished.vouched(store, said, answers.FILE, folder) if kept else None
    try:
        return comparison.run_from(folder, said, results, rows)
    except (LookupError, TypeError, AttributeError, OverflowError):
        raise ValueError(f"{finished.RESULTS} is damaged: what it says of the classes does not fit together") from None
