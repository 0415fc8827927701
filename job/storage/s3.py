"""An S3-compatible bucket as a store. The only importer of boto3, which finds endpoint and credentials by itself.

What botocore leaves to its users, as seen with other stores than AWS's own:
- checksum headers that it adds since 1.36 are refused by several stores, so they are off behind a custom endpoint
  (https://github.com/boto/boto3/issues/4392); Content-MD5, which all know, guards every upload instead;
- requests are repeated by this job alone (`s3_requests`), large uploads go in parts (`s3_parts`);
- HEAD answers have no body and cannot tell a missing bucket from a missing object, so none is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from botocore import exceptions as boto_errors

from job.console.logs import event
from job.errors import Fault, TakenOver, TemporaryFault
from job.storage import s3_parts
from job.storage.names import checked
from job.storage.s3_client import BRIEF as BRIEF
from job.storage.s3_client import Limits as Limits
from job.storage.s3_client import connect, split
from job.storage.s3_faults import CONDITION_NOT_MET, CONDITION_UNKNOWN, Damaged, NotPermitted, NotThere, code_of
from job.storage.s3_requests import GONE, SHA256, STAMP, Clients, Found, Requests, md5, metadata_of, sha256

SLOW = 3  # times the time of a look is what a write of a lock, and what it settles, may take


def open_store(output: str, run_name: str = "", limits: Limits = Limits(), variable: str = "OUTPUT") -> S3Store:
    """The store for `run_name` below `output`, `s3://bucket` or `s3://bucket/prefix`; without one for all of it.

    Nothing is sent yet.
    """
    bucket, prefix = split(output, variable)
    once = Limits(connect=min(3.0, limits.connect), read=min(5.0, limits.read))
    (client, brief), place = connect(bucket, variable, limits, once)
    return S3Store(Requests(Clients(client, brief), place, limits), f"{prefix}/{run_name}".strip("/"))


class S3Store:
    """Objects whose keys start with `root/`, all where `root` is empty."""

    def __init__(self, requests: Requests, root: str) -> None:
        self.requests = requests
        self.root = root

    @property
    def near(self) -> bool:
        return False

    @property
    def deletes(self) -> bool:
        return self.requests.clients.deletes

    def guarded(self, guard: Callable[[], object], patience: float) -> S3Store:
        limits = self.requests.limits
        limits = replace(limits, patience=patience, first=min(limits.first, patience))
        return S3Store(replace(self.requests, limits=limits, guard=guard), self.root)

    def keeps_versions(self) -> bool:
        """Not all stores know the question, and not every key may ask it."""
        ask = partial(self.requests.client.get_bucket_versioning, Bucket=self.requests.place.bucket)
        try:
            return bool(self.requests.ask("read the versioning of", "", ask).get("Status") == "Enabled")
        except Fault:
            return False

    def encrypted(self, how: Mapping[str, str]) -> S3Store:
        return S3Store(replace(self.requests, encryption=how), self.root)

    @property
    def uri(self) -> str:
        return f"s3://{self.requests.place.bucket}/{self.root}".rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        target, metadata = self._target(name), metadata_of(content)
        if len(content) > self.requests.limits.part:
            self._put_in_parts(name, target, content, metadata)
        else:
            self.requests.change("store", name, lambda: self._put_whole(target, content, metadata))
        s3_parts.abort_abandoned(self.requests)

    def get(self, name: str) -> bytes | None:
        found = self._read(name)
        return None if found is None else found.content

    def list(self, prefix: str = "") -> list[str]:
        names: list[str] = []
        start = self._start
        where, page = {"Bucket": self.requests.place.bucket, "Prefix": start + prefix}, dict[str, str]()
        while True:
            request = partial(self.requests.client.list_objects_v2, **where, **page)
            answer = self.requests.ask("list", prefix, request)
            found = [item for item in answer.get("Contents", ()) if item["Key"].startswith(start)]
            sizes = {item["Key"][len(start) :]: item.get("Size") for item in found if not item["Key"].endswith("/")}
            names += [name for name, size in sizes.items() if size != 0 or self._read(name) is not None]
            if not answer.get("IsTruncated"):
                return sorted(names)
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        """Where these credentials may not delete, it is emptied and marked as gone, and counts as not there."""
        target = self._target(name)
        try:
            if self.deletes:
                self.requests.change("delete", name, lambda: self.requests.client.delete_object(**target))
                return
        except NotThere:
            return
        except NotPermitted as denied:
            with suppress(NotPermitted):
                self._empty(name, target)
                event("store", f"{self.uri}: nothing may be deleted; what is not needed is emptied", level="WARNING")
                self.requests.clients.deletes = False
                return
            raise denied from None
        self._empty(name, target)

    def _empty(self, name: str, target: dict[str, str]) -> None:
        if self._read(name) is not None:
            gone = metadata_of(b"") | {GONE: "1"}
            self.requests.change("delete", name, lambda: self._put_whole(target, b"", gone))

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        found = self._read(name)
        return None if found is None else (found.content, found.etag)

    def put_if(self, name: str, content: bytes, version: str | None) -> bool:
        """As promised by ArtifactStore: by a conditional write and a second look, because stores differ. AWS and others
        decide such a write in one step; Swift answers 501 to one of the two conditions and lets several writers within
        the same instant pass the other; some stores ignore both.

        The second look comes `settle` seconds after the write was answered, and a write that was answered later than
        `settle` after this call began counts as lost. So of two that both found `version`, the one whose write came
        first finds the other's when it looks again: at most one wins, provided that the store gives back what was
        written last and that no write arrives after it was given up for lost.
        """
        started = time.monotonic()
        before = self._read(name)
        looked = time.monotonic() - started
        allowed = max(self.requests.limits.settle, SLOW * looked)  # a slow store gets more time for both
        if version != (before and before.etag):
            return False
        metadata = metadata_of(content)

        self._put_on_condition(name, content, metadata, version)
        if time.monotonic() - started > allowed or not self._is_stored(name, metadata):
            return False
        time.sleep(allowed)
        return self._is_stored(name, metadata)

    def put_known(self, name: str, content: bytes, version: str | None) -> str:
        metadata = metadata_of(content)
        decided, etag = self._put_on_condition(name, content, metadata, version)
        if decided and etag:
            return etag
        found = self._read(name)  # the store ignores conditions, or an answer was lost
        if found is None or found.stamp != metadata[STAMP]:
            raise TakenOver(
                f"another job has written {self.uri}/{name}.", "Leave this run to it, or choose another RUN_ID."
            )
        return found.etag

    def tidy(self) -> None:
        s3_parts.abort_all(self.requests, self.root, self._start)

    def _put_in_parts(self, name: str, target: dict[str, str], content: bytes, metadata: dict[str, str]) -> None:
        try:
            s3_parts.put_in_parts(self.requests, name, target, content, metadata)
        except NotThere:  # completed already, by a first sending whose answer was lost?
            if not self._is_stored(name, metadata):
                raise TemporaryFault(
                    f"The upload of {name} to S3 bucket {self.requests.place.bucket} was ended by somebody else.",
                    "Let no other job write to the same RUN_ID, then start the same command again.",
                ) from None

    def _is_stored(self, name: str, metadata: dict[str, str]) -> bool:
        """Whether what is there comes from the very write that had this metadata."""
        found = self._read(name)
        return found is not None and found.stamp == metadata[STAMP]

    def _put_on_condition(
        self, name: str, content: bytes, metadata: dict[str, str], version: str | None
    ) -> tuple[bool, str]:
        """Writes where what is there still has `version`. Returns whether the store decided so by itself, and the ETag;
        none where it refused. A store that knows no such condition is looked at before instead.
        """
        target = self._target(name)

        def write() -> tuple[bool, str]:
            gone = self._read(name, gone=True) if version is None and not self.deletes else None
            wanted = version or (gone and gone.etag)  # what stands for nothing is replaced like anything else
            condition = {"IfNoneMatch": "*"} if wanted is None else {"IfMatch": wanted}
            try:
                return True, self._put_whole(target, content, metadata, **condition)
            except boto_errors.ClientError as error:
                if code_of(error) in CONDITION_NOT_MET:
                    return True, ""  # lost; or else the answer to a first sending was, and this one found our own
                if code_of(error) not in CONDITION_UNKNOWN:
                    raise
            there = self._read(name)
            if (there and there.etag) != version:
                return False, ""
            self.requests.guard()
            return False, self._put_whole(target, content, metadata)

        return self.requests.change("store", name, write)

    @property
    def _start(self) -> str:
        """What every key starts with."""
        return f"{self.root}/" if self.root else ""

    def _target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.requests.place.bucket, "Key": self._start + checked(name)}

    def _read(self, name: str, gone: bool = False) -> Found | None:
        """What is there; with `gone` what stands for an object that is not."""
        target = self._target(name)

        def request() -> Found:
            answer = self.requests.client.get_object(**target)
            with answer["Body"] as raw:
                content = raw.read()
            metadata = answer.get("Metadata", {})
            expected = metadata.get(SHA256)  # not there where somebody else stored it
            if len(content) != answer["ContentLength"] or (expected and expected != sha256(content)):
                raise Damaged
            return Found(content, answer["ETag"], metadata.get(STAMP, ""), GONE in metadata)

        try:
            found = self.requests.ask("read", name, request)
        except NotThere:
            return None
        self.requests.clients.deletes &= not found.gone  # somebody was denied it before
        return found if found.gone == gone else None

    def _put_whole(self, target: dict[str, str], content: bytes, metadata: dict[str, str], **condition: str) -> str:
        """Sends it once. Returns the ETag."""
        body = {"Body": content, "ContentMD5": md5(content), "Metadata": metadata, **self.requests.encryption}
        answer = self.requests.client.put_object(**target, **body, **condition)
        return str(answer.get("ETag", ""))
