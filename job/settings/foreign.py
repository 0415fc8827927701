"""Variables of other programs: put right where they only get in the way, told where they are wrong.

A library that reads garbage ends with a traceback, or with an abort of the whole process, and names no variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

from job.errors import Fault
from job.settings.redaction import told

ENDPOINT = r"https?://[^\s\"'/?#]+(/[^\s\"'?#]*)?"
REGION = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
WHOLE = r"[0-9]+"
NUMBER = r"[0-9]*\.?[0-9]+"
SPINS = "1000"  # of OpenMP's 300,000 (libgomp's GOMP_SPINCOUNT): some microseconds, what a short sum takes
ALLOCATOR = r"[a-z0-9_]+:(\[[^\]\"'=]*\]|[^,:\[\]\"'=]+)"  # key and value (c10/core/AllocatorConfig.h)


@dataclass(frozen=True)
class Rule:
    """What a variable has to look like, in a regular expression and in words; `secret` ones are never shown."""

    pattern: str
    words: str
    secret: bool = False


def choice(*values: str) -> Rule:
    return Rule(f"(?i:{'|'.join(values)})", f"choose from: {', '.join(values)}")


AUTHORITIES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What programs call a file of certificate authorities: whichever is set counts for all that the job fetches."""
OF_PROXY = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
    Rule(r"(?!socks)\S+", "must be the address of an HTTP proxy; SOCKS is not supported", secret=True),
)
OF_S3 = {
    "AWS_ENDPOINT_URL_S3": Rule(ENDPOINT, "must be the store's address, such as https://minio.example:9000"),
    "AWS_ENDPOINT_URL": Rule(ENDPOINT, "must be the store's address, such as https://minio.example:9000"),
    "AWS_REGION": Rule(REGION, "must be a region's name, such as eu-west-3"),
    "AWS_DEFAULT_REGION": Rule(REGION, "must be a region's name, such as eu-west-3"),
    **dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        Rule(r"[^\s\"']+", "must stand alone, without quotes, blanks and line ends", secret=True),
    ),
    **dict.fromkeys(
        ("AWS_MAX_ATTEMPTS", "AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"),
        Rule(r"[1-9][0-9]*", "must be a whole number, at least 1"),
    ),
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": Rule(WHOLE, "must be a whole number"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": Rule(ENDPOINT, "must be an address, such as http://169.254.169.254"),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": choice("ipv4", "ipv6"),
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": choice("true", "false"),
    "AWS_RETRY_MODE": choice("legacy", "standard", "adaptive"),
    "AWS_DEFAULTS_MODE": choice("legacy", "standard", "cross-region", "in-region", "mobile", "auto"),
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": choice("preferred", "disabled", "required"),
    "AWS_STS_REGIONAL_ENDPOINTS": choice("legacy", "regional"),
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": choice("legacy", "regional"),
    "AWS_REQUEST_CHECKSUM_CALCULATION": choice("when_supported", "when_required"),
    "AWS_RESPONSE_CHECKSUM_VALIDATION": choice("when_supported", "when_required"),
}
OF_ALL = {
    "SOURCE_DATE_EPOCH": Rule(WHOLE, "must be a whole number of seconds since 1970"),
    **dict.fromkeys(
        ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"),
        Rule(rf"{ALLOCATOR}(,{ALLOCATOR})*", "must be key:value, with commas between several"),
    ),
    **dict.fromkeys(
        ("TQDM_DELAY", "TQDM_MAXINTERVAL", "TQDM_MININTERVAL", "TQDM_SMOOTHING"), Rule(NUMBER, "must be a number")
    ),
    **dict.fromkeys(("TQDM_MINITERS", "TQDM_NCOLS", "TQDM_POSITION"), Rule(WHOLE, "must be a whole number")),
    **OF_PROXY,
}


def settle(environment: MutableMapping[str, str]) -> None:
    """Puts right what only gets in the way. Call it before any library that reads its variables is loaded.

    - AWS variables that are set but empty count as not set, as ours do (https://github.com/boto/botocore/issues/1460);
    - botocore reads AWS_DEFAULT_REGION alone. AWS's other tools read AWS_REGION, and prefer it where both are set;
    - botocore takes one file of certificate authorities, by two of the names that it has;
    - a notebook hands its own MPLBACKEND to all that it starts; the job draws into files, and needs none;
    - a thread that waits for the others (OpenMP) keeps its core busy, up to some milliseconds a time. Beside a
      neighbour who needs that core each waits for each; so it soon sleeps, where nobody decided otherwise.
    """
    for name in [name for name, value in environment.items() if name.startswith("AWS_") and not value]:
        del environment[name]
    if environment.get("AWS_REGION"):
        environment["AWS_DEFAULT_REGION"] = environment["AWS_REGION"]
    given = [environment[name] for name in AUTHORITIES if environment.get(name)]
    if given:
        environment.setdefault("AWS_CA_BUNDLE", environment.get("REQUESTS_CA_BUNDLE") or given[-1])
    environment.pop("MPLBACKEND", None)
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


def faults(environment: Mapping[str, str], s3: bool) -> Iterator[tuple[str, str]]:
    """Variable and what is wrong with it; those of AWS only where the run uses `s3`."""
    for name, rule in {**OF_ALL, **(OF_S3 if s3 else {})}.items():
        value = environment.get(name, "")
        if not value or re.fullmatch(rule.pattern, value.replace(" ", "") if name in OF_ALL else value):
            continue
        if name == "AWS_DEFAULT_REGION" and value == environment.get("AWS_REGION"):
            continue  # put there by `settle`
        yield name, f"{name}: {rule.words}" if rule.secret else f"{name}={told(value)}: {rule.words}"
    for name, file in authorities(environment).items():
        if not os.access(file, os.R_OK):
            yield name, f"{name}={told(file)}: there is no such file of certificate authorities, or it may not be read"


def authorities(environment: Mapping[str, str]) -> dict[str, str]:
    """Variable → the file of certificate authorities that it names."""
    return {name: environment[name] for name in AUTHORITIES if environment.get(name)}


def blamed(error: Exception, environment: Mapping[str, str]) -> Fault | None:
    """The fault of a variable that torch refused while it was loaded; None where it was something else."""
    if environment.get("TORCH_LOGS") and "log settings" in str(error):
        return Fault(f"TORCH_LOGS={told(environment['TORCH_LOGS'])}: torch knows no such log.", "Correct or unset it.")
    return None
