"""The end of a run: what comes after its manifest, and what of it the next start makes up for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from job import report
from job.console.logs import event
from job.modes import banner
from job.runs import checkpoint, finished, lock, manifest, status
from job.runs.finished import Finished
from job.runs.status import Status
from job.settings import Settings
from job.storage import ArtifactStore
from job.tracking import Tracker


def is_settled(store: ArtifactStore) -> bool:
    """Whether all is done that follows a manifest: killed in between, a run is finished, but its status says otherwise,
    and its states or its lock are still there.
    """
    try:
        said = status.read(store).get("phase")
    except ValueError:
        said = None
    return said == status.FINISHED and all(store.get(name) is None for name in (lock.NAME, *checkpoint.SLOTS))


def settle(
    settings: Settings,
    store: ArtifactStore,
    told: Status,
    followers: Sequence[Tracker],
    run: tuple[Mapping[str, Any], Mapping[str, bytes]] | None = None,
) -> None:
    """Removes the states and tells everybody that the run is finished. Call it with the run's lock held.

    `run` holds its results and files; None reads them from the store, where an earlier attempt has put them.
    """
    results, files = run or published(settings, store)
    checkpoint.remove(store)
    for follower in followers:
        follower.finished(results, files)
    banner.append(settings.github_step_summary, report.markdown(results, store.uri))
    told.tell(status.FINISHED)


def published(settings: Settings, store: ArtifactStore) -> tuple[dict[str, Any], dict[str, bytes]]:
    said = manifest.read(store)
    assert said is not None
    run = Finished(settings.run_name, store, said)
    return finished.results(run), {name: finished.read(run, name) for name in said["files"]}


def tell_finished(store: ArtifactStore) -> None:
    event("finished", f"finished already: the files are in {store.uri} (FRESH=1 runs it again)", uri=store.uri)
