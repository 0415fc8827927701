"""Uploads in several parts to an S3 store, and what becomes of those that were never completed."""

from __future__ import annotations

from functools import partial

from job.console.logs import event
from job.errors import Fault, TemporaryFault
from job.storage.s3_faults import TROUBLE, NotThere, explained
from job.storage.s3_requests import Requests, md5


def put_in_parts(
    requests: Requests, name: str, target: dict[str, str], content: bytes, metadata: dict[str, str]
) -> None:
    """Uploads parts in order. Whatever ends it early, a signal included, aborts the upload.

    Raises Fault as `Requests.ask` does; NotThere where the upload is not there any more: somebody has ended it, or an
    answer was lost and it is completed.
    """
    started = requests.change(
        "store",
        name,
        lambda: requests.client.create_multipart_upload(**target, Metadata=metadata, **requests.encryption),
    )
    upload = {**target, "UploadId": started["UploadId"]}
    try:
        parts = []
        for number, start in enumerate(range(0, len(content), requests.limits.part), 1):
            send = partial(put_part, requests, upload, number, content[start : start + requests.limits.part])
            parts.append({"PartNumber": number, "ETag": requests.change("store", name, send)})
        complete = partial(requests.client.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
        requests.change("store", name, complete)
    except NotThere:
        raise
    except BaseException:
        abort(requests, {"Key": target["Key"], "UploadId": upload["UploadId"]})
        raise


def put_part(requests: Requests, upload: dict[str, str], number: int, part: bytes) -> str:
    """Sends one part. Returns its ETag."""
    answer = requests.client.upload_part(**upload, PartNumber=number, Body=part, ContentMD5=md5(part))
    return str(answer["ETag"])


def abort(requests: Requests, upload: dict[str, str]) -> None:
    """Aborts a multipart upload, or keeps it in mind where the store does not answer."""
    try:
        requests.clients.brief.abort_multipart_upload(Bucket=requests.place.bucket, **upload)
    except TROUBLE as error:
        if isinstance(explained(error, requests.place, "abort", ""), TemporaryFault):
            requests.clients.abandoned.append(upload)


def abort_abandoned(requests: Requests) -> None:
    """Once more for those that could not be aborted when they failed: the store answers again."""
    abandoned, requests.clients.abandoned = requests.clients.abandoned, []
    for upload in abandoned:
        abort(requests, upload)


def abort_all(requests: Requests, root: str, start: str) -> None:
    """Aborts what is unfinished below `start`. Not every store lists uploads by the start of their keys (MinIO wants
    the whole one), and not every key may: those are left to the store's own clean-up. `root` is for messages.
    """
    page: dict[str, str] = {}
    while True:
        request = partial(requests.client.list_multipart_uploads, Bucket=requests.place.bucket, Prefix=start, **page)
        try:
            answer = requests.ask("list the multipart uploads of", root, request)
        except TemporaryFault:
            raise
        except Fault as fault:
            event("tidy", f"{fault.what} Unfinished uploads, if any, stay there.", level="WARNING")
            return
        for upload in answer.get("Uploads", ()):
            if upload["Key"].startswith(start):
                requests.guard()
                abort(requests, {"Key": upload["Key"], "UploadId": upload["UploadId"]})
        if not answer.get("IsTruncated"):
            return
        page = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
