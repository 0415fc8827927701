"""Where a run's files go, as the settings say."""

from __future__ import annotations

from job import storage
from job.interrupt import Stop
from job.settings import Settings
from job.storage import ArtifactStore


def place_of(
    settings: Settings, name: str | None = None, *, stop: Stop | None = None, brief: bool = False
) -> ArtifactStore:
    """The store of the run that the settings name, or of `name` below `OUTPUT` (all of it where that is empty); a
    bucket encrypts as `S3_SSE` says. See `storage.open_store`.
    """
    name = settings.run_name if name is None else name
    return storage.open_store(settings.output, name, stop=stop, brief=brief).encrypted(settings.encryption)
