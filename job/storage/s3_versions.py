"""Whether a bucket keeps what is overwritten and deleted there."""

from __future__ import annotations

from job.errors import Fault
from job.storage.s3 import S3Store


def keeps_versions(store: S3Store) -> bool:
    """False where the store does not tell: not all know the question, and not every key may ask it."""
    requests = store.requests
    ask = requests.client.get_bucket_versioning
    try:
        answer = requests.ask("read the versioning of", "", lambda: ask(Bucket=requests.place.bucket))
    except Fault:
        return False
    return bool(answer.get("Status") == "Enabled")
