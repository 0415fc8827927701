"""botocore's clients as the AWS variables and files describe them, and what botocore leaves to its users."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

import boto3
from botocore import exceptions as boto_errors
from botocore.config import Config

from job.errors import Fault
from job.storage import s3_answers
from job.storage.s3_faults import TROUBLE, Place, explained

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True)
class Limits:
    """How patient a store is; times in seconds.

    `read` is for an answer to begin, or to go on. A request that fails in a way that may pass is sent again after about
    `pause`, twice that and so on up to PAUSE_MOST, until `patience` is over: `first` before anything has ever answered,
    as the address may be wrong. botocore itself repeats nothing, since every repeat must be allowed anew. `settle`: see
    `S3Store.put_if`. `part` is in bytes. `connections`: how many are kept open for requests at the same time.
    """

    connect: float = 10.0
    read: float = 15.0
    pause: float = 1.0
    first: float = 20.0
    patience: float = 60.0
    settle: float = 2.0
    part: int = 16 << 20
    connections: int = 10


BRIEF = Limits(connect=5.0, read=10.0, first=0.0, patience=0.0)
PAUSE_MOST = 10.0


def split(url: str, variable: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`, without slashes at the ends. Raises Fault, which does not repeat `url`:
    somebody may have written a password into it.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise Fault(
            f"{variable}: no bucket can be called what stands after s3://.",
            "Write s3://bucket/prefix; endpoint and credentials go into the AWS variables (AWS_ENDPOINT_URL_S3 ...).",
        )
    return bucket, key.strip("/")


def connect(bucket: str, variable: str, *limits: Limits) -> tuple[list[Any], Place]:
    """A client for each of `limits`, as the AWS variables and files describe it. Raises Fault if they are unusable."""
    try:
        session: Any = boto3.session.Session()
        probe = session.client("s3")
        official = session.client("s3", config=Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]
        custom = probe.meta.endpoint_url != official.meta.endpoint_url
        clients = [session.client("s3", config=configuration(each, custom)) for each in limits]
        for client in clients:
            s3_answers.watch(client)
    except boto_errors.ProfileNotFound:
        raise Fault(
            "AWS_PROFILE or AWS_DEFAULT_PROFILE names a profile that no AWS file has.",
            "Correct it, or mount the file.",
        ) from None
    except (*TROUBLE, ValueError) as error:  # credentials are looked for at once, ValueError is about addresses
        raise explained(error, Place(bucket, variable, "the store"), "open it", "") from None
    return clients, Place(bucket, variable, urllib.parse.urlsplit(probe.meta.endpoint_url).netloc.rpartition("@")[2])


def configuration(limits: Limits, custom_endpoint: bool) -> Config:
    common = Config(
        connect_timeout=limits.connect,
        read_timeout=limits.read,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,
        max_pool_connections=limits.connections,
    )
    if not custom_endpoint:
        return common
    other_stores = Config(
        s3={"addressing_style": "path"},  # a bucket's own host name needs DNS entries that few stores have
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return common.merge(other_stores)
