"""An S3-compatible bucket as a store. The only importer of boto3, which finds endpoint and credentials by itself.

What botocore leaves to its users, as seen with other stores than AWS's own:
- checksum headers that it adds since 1.36 are refused by several stores, so they are off behind a custom endpoint
  (https://github.com/boto/boto3/issues/4392); Content-MD5, which all know, guards every upload instead;
- it does not repeat a request whose body arrived altered, nor a download that was cut off or altered;
- HEAD answers have no body and cannot tell a missing bucket from a missing object, so none is sent.

Every message is made here, of bucket, operation and error code. Texts of botocore or of the server are never repeated:
they may hold addresses with passwords or signatures.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import boto3
import urllib3.exceptions
from botocore import exceptions as boto_errors
from botocore.config import Config
from botocore.parsers import ResponseParserError

from job.console.logs import event
from job.errors import Fault, TemporaryFault
from job.storage.names import checked

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How patient a store is; times in seconds.

    botocore sends a request up to `attempts` times. What fails then, and what it does not repeat, is tried again up to
    `rounds` times in all, after about `pause`, twice that, and so on; not after `patience`, so that a store which hangs
    costs attempts x `read` and no more. `settle`: see `S3Store.put_if`. `part` is in bytes.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 3
    rounds: int = 5
    pause: float = 1.0
    patience: float = 60.0
    settle: float = 2.0
    part: int = 16 << 20


BRIEF = Limits(connect=5.0, read=10.0, attempts=1, rounds=1)


@dataclass(frozen=True)
class Place:
    """A bucket as messages name it. `variable` is the setting that named it, `server` the host that was asked."""

    bucket: str
    variable: str
    server: str


class _Damaged(Exception):
    """A body that was cut off or altered on its way here."""


FOUND_DAMAGED = (
    _Damaged,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
    boto_errors.ResponseStreamingError,
    boto_errors.IncompleteReadError,
    OSError,
)
TROUBLE = (boto_errors.ClientError, boto_errors.BotoCoreError, *FOUND_DAMAGED, RecursionError)

ARRIVED_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "MissingContentLength"}
BUSY = {"OperationAborted", "ConditionalRequestConflict", "SlowDown", "RequestTimeout", "InternalError", "Throttling"}
CONDITION_NOT_MET = {"PreconditionFailed", "NoSuchKey", "412"}
CONDITION_UNKNOWN = {"NotImplemented", "InvalidArgument", "InvalidRequest", "501"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "InvalidToken"}
NO_ROOM = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
UNKNOWN_KEY = {"InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId"}

NOT_VERIFIED = ("CERTIFICATE_VERIFY_FAILED", "NO_CERTIFICATE_OR_CRL_FOUND", "[Errno 2]", "[Errno 13]")  # of a TLS error

STAMP = "job-write"  # metadata: which single write this content comes from
SHA256 = "job-sha256"  # metadata: of the whole content, as multipart ETags are no hash of it
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
CODE = re.compile(r"[A-Za-z0-9.]{1,64}")

CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE, or give the machine a role."
)
PERMISSIONS_REMEDY = (
    "Allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and, without which "
    "a store answers so even for an object that is not there, s3:ListBucket and s3:ListBucketMultipartUploads."
)


def open_store(output: str, run_name: str = "", limits: Limits = Limits(), variable: str = "OUTPUT") -> S3Store:
    """The store for `run_name` below `output`, `s3://bucket` or `s3://bucket/prefix`; without one for all of it.

    Nothing is sent yet.
    """
    bucket, prefix = split(output, variable)
    once = Limits(connect=min(3.0, limits.connect), read=min(5.0, limits.read), attempts=1)
    (client, brief), place = connect(bucket, variable, limits, once)
    return S3Store(client, brief, place, f"{prefix}/{run_name}".strip("/"), limits)


@contextmanager
def open_object(url: str, limits: Limits = Limits(read=30.0, attempts=2)) -> Iterator[Any]:
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
                    raise _Damaged
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


class S3Store:
    """Objects whose keys start with `root/`, all where `root` is empty.

    `brief` is a client that gives up soon, to clean up after a failure.
    """

    def __init__(self, client: Any, brief: Any, place: Place, root: str, limits: Limits) -> None:
        self.client = client
        self.brief = brief
        self.place = place
        self.root = root
        self.limits = limits
        self.abandoned: list[dict[str, str]] = []  # multipart uploads that could not be aborted when they failed

    @property
    def uri(self) -> str:
        return f"s3://{self.place.bucket}/{self.root}".rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        target = self._target(name)
        if len(content) > self.limits.part:
            self._put_in_parts(target, content, metadata_of(content))
        else:
            self._ask("store", name, lambda: self._put_whole(target, content, metadata_of(content)))
        abandoned, self.abandoned = self.abandoned, []
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
            self._ask("delete", name, lambda: self.client.delete_object(**target))
        except _NotThere:
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
        target = self._target(name)
        started = time.monotonic()
        before = self._read(name)
        if version != (None if before is None else before.etag):
            return False
        metadata = metadata_of(content)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

        def write() -> None:
            try:
                self._put_whole(target, content, metadata, **condition)
            except boto_errors.ClientError as error:
                if code_of(error) in CONDITION_NOT_MET:
                    return  # lost; or else the answer to a first sending was, and this one found our own content
                if code_of(error) not in CONDITION_UNKNOWN:
                    raise
                self._put_whole(target, content, metadata)

        def is_ours() -> bool:
            found = self._read(name)
            return found is not None and found.stamp == metadata[STAMP]

        self._ask("store", name, write)
        if time.monotonic() - started > self.limits.settle or not is_ours():
            return False
        time.sleep(self.limits.settle)
        return is_ours()

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

    def _ask(self, operation: str, name: str, request: Callable[[], T]) -> T:
        """What `request` returns, tried again as `Limits` says. Raises Fault; _NotThere for a 404 about an object."""
        started = time.monotonic()
        for number in range(1, self.limits.rounds + 1):
            try:
                return request()
            except TROUBLE as error:
                fault = explained(error, self.place, operation, name)
                late = time.monotonic() - started > self.limits.patience
                if not isinstance(fault, TemporaryFault) or late or number == self.limits.rounds:
                    raise fault from None
            event("retry", f"{fault.what} Trying again ({number} of {self.limits.rounds - 1}).", level="WARNING")
            time.sleep(self.limits.pause * 2 ** (number - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("Limits.rounds is at least 1")

    def _read(self, name: str) -> _Found | None:
        target = self._target(name)

        def request() -> _Found:
            answer = self.client.get_object(**target)
            with answer["Body"] as raw:
                content = raw.read()
            metadata = answer.get("Metadata", {})
            expected = metadata.get(SHA256)  # not there where somebody else stored it
            if len(content) != answer["ContentLength"] or (expected and expected != sha256(content)):
                raise _Damaged
            return _Found(content, answer["ETag"], metadata.get(STAMP, ""))

        try:
            return self._ask("read", name, request)
        except _NotThere:
            return None

    def _put_whole(self, target: dict[str, str], content: bytes, metadata: dict[str, str], **condition: str) -> None:
        self.client.put_object(**target, Body=content, ContentMD5=md5(content), Metadata=metadata, **condition)

    def _put_in_parts(self, target: dict[str, str], content: bytes, metadata: dict[str, str]) -> None:
        """Uploads parts in order. Whatever ends it early, a signal included, aborts the upload."""
        name = target["Key"][len(self._start) :]
        started = self._ask("store", name, lambda: self.client.create_multipart_upload(**target, Metadata=metadata))
        upload = {**target, "UploadId": started["UploadId"]}
        try:
            parts = []
            for number, start in enumerate(range(0, len(content), self.limits.part), 1):
                send = partial(self._put_part, upload, number, content[start : start + self.limits.part])
                parts.append({"PartNumber": number, "ETag": self._ask("store", name, send)})
            complete = partial(self.client.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
            self._ask("store", name, complete)
        except _NotThere:  # completed already, by a first sending whose answer was lost?
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
            self.brief.abort_multipart_upload(Bucket=self.place.bucket, **upload)
        except TROUBLE as error:
            if isinstance(explained(error, self.place, "abort", ""), TemporaryFault):
                self.abandoned.append(upload)


@dataclass(frozen=True)
class _Found:
    content: bytes
    etag: str
    stamp: str


class _NotThere(Fault):
    """The store knows the bucket, but not this object or upload."""


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
    except boto_errors.ProfileNotFound:
        raise Fault("AWS_PROFILE names a profile that no AWS file has.", "Correct it, or mount the file.") from None
    except (*TROUBLE, ValueError) as error:  # credentials are looked for at once, ValueError is about addresses
        raise explained(error, Place(bucket, variable, "the store"), "open it", "") from None
    return clients, Place(bucket, variable, urllib.parse.urlsplit(probe.meta.endpoint_url).netloc.rpartition("@")[2])


def configuration(limits: Limits, custom_endpoint: bool) -> Config:
    common = Config(
        connect_timeout=limits.connect,
        read_timeout=limits.read,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
        tcp_keepalive=True,
    )
    if not custom_endpoint:
        return common
    other_stores = Config(
        s3={"addressing_style": "path"},  # a bucket's own host name needs DNS entries that few stores have
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return common.merge(other_stores)


def metadata_of(content: bytes) -> dict[str, str]:
    return {STAMP: uuid.uuid4().hex, SHA256: sha256(content)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def code_of(error: boto_errors.ClientError) -> str:
    """The store's error code, or the HTTP status where it gave none."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if CODE.fullmatch(code) else str(status_of(error))


