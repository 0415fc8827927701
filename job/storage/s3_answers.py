"""Whether what answers is an S3 store at all: a web console's port, a proxy's page and a login answer as well."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

OPERATIONS = {  # → the root of the XML in its answer; None for those that answer in headers alone
    "GetObject": None,
    "PutObject": None,
    "UploadPart": None,
    "DeleteObject": None,
    "AbortMultipartUpload": None,
    "ListObjectsV2": "ListBucketResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
}
TAGGED = {"GetObject", "PutObject", "UploadPart"}  # whose answer always has an ETag
PASSING = {408, 409, 425, 429}  # of what is refused, what may be otherwise soon
OTHERS = ("text/html", "text/plain", "application/json")
ROOT = re.compile(rb"<([A-Za-z][\w.-]*:)?([A-Za-z][\w.-]*)[\s/>]")


class NotS3(Exception):
    """An answer that no S3 store gives; `status` is its HTTP status, `found` what it is."""

    def __init__(self, status: int, found: str) -> None:
        super().__init__(f"{found}, {status}")
        self.status = status
        self.found = found


def watch(client: Any) -> None:
    """Has a client of botocore's raise NotS3 where an answer is none of S3's.

    botocore itself makes a busy store (500) of a page of HTML, and an empty list of another XML.
    """
    for operation in OPERATIONS:
        client.meta.events.register(f"response-received.s3.{operation}", partial(look, operation))


def look(operation: str, response_dict: Mapping[str, Any] | None, **_: Any) -> None:
    """Raises NotS3. Failures of a server or a proxy (5xx) say nothing of who stands behind it, and may pass."""
    if response_dict is None:  # there was none
        return
    status, headers, body = (response_dict[name] for name in ("status_code", "headers", "body"))
    if status >= 500 or status in PASSING or 300 <= status < 400:
        return
    if status < 300 and operation in TAGGED:
        if not headers.get("etag"):
            raise NotS3(status, "no ETag")
        return  # and an object may be a page of HTML
    kind = str(headers.get("content-type", "")).split(";")[0].strip().lower()
    if kind in OTHERS and body:
        raise NotS3(status, kind)
    root = ROOT.search(body[:4096])
    wanted, found = OPERATIONS[operation], root[2].decode() if root else "nothing"
    if status < 300 and found not in (wanted or "nothing", "Error"):
        raise NotS3(status, f"{found[:40]} for {wanted}" if wanted else found[:40])
