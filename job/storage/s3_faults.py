"""What the refusals and failures of an S3 store mean for a person.

Every message is made here, of bucket, operation and error code. Texts of botocore or of the server are never repeated:
they may hold addresses with passwords or signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import urllib3.exceptions
from botocore import exceptions as boto_errors
from botocore.parsers import ResponseParserError

from job.errors import Fault, NoRoom, TemporaryFault
from job.storage import s3_metadata
from job.storage.s3_answers import NotS3


@dataclass(frozen=True)
class Place:
    """A bucket as messages name it. `variable` is the setting that named it, `server` the host that was asked."""

    bucket: str
    variable: str
    server: str


class Damaged(Exception):
    """A body that was cut off or altered on its way here."""


FOUND_DAMAGED = (
    Damaged,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
    boto_errors.ResponseStreamingError,
    boto_errors.IncompleteReadError,
    OSError,
)
TROUBLE = (boto_errors.ClientError, boto_errors.BotoCoreError, *FOUND_DAMAGED, RecursionError, NotS3)

ARRIVED_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "MissingContentLength"}
BUSY = {"OperationAborted", "ConditionalRequestConflict", "SlowDown", "RequestTimeout", "InternalError", "Throttling"}
CONDITION_NOT_MET = {"PreconditionFailed", "NoSuchKey", "412"}
CONDITION_UNKNOWN = {"NotImplemented", "InvalidArgument", "InvalidRequest", "501"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
NO_ROOM = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
UNKNOWN_KEY = {"InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId"}
KEYS = UNKNOWN_KEY | EXPIRED | {"SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidToken"}

NOT_VERIFIED = ("CERTIFICATE_VERIFY_FAILED", "NO_CERTIFICATE_OR_CRL_FOUND", "[Errno 2]", "[Errno 13]")  # of a TLS error

CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE, or give the machine a role."
)
PERMISSIONS_REMEDY = (
    "Allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and, without which "
    "a store answers so even for an object that is not there, s3:ListBucket and s3:ListBucketMultipartUploads."
)

CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class NotThere(Fault):
    """The store knows the bucket, but not this object or upload."""


class NotPermitted(Fault):
    """These credentials may not do that."""


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
    known = of_settings(error, place, doing) or of_network(error, place, doing)
    return known or Fault(
        f"{doing}: the AWS settings are unusable ({type(error).__name__}).",
        "Check AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and the files in ~/.aws.",
    )


def of_settings(error: Exception, place: Place, doing: str) -> Fault | None:
    """Credentials, certificates and names."""
    match error:
        case FileNotFoundError() | PermissionError() | IsADirectoryError():
            return Fault(
                f"{doing}: {error.filename} cannot be read.",
                "An AWS variable (AWS_WEB_IDENTITY_TOKEN_FILE ...) or file names it: correct that, or mount the file.",
            )
        case boto_errors.NoCredentialsError() if s3_metadata.is_silent():
            return TemporaryFault(
                f"{doing}: the machine's metadata service, which has its role's credentials, does not answer in time.",
                "Raise AWS_METADATA_SERVICE_TIMEOUT and AWS_METADATA_SERVICE_NUM_ATTEMPTS; in a container set "
                "the instance's metadata hop limit to 2, or run it with --network host.",
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
                "Name the PEM file of its certificate authority, readable, in SSL_CERT_FILE or AWS_CA_BUNDLE.",
            )
        case boto_errors.ParamValidationError():
            return Fault(f"{doing}: not a valid name.", f"Choose another bucket or prefix in {place.variable}.")
    return None


def of_network(error: Exception, place: Place, doing: str) -> Fault | None:
    """What lies between here and the store, and what it makes of an answer."""
    again = f"Check that {place.server} is up and reachable from here, then start the same command again."
    match error:
        case boto_errors.ReadTimeoutError() | boto_errors.ConnectTimeoutError() | urllib3.exceptions.TimeoutError():
            return TemporaryFault(f"{doing}: {place.server} did not answer in time.", again)
        case boto_errors.ProxyConnectionError():
            return TemporaryFault(f"{doing}: the proxy cannot be reached.", "Check HTTPS_PROXY, HTTP_PROXY, NO_PROXY.")
        case boto_errors.EndpointConnectionError():
            return TemporaryFault(f"{doing}: {place.server} cannot be reached.", again)
        case boto_errors.HTTPClientError() | boto_errors.ConnectionError():
            return TemporaryFault(f"{doing}: {place.server} broke the connection off.", again)
        case NotS3():
            return Fault(
                f"{doing}: {place.server} answers, but not as S3 does ({error}).",
                "Correct AWS_ENDPOINT_URL_S3: a web console, a proxy or a login may answer there; MinIO's console has "
                "port 9001, its S3 9000.",
            )
        case RecursionError():  # how botocore ends where the question for the bucket's region is answered 301 as well
            return Fault(
                f"{doing}: {place.server} redirects every request.",
                "Correct AWS_ENDPOINT_URL_S3 (perhaps https:// in place of http://) or AWS_REGION.",
            )
        case _ if isinstance(error, FOUND_DAMAGED):
            return TemporaryFault(f"{doing}: what {place.server} sent arrived cut off or altered.", again)
    return None


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
            return NotThere(f"{doing}: not there {said}.")
        case "InvalidBucketName":
            return Fault(f"{doing}: not a bucket name {said}.", f"Correct {place.variable}.")
    if code in KEYS:
        return of_keys(code, place, doing, said)
    if code in OTHER_REGION:
        return Fault(f"{doing}: the bucket is in another region {said}.", "Name it in AWS_REGION.")
    if code in NO_ROOM:
        return NoRoom(f"{doing}: the store has no room left {said}.", "Make room or raise the quota there.")
    if code in ARRIVED_DAMAGED:
        return TemporaryFault(f"{doing}: it arrived altered {said}.", "Check the network, then start the same command.")
    if code in BUSY or (status >= 500 and status != 501) or status in (408, 409, 425, 429):
        return TemporaryFault(f"{doing}: {place.server} is busy or failing {said}.", "Start the same command later.")
    if status in (400, 403) and operation == "store" and (fault := of_policies(error, doing, said)):
        return fault
    if status in (401, 403):
        return NotPermitted(f"{doing}: not permitted {said}.", PERMISSIONS_REMEDY)
    return Fault(
        f"{doing}: {place.server} refused it {said}.",
        f"Check that {place.server} speaks S3, and {place.variable} and the AWS variables with it.",
    )


def of_policies(error: boto_errors.ClientError, doing: str, said: str) -> Fault | None:
    """The fault where writing is denied by a rule about encryption: a store's own words tell that alone."""
    words = str(error.response.get("Error", {}).get("Message", "")).lower()
    if code_of(error).startswith("KMS.") or "kms:" in words:
        return Fault(
            f"{doing}: the key that is to encrypt it cannot be used {said}.",
            "Allow these credentials kms:GenerateDataKey and kms:Decrypt on it, or name another in S3_SSE_KMS_KEY_ID.",
        )
    if "explicit deny" in words or "encryption" in words:
        return NotPermitted(
            f"{doing}: a policy of the bucket denies it {said}.",
            "Where it demands encryption, set S3_SSE to AES256, or to aws:kms with S3_SSE_KMS_KEY_ID.",
        )
    return None


def of_keys(code: str, place: Place, doing: str, said: str) -> Fault:
    """The fault for an answer about keys, tokens and the clock that signs with them; `code` is one of KEYS."""
    if code == "SignatureDoesNotMatch":
        return Fault(  # some stores say so for an unknown key as well
            f"{doing}: the secret key does not belong to the access key {said}.",
            "Check AWS_SECRET_ACCESS_KEY and AWS_ACCESS_KEY_ID, or the profile or role that gives them.",
        )
    if code == "RequestTimeTooSkewed":
        return Fault(f"{doing}: this machine's clock is wrong {said}.", "Set the clock.")
    if code in UNKNOWN_KEY:
        return Fault(f"{doing}: the access key is unknown to {place.server} {said}.", "Check AWS_ACCESS_KEY_ID.")
    if code in EXPIRED:
        return Fault(f"{doing}: the credentials have expired {said}.", "Renew them (AWS_SESSION_TOKEN, role, login).")
    return Fault(
        f"{doing}: the session token is not one of the access key's {said}.",
        "Set AWS_SESSION_TOKEN to the one that came with the keys, or unset it where keys of a user have none.",
    )
