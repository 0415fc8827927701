"""All objects below a prefix of any bucket: listed with what tells their contents apart, and saved as files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from job.errors import TemporaryFault
from job.storage.objects import Entry, written
from job.storage.s3_client import BRIEF, Limits, connect, split
from job.storage.s3_faults import Damaged, NotThere
from job.storage.s3_requests import Clients, Requests

VARIABLE = "DATA_URL"
CHUNK = 1 << 20


def open_prefix(url: str, connections: int, brief: bool) -> Prefix:
    """As `job.storage.open_prefix` promises."""
    bucket, prefix = split(url, VARIABLE)
    limits = replace(BRIEF if brief else Limits(), connections=connections)
    (client,), place = connect(bucket, VARIABLE, limits)
    return Prefix(Requests(Clients(client, client), place, limits), f"{prefix}/" if prefix else "")


class Prefix:
    """Objects whose keys start with `start`."""

    def __init__(self, requests: Requests, start: str) -> None:
        self.requests = requests
        self.start = start

    @property
    def uri(self) -> str:
        return f"s3://{self.requests.place.bucket}/{self.start}"

    def entries(self) -> list[Entry]:
        where, page = {"Bucket": self.requests.place.bucket, "Prefix": self.start}, dict[str, str]()
        found = []
        while True:
            answer = self.requests.ask(
                "list", self.start, partial(self.requests.client.list_objects_v2, **where, **page)
            )
            for item in answer.get("Contents", ()):
                if not item["Key"].endswith("/"):  # as consoles mark a folder
                    found.append(Entry(item["Key"][len(self.start) :], item["Size"], item.get("ETag", "")))
            if not answer.get("IsTruncated"):
                return sorted(found, key=lambda entry: entry.name)
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def save(self, entry: Entry, file: Path) -> None:
        try:
            self.requests.ask("read", entry.name, partial(self._save, entry, file))
        except NotThere:
            raise self._changed(entry) from None

    def _save(self, entry: Entry, file: Path) -> None:
        answer = self.requests.client.get_object(Bucket=self.requests.place.bucket, Key=self.start + entry.name)
        if answer["ContentLength"] != entry.size or answer.get("ETag", "") != entry.etag:
            answer["Body"].close()
            raise self._changed(entry)
        received = 0
        with answer["Body"] as body, written(file) as output:
            while chunk := body.read(CHUNK):
                output.write(chunk)
                received += len(chunk)
        if received != entry.size:
            raise Damaged

    def _changed(self, entry: Entry) -> TemporaryFault:
        return TemporaryFault(
            f"S3 bucket {self.requests.place.bucket}: {entry.name} changed while the data set was fetched.",
            "Start again once nobody writes there any more.",
        )
