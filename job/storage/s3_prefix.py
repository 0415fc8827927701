"""All objects below a prefix of any bucket: listed with what tells their contents apart, and saved as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from job.errors import TemporaryFault
from job.storage.objects import Entry, written
from job.storage.s3_client import BRIEF, Limits, connect, split
from job.storage.s3_faults import Damaged, NotThere
from job.storage.s3_requests import Clients, Requests

T = TypeVar("T")

CHUNK = 1 << 20


def open_prefix(url: str, connections: int, brief: bool, variable: str) -> Prefix:
    """As `job.storage.open_prefix` promises."""
    bucket, prefix = split(url, variable)
    limits = replace(BRIEF if brief else Limits(), connections=connections)
    (client,), place = connect(bucket, variable, limits)
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
        def request() -> None:
            with self._opened(entry) as body, written(file) as output:
                received = 0
                while chunk := body.read(CHUNK):
                    output.write(chunk)
                    received += len(chunk)
            if received != entry.size:
                raise Damaged

        self._ask(entry, request)

    def content(self, entry: Entry) -> bytes:
        def request() -> bytes:
            with self._opened(entry) as body:
                content: bytes = body.read()
            if len(content) != entry.size:
                raise Damaged
            return content

        return self._ask(entry, request)

    def _ask(self, entry: Entry, request: Callable[[], T]) -> T:
        try:
            return self.requests.ask("read", entry.name, request)
        except NotThere:
            raise self._changed(entry) from None

    def _opened(self, entry: Entry) -> Any:
        """The body of the very object that was listed."""
        answer = self.requests.client.get_object(Bucket=self.requests.place.bucket, Key=self.start + entry.name)
        if answer["ContentLength"] != entry.size or answer.get("ETag", "") != entry.etag:
            answer["Body"].close()
            raise self._changed(entry)
        return answer["Body"]

    def _changed(self, entry: Entry) -> TemporaryFault:
        return TemporaryFault(
            f"S3 bucket {self.requests.place.bucket}: {entry.name} changed while the images were fetched.",
            "Start again once nobody writes there any more.",
        )