def status_of(error: boto_errors.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def explained(error: Exception, place: Place, operation: str, name: str) -> Fault:
    """The fault to tell for what botocore raised: TemporaryFault where trying again may help."""
    if isinstance(error, boto_errors.ClientError):
        return refused(error, place, operation, name)
    doing = f"S3 bucket {place.bucket}: cannot {operation} {name}".rstrip()
    again = f"Check that {place.server} is up and reachable from here, then start the same command again."
    match error:
        case FileNotFoundError() | PermissionError() | IsADirectoryError():
            return Fault(
                f"{doing}: {error.filename} cannot be read.",
                "An AWS variable (AWS_WEB_IDENTITY_TOKEN_FILE ...) or file names it: correct that, or mount the file.",
            )
        case boto_errors.NoCredentialsError():
            return Fault(f"{doing}: there are no AWS credentials.", CREDENTIALS_REMEDY)
        case boto_errors.PartialCredentialsError():
            return Fault(f"{doing}: the AWS credentials are incomplete.", CREDENTIALS_REMEDY)
        case boto_errors.SSOError() | boto_errors.LoginError() | boto_errors.NoAuthTokenError():
            return Fault(f"{doing}: the AWS login has expired or is missing.", "Log in again (aws sso login).")
        case boto_errors.CredentialRetrievalError() | boto_errors.MetadataRetrievalError():
            return TemporaryFault(
                f"{doing}: the AWS credentials could not be obtained.",
                "Check the role, token file or credential process that AWS_PROFILE or the machine names.",
            )
        case boto_errors.SSLError() if any(sign in str(error) for sign in NOT_VERIFIED):
            return Fault(
                f"{doing}: the TLS certificate of {place.server} cannot be verified.",
                "Name the file of its certificate authority, in PEM format and readable, in AWS_CA_BUNDLE.",
            )
        case boto_errors.ParamValidationError():
            return Fault(f"{doing}: not a valid name.", f"Choose another bucket or prefix in {place.variable}.")
        case boto_errors.ReadTimeoutError() | boto_errors.ConnectTimeoutError() | urllib3.exceptions.TimeoutError():
            return TemporaryFault(f"{doing}: {place.server} did not answer in time.", again)
        case boto_errors.ProxyConnectionError():
            return TemporaryFault(f"{doing}: the proxy cannot be reached.", "Check HTTPS_PROXY, HTTP_PROXY, NO_PROXY.")
        case boto_errors.EndpointConnectionError():
            return TemporaryFault(f"{doing}: {place.server} cannot be reached.", again)
        case boto_errors.HTTPClientError() | boto_errors.ConnectionError():
            return TemporaryFault(f"{doing}: {place.server} broke the connection off.", again)
        case RecursionError():  # how botocore ends where the question for the bucket's region is answered 301 as well
            return Fault(
                f"{doing}: {place.server} redirects every request.",
                "Correct AWS_ENDPOINT_URL_S3 (perhaps https:// in place of http://) or AWS_REGION.",
            )
        case _ if isinstance(error, FOUND_DAMAGED):
            return TemporaryFault(f"{doing}: what {place.server} sent arrived cut off or altered.", again)
    return Fault(
        f"{doing}: the AWS settings are unusable ({type(error).__name__}).",
        "Check AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and the files in ~/.aws.",
    )


def refused(error: boto_errors.ClientError, place: Place, operation: str, name: str) -> Fault:
    """The fault for an answer of the store, by its error code first and its HTTP status second."""
    code, status = code_of(error), status_of(error)
    doing = f"S3 bucket {place.bucket}: cannot {operation} {name}".rstrip()
    said = f"({code})" if code == str(status) else f"({code}, {status})"
    if error.operation_name.startswith(("AssumeRole", "GetRole", "GetSession", "CreateToken")):
        doing, status = f"{doing}: {error.operation_name} failed", max(status, 400)
    match code:
        case "NoSuchBucket":
            return Fault(
                f"S3 bucket {place.bucket} does not exist on {place.server}; cannot {operation} {name}".rstrip() + ".",
                f"Create it, or name another one in {place.variable}; AWS_ENDPOINT_URL_S3 says where it is looked for.",
            )
        case "NoSuchKey" | "NoSuchUpload":
            return _NotThere(f"{doing}: not there {said}.")
        case "SignatureDoesNotMatch":
            return Fault(  # some stores say so for an unknown key as well
                f"{doing}: the secret key does not belong to the access key {said}.",
                "Check AWS_SECRET_ACCESS_KEY and AWS_ACCESS_KEY_ID, or the profile or role that gives them.",
            )
        case "RequestTimeTooSkewed":
            return Fault(f"{doing}: this machine's clock is wrong {said}.", "Set the clock.")
        case "InvalidBucketName":
            return Fault(f"{doing}: not a bucket name {said}.", f"Correct {place.variable}.")
    if code in UNKNOWN_KEY:
        return Fault(f"{doing}: the access key is unknown to {place.server} {said}.", "Check AWS_ACCESS_KEY_ID.")
    if code in EXPIRED:
        return Fault(f"{doing}: the credentials have expired {said}.", "Renew them (AWS_SESSION_TOKEN, role, login).")
    if code in OTHER_REGION:
        return Fault(f"{doing}: the bucket is in another region {said}.", "Name it in AWS_REGION.")
    if code in NO_ROOM:
        return TemporaryFault(f"{doing}: the store has no room left {said}.", "Make room or raise the quota there.")
    if code in ARRIVED_DAMAGED:
        return TemporaryFault(f"{doing}: it arrived altered {said}.", "Check the network, then start the same command.")
    if code in BUSY or (status >= 500 and status != 501) or status in (408, 409, 425, 429):
        return TemporaryFault(f"{doing}: {place.server} is busy or failing {said}.", "Start the same command later.")
    if status in (401, 403):
        return Fault(f"{doing}: not permitted {said}.", PERMISSIONS_REMEDY)
    return Fault(
        f"{doing}: {place.server} refused it {said}.",
        f"Check that {place.server} speaks S3, and {place.variable} and the AWS variables with it.",
    )
