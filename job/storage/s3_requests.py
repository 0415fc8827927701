"""Requests to an S3 store: which are repeated and for how long, who may send them, and what a body carries along.

What botocore leaves to its users: it does not repeat a request whose body arrived altered, nor a download that was cut
off or altered; what it would repeat, it would without asking whether this job may still write. So all repeats are here.
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore import exceptions as boto_errors

from job.console.logs import event
from job.errors import NoRoom, TemporaryFault
from job.storage.files import unguarded
from job.storage.s3_client import PAUSE_MOST, Limits
from job.storage.s3_faults import TROUBLE, Place, explained

T = TypeVar("T")

STAMP = "job-write"  # metadata: which single write this content comes from
GONE = "job-gone"  # metadata: stands for an object that is not there, where it may not be deleted
SHA256 = "job-sha256"  # metadata: of the whole content, as multipart ETags are no hash of it


@dataclass
class Clients:
    """What one store asks with. `brief` gives up soon, to clean up after a failure. `answered`: whether the server has
    ever done so. `abandoned` holds multipart uploads that could not be aborted when they failed. `deletes` is False
    once deleting was denied.
    """

    usual: Any
    brief: Any
    answered: bool = False
    deletes: bool = True
    abandoned: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Requests:
    """How requests about one bucket are sent. `guard`: see `ArtifactStore.guarded`. `encryption`: what is asked
    for with all that is written, as parameters of PutObject.
    """

    clients: Clients
    place: Place
    limits: Limits
    guard: Callable[[], object] = unguarded
    encryption: Mapping[str, str] = field(default_factory=dict)

    @property
    def client(self) -> Any:
        return self.clients.usual

    def change(self, operation: str, name: str, request: Callable[[], T]) -> T:
        """`ask` for what changes something: each sending has to pass the guard first."""

        def allowed() -> T:
            self.guard()
            return request()

        return self.ask(operation, name, allowed)

    def ask(self, operation: str, name: str, request: Callable[[], T]) -> T:
        """What `request` returns, tried again as `Limits` says. Raises Fault; NotThere for a 404 about an object.

        Where there is any patience it is tried twice at least: a process that was frozen finds its time over, and an
        answer that says nothing.
        """
        started, pause, repeated = time.monotonic(), self.limits.pause, False
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
            over = pause > left and (repeated or not patience)
            if not isinstance(fault, TemporaryFault) or isinstance(fault, NoRoom) or over:
                raise fault from None
            event("retry", f"{fault.what} Trying again, for {max(left, 0):.0f} s at most.", level="WARNING")
            time.sleep(pause)
            pause, repeated = 2 * pause, True


@dataclass(frozen=True)
class Found:
    """An object as it was read: which single write it comes from, and whether it only stands for one that is gone."""

    content: bytes
    etag: str
    stamp: str
    gone: bool


def metadata_of(content: bytes) -> dict[str, str]:
    return {STAMP: uuid.uuid4().hex, SHA256: sha256(content)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
