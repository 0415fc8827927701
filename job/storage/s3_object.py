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


@contextmanager
def open_object(url: str, limits: Limits = Limits(read=30.0)) -> Iterator[Any]:
    """As `job.storage.open_object` promises. Whoever downloads repeats, so this does not."""
    with as_os_error():
        bucket, key = split(url, "DATA_URL")
        (client,), place = connect(bucket, "DATA_URL", limits)
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
        except boto_errors.ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise FileNotFoundError(f"bucket {bucket} has no object {key}") from None
            raise explained(error, place, "read", key) from None
        except TROUBLE as error:
            raise explained(error, place, "read", key) from None
    with answer["Body"] as raw:
        yield Reading(raw, answer.get("ContentLength"), place, key)


@dataclass
class Reading:
    """A response of urllib3's, telling its errors as `open_object` promises."""

    raw: Any
    length: int | None
    place: Place
    key: str
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
