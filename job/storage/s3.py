"""An S3-compatible bucket as a store. The only importer of boto3, which finds endpoint and credentials by itself.

What botocore leaves to its users, as seen with other stores than AWS's own:
- checksum headers that it adds since 1.36 are refused by several stores, so they are off behind a custom endpoint
  (https://github.com/boto/boto3/issues/4392); Content-MD5, which all know, guards every upload instead;
- it does not repeat a request whose body arrived altered, nor a download that was cut off or altered; what it would
  repeat, it would without asking whether this job may still write: so all repeats are made here;
- HEAD answers have no body and cannot tell a missing bucket from a missing object, so none is sent.
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from botocore import exceptions as boto_errors

from job.console.logs import event
from job.errors import Fault, NoRoom, TakenOver, TemporaryFault
from job.storage.files import unguarded
from job.storage.names import checked
from job.storage.s3_client import BRIEF as BRIEF
from job.storage.s3_client import PAUSE_MOST, connect, split
from job.storage.s3_client import Limits as Limits
from job.storage.s3_faults import (
    CONDITION_NOT_MET,
    CONDITION_UNKNOWN,
    TROUBLE,
    Damaged,
    NotThere,
    Place,
    code_of,
    explained,
)

T = TypeVar("T")

STAMP = "job-write"  # metadata: which single write this content comes from
SLOW = 3  # times the time of a look is what a write of a lock, and what it settles, may take
SHA256 = "job-sha256"  # metadata: of the whole content, as multipart ETags are no hash of it


def open_store(output: str, run_name: str = "", limits: Limits = Limits(), variable: str = "OUTPUT") -> S3Store:
    """The store for `run_name` below `output`, `s3://bucket` or `s3://bucket/prefix`; without one for all of it.

    Nothing is sent yet.
    """
    bucket, prefix = split(output, variable)
    once = Limits(connect=min(3.0, limits.connect), read=min(5.0, limits.read))
    (client, brief), place = connect(bucket, variable, limits, once)
    return S3Store(Clients(client, brief), place, f"{prefix}/{run_name}".strip("/"), limits)


@dataclass
class Clients:
    """What one store asks with. `brief` gives up soon, to clean up after a failure. `answered`: whether the server has
    ever done so. `abandoned` holds multipart uploads that could not be aborted when they failed.
    """

    usual: Any
    brief: Any
    answered: bool = False
    abandoned: list[dict[str, str]] = field(default_factory=list)


class S3Store:
    """Objects whose keys start with `root/`, all where `root` is empty. `guard`: see `ArtifactStore.guarded`."""

    def __init__(
        self, clients: Clients, place: Place, root: str, limits: Limits, guard: Callable[[], object] = unguarded
    ) -> None:
        self.clients = clients
        self.place = place
        self.root = root
        self.limits = limits
        self.guard = guard

    @property
    def client(self) -> Any:
        return self.clients.usual

    @property
    def near(self) -> bool:
        return False

    def guarded(self, guard: Callable[[], object], patience: float) -> S3Store:
        limits = replace(self.limits, patience=patience, first=min(self.limits.first, patience))
        return S3Store(self.clients, self.place, self.root, limits, guard)

    @property
    def uri(self) -> str:
        return f"s3://{self.place.bucket}/{self.root}".rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        target = self._target(name)
        if len(content) > self.limits.part:
            self._put_in_parts(target, content, metadata_of(content))
        else:
            self._change("store", name, lambda: self._put_whole(target, content, metadata_of(content)))
        abandoned, self.clients.abandoned = self.clients.abandoned, []
        for upload in abandoned:  # the store answers again
            self._abort(upload)

    def get(self, name: str) -> bytes | None:
        found = self._read(name)
        return None if found is None else found.content

    def list(self, prefix: str = "") -> list[str]:
        names: list[str] = []
        start = self._start
        page: dict[str, str] = {}
        while True:
            request = partial(self.client.list_objects_v2, Bucket=self.place.bucket, Prefix=start + prefix, **page)
            answer = self._ask("list", prefix, request)
            keys = (item["Key"] for item in answer.get("Contents", ()))
            names += [key[len(start) :] for key in keys if key.startswith(start) and not key.endswith("/")]
            if not answer.get("IsTruncated"):
                return sorted(names)
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        target = self._target(name)
        try:
            self._change("delete", name, lambda: self.client.delete_object(**target))
        except NotThere:
            return

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
        allowed = max(self.limits.settle, SLOW * (time.monotonic() - started))  # a slow store gets more time for both
        if version != (None if before is None else before.etag):
            return False
        metadata = metadata_of(content)

        def is_ours() -> bool:
            found = self._read(name)
            return found is not None and found.stamp == metadata[STAMP]

        self._put_on_condition(name, content, metadata, version)
        if time.monotonic() - started > allowed or not is_ours():
            return False
        time.sleep(allowed)
        return is_ours()

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

    def _put_on_condition(
        self, name: str, content: bytes, metadata: dict[str, str], version: str | None
    ) -> tuple[bool, str]:
        """Writes where what is there still has `version`. Returns whether the store decided so by itself, and the ETag;
        none where it refused. A store that knows no such condition is looked at before instead.
        """
        target = self._target(name)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

        def write() -> tuple[bool, str]:
            try:
                return True, self._put_whole(target, content, metadata, **condition)
            except boto_errors.ClientError as error:
                if code_of(error) in CONDITION_NOT_MET:
                    return True, ""  # lost; or else the answer to a first sending was, and this one found our own
                if code_of(error) not in CONDITION_UNKNOWN:
                    raise
            there = self._read(name)
            if (None if there is None else there.etag) != version:
                return False, ""
            self.guard()
            return False, self._put_whole(target, content, metadata)

        return self._change("store", name, write)

    def tidy(self) -> None:
        """Aborts multipart uploads below `root`. Not every store lists them by the start of their keys (MinIO wants the
        whole one), and not every key may: those are left to the store's own clean-up.
        """
        start = self._start
        page: dict[str, str] = {}
        while True:
            request = partial(self.client.list_multipart_uploads, Bucket=self.place.bucket, Prefix=start, **page)
            try:
                answer = self._ask("list the multipart uploads of", self.root, request)
            except TemporaryFault:
                raise
            except Fault as fault:
                event("tidy", f"{fault.what} Unfinished uploads, if any, stay there.", level="WARNING")
                return
            for upload in answer.get("Uploads", ()):
                if upload["Key"].startswith(start):
                    self.guard()
                    self._abort({"Key": upload["Key"], "UploadId": upload["UploadId"]})
            if not answer.get("IsTruncated"):
                return
            page = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    @property
    def _start(self) -> str:
        """What every key starts with."""
        return f"{self.root}/" if self.root else ""

    def _target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self._start + checked(name)}

    def _change(self, operation: str, name: str, request: Callable[[], T]) -> T:
        """`_ask` for what changes something: each sending has to pass the guard first."""

        def allowed() -> T:
            self.guard()
            return request()

        return self._ask(operation, name, allowed)

    def _ask(self, operation: str, name: str, request: Callable[[], T]) -> T:
        """What `request` returns, tried again as `Limits` says. Raises Fault; NotThere for a 404 about an object."""
        started, pause = time.monotonic(), self.limits.pause
        while True:
            try:
                result = request()
                self.clients.answered = True
                return result
            except TROUBLE as error:
                self.clients.answered |= isinstance(error, boto_errors.ClientError)
                fault = explained(error, self.place, operation, name)
            patience = self.limits.patience if self.clients.answered else self.limits.first
            pause = min(PAUSE_MOST, pause) * random.uniform(0.5, 1.5)
            left = started + patience - time.monotonic()
            if not isinstance(fault, TemporaryFault) or isinstance(fault, NoRoom) or pause > left:
                raise fault from None
            event("retry", f"{fault.what} Trying again, for {left:.0f} s at most.", level="WARNING")
            time.sleep(pause)
            pause *= 2

    def _read(self, name: str) -> _Found | None:
        target = self._target(name)

        def request() -> _Found:
            answer = self.client.get_object(**target)
            with answer["Body"] as raw:
                content = raw.read()
            metadata = answer.get("Metadata", {})
            expected = metadata.get(SHA256)  # not there where somebody else stored it
            if len(content) != answer["ContentLength"] or (expected and expected != sha256(content)):
                raise Damaged
            return _Found(content, answer["ETag"], metadata.get(STAMP, ""))

        try:
            return self._ask("read", name, request)
        except NotThere:
            return None

    def _put_whole(self, target: dict[str, str], content: bytes, metadata: dict[str, str], **condition: str) -> str:
        """Sends it once. Returns the ETag."""
        answer = self.client.put_object(**target, Body=content, ContentMD5=md5(content), Metadata=metadata, **condition)
        return str(answer.get("ETag", ""))

    def _put_in_parts(self, target: dict[str, str], content: bytes, metadata: dict[str, str]) -> None:
        """Uploads parts in order. Whatever ends it early, a signal included, aborts the upload."""
        name = target["Key"][len(self._start) :]
        started = self._change("store", name, lambda: self.client.create_multipart_upload(**target, Metadata=metadata))
        upload = {**target, "UploadId": started["UploadId"]}
        try:
            parts = []
            for number, start in enumerate(range(0, len(content), self.limits.part), 1):
                send = partial(self._put_part, upload, number, content[start : start + self.limits.part])
                parts.append({"PartNumber": number, "ETag": self._change("store", name, send)})
            complete = partial(self.client.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
            self._change("store", name, complete)
        except NotThere:  # completed already, by a first sending whose answer was lost?
            found = self._read(name)
            if found is None or found.stamp != metadata[STAMP]:
                raise TemporaryFault(
                    f"The upload of {name} to S3 bucket {self.place.bucket} was ended by somebody else.",
                    "Let no other job write to the same RUN_ID, then start the same command again.",
                ) from None
        except BaseException:
            self._abort({"Key": target["Key"], "UploadId": upload["UploadId"]})
            raise

    def _put_part(self, upload: dict[str, str], number: int, part: bytes) -> str:
        answer = self.client.upload_part(**upload, PartNumber=number, Body=part, ContentMD5=md5(part))
        return str(answer["ETag"])

    def _abort(self, upload: dict[str, str]) -> None:
        """Aborts a multipart upload, or keeps it in mind where the store does not answer."""
        try:
            self.clients.brief.abort_multipart_upload(Bucket=self.place.bucket, **upload)
        except TROUBLE as error:
            if isinstance(explained(error, self.place, "abort", ""), TemporaryFault):
                self.clients.abandoned.append(upload)


@dataclass(frozen=True)
class _Found:
    content: bytes
    etag: str
    stamp: str


def metadata_of(content: bytes) -> dict[str, str]:
    return {STAMP: uuid.uuid4().hex, SHA256: sha256(content)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
