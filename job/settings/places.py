"""One grammar for every variable that names a place: a path, an `s3://` prefix, an http(s) or a file address."""

from __future__ import annotations

import difflib
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from job.settings.redaction import told

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
OLD_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
WINDOWS = re.compile(r"[A-Za-z]:([\\/]|$)|\\\\")
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:?)(/*)(.*)", re.DOTALL)
IN_WORDS = {"s3": "s3://bucket/prefix", "http": "http(s)://…", "file": "file:///…"}
SPELLINGS = {"https": "http", "s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "wasbs": "az"}
OTHERS = ("az", "gs", "hf", "hdfs", "ftp", "sftp", "dbfs")  # known, so that `gs:/bucket` is no folder called `gs:`


@dataclass(frozen=True)
class Takes:
    """The `kinds` of places that a variable takes: `path`, `s3`, `http` (https as well) and `file`; `many`: a list.

    `path` says what a path is here; `otherwise` says what to do with a bucket or an address that is not taken. A bucket
    that the run `writes` to is called as S3 wants it today; one that is read may be older than that rule.
    """

    kinds: tuple[str, ...]
    otherwise: str = ""
    path: str = "path"
    many: bool = False
    writes: bool = False

    @property
    def in_words(self) -> str:
        """Such as `a directory or s3://bucket/prefix`."""
        words = [f"a {self.path}" if kind == "path" else IN_WORDS[kind] for kind in self.kinds]
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


NOT_A_DISK = "this is a place on a disk; the address of a data set to fetch goes into DATA_URL"
NOT_A_STORE = "the address of a store goes into AWS_ENDPOINT_URL_S3: give s3://bucket/prefix"
LOCAL = "only a directory of this machine serves: copy from there afterwards, or mount what you meant"

PLACES = {
    "input": Takes(("path", "http", "file", "s3")),
    "data_dir": Takes(("path",), NOT_A_DISK, path="directory"),
    "data_url": Takes(("http", "file", "s3"), many=True),
    "pretrained_weights": Takes(("path", "http", "file", "s3")),
    "output": Takes(("path", "s3"), NOT_A_STORE, path="directory", writes=True),
    "tensorboard_dir": Takes(("path",), LOCAL, path="directory"),
    "github_step_summary": Takes(("path",)),
}


def place(value: str, takes: Takes) -> str:
    """The place that `value` names, with the home directory for a leading `~`.

    Raises ValueError that says what was probably meant, without what may be secret in an address.
    """
    if WINDOWS.match(value):
        raise ValueError(
            "a Windows path means nothing here: mount the folder (docker run -v, or /mnt/c in WSL) and name the mount"
        )
    kind, meant = address(value)
    if not kind:
        return path(value, takes)
    if kind not in takes.kinds:
        refuse(kind, value, takes)
    if value != meant:
        raise ValueError(f"that is no address yet: did you mean {told(meant)}?")
    check = {"s3": check_s3, "http": check_http}.get(kind)
    if check:
        check(value, takes)
    return value


def address(value: str) -> tuple[str, str]:
    """The kind of address (`s3`, `http`, `file`, another scheme) and how it is rightly written; no kind for a path.

    `s3:/bucket`, `s3:bucket` and `s3//bucket` are addresses that lost a sign: nobody calls a folder so.
    """
    found = ADDRESS.fullmatch(value)
    if not found:
        return "", value
    scheme, colon, slashes, rest = found.groups()
    kind = SPELLINGS.get(scheme.lower(), scheme.lower())
    known = kind in (*IN_WORDS, *OTHERS)
    if not (colon and len(slashes) >= 2) and not (known and (colon or len(slashes) >= 2)):
        return "", value
    written = {"s3": "s3", "file": "file"}.get(kind, scheme.lower())
    return kind, f"{written}://{'/' * (kind == 'file')}{rest}"


def path(value: str, takes: Takes) -> str:
    if "path" not in takes.kinds:
        raise ValueError(f"give {takes.in_words}")
    if not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError(f"no home directory is known to put in the place of {value.split('/')[0]}") from None


def check_s3(value: str, takes: Takes) -> None:
    pattern = BUCKET if takes.writes else OLD_BUCKET
    if not pattern.fullmatch(value.removeprefix("s3://").split("/")[0]):
        raise ValueError(f"give {takes.in_words} (a bucket's name has 3 to 63 of a-z, 0-9, '-' and '.')")


def check_http(value: str, takes: Takes) -> None:
    """What no server can be asked for (RFC 3986)."""
    if re.search(r"[\s\x00-\x20\x7f]", value):
        raise ValueError("an address holds no blanks: write %20 for each")
    if not value.isascii():
        wanted = urllib.parse.quote(value, safe="%/:=&?~#+!$,;'@()*[]")
        raise ValueError(f"an address is written in ASCII: {told(wanted)}")
    try:
        parts = urllib.parse.urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise ValueError("that address has no host, or no number for its port")


def refuse(kind: str, value: str, takes: Takes) -> NoReturn:
    """Raises ValueError that says what serves in the place of a kind of address that the variable does not take."""
    if kind == "file":
        raise ValueError(f"write the path alone: /{address(value)[1].removeprefix('file:///')}")
    if kind == "gs" and "s3" in takes.kinds:
        raise ValueError(
            "Google Cloud Storage answers as S3 does: give s3://bucket/prefix, with "
            "AWS_ENDPOINT_URL_S3=https://storage.googleapis.com and an HMAC key in the AWS variables"
        )
    if kind in ("gs", "az"):
        name, tool = {"gs": ("Google Cloud Storage", "gcsfuse"), "az": ("Azure Blob Storage", "blobfuse2")}[kind]
        raise ValueError(f"{name} cannot be asked from here: mount it ({tool}) and give {takes.in_words}")
    if kind == "hf" and "http" in takes.kinds:
        raise ValueError("give the file's own address, https://huggingface.co/…/resolve/main/…")
    if kind == "hf":
        raise ValueError(f"fetch it beforehand (hf download) and give {takes.in_words}")
    if kind in IN_WORDS and takes.otherwise:
        raise ValueError(takes.otherwise)
    near = difflib.get_close_matches(kind, ("https", "http", "s3", "file"), n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}://?)" if near and SPELLINGS.get(near[0], near[0]) in takes.kinds else ""
    raise ValueError(f"{kind}:// is not understood here: give {takes.in_words}{hint}")
