"""One object of any bucket, opened for reading like a download from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as boto_errors

from job.errors import Fault, TemporaryFault
from job.storage.s3_client import Limits, connect, split
from job.storage.s3_faults import TROUBLE, Damaged, Place, code_of, explained

OTHER_CONTENT = {"PreconditionFailed", "412", "InvalidRange", "416"}  # the object is not the one that was begun
PATIENT = Limits(read=30.0)


@contextmanager
def open_object(url: str, offset: int = 0, validator: str = "", limits: Limits = PATIENT) -> Iterator[Any]:
    """As `job.storage.open_object` promises. Whoever downloads repeats, so this does not."""
    with as_os_error():
        bucket, key = split(url, "DATA_URL")
        (client,), place = connect(bucket, "DATA_URL", limits)
        rest = {"Range": f"bytes={offset}-", "IfMatch": validator} if offset and validator else {}
        try:
            answer = asked(client, {"Bucket": bucket, "Key": key}, rest)
        except boto_errors.ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise FileNotFoundError(f"bucket {bucket} has no object {key}") from None
            raise explained(error, place, "read", key) from None
        except TROUBLE as error:
            raise explained(error, place, "read", key) from None
    with answer["Body"] as raw:
        begins = offset if answer.get("ContentRange", "").startswith(f"bytes {offset}-") else 0
        yield Reading(raw, answer.get("ContentLength"), place, key, begins, answer.get("ETag", ""))


def asked(client: Any, what: dict[str, str], rest: dict[str, str]) -> Any:
    """The answer for the rest of an object, or for all of it where it has become another one."""
    try:
        return client.get_object(**what, **rest)
    except boto_errors.ClientError as error:
        if not rest or code_of(error) not in OTHER_CONTENT:
            raise
        return client.get_object(**what)


@dataclass
class Reading:
    """A response of urllib3's, telling its errors as `open_object` promises. It begins at the object's byte `offset`;
    `validator` is the object's ETag.
    """

    raw: Any
    length: int | None
    place: Place
    key: str
    offset: int = 0
    validator: str = ""
    received: int = 0

    def read1(self, size: int, /) -> bytes:
        with as_os_error():
            try:
                content: bytes = self.raw.read1(size)
                self.received += len(content)
                if not content and self.length is not None and self.received < self.length:
                    raise Damaged
            except TROUBLE as error:
                raise explained(error, self.place, "read", self.key) from None
        return content


@contextmanager
def as_os_error() -> Iterator[None]:
    try:
        yield
    except TemporaryFault as fault:
        raise ConnectionError(fault.what.rstrip(".")) from None
    except Fault as fault:
        raise PermissionError(fault.what.rstrip(".")) from None
