"""One http, https or file address: opened, told without its secrets, and its errors in words."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from job import settings
from job.data.attentive import CHUNK
from job.errors import Fault, TemporaryFault

TIMEOUT = 30.0  # seconds for a connection that says nothing at all
NOT_VERIFIED = (
    "its TLS certificate cannot be verified. Name the PEM file of your certificate authority in SSL_CERT_FILE"
)
NO_ADDRESS = "not a usable address (a user and password in it are not supported)"
LARGEST_WHOLE = 1 << 28  # bytes of an image; no camera makes larger ones


class Gone(Exception):
    """This address will not give the file however often it is asked."""


class RangeRefused(ConnectionError):
    """There is nothing from that byte on: what is here already is not the beginning of that file."""


@dataclass
class Answer:
    """An open address. `offset` is where in the file it begins, `length` how many bytes it says it sends (http.client
    lowers its own while it is read), `validator` what names this very content when the rest of it is asked for.
    """

    response: http.client.HTTPResponse
    length: int | None
    offset: int = 0
    validator: str = ""

    def read1(self, size: int, /) -> bytes:
        read = getattr(self.response, "read1", self.response.read)
        return read(size)


@contextmanager
def open_url(url: str, timeout: float = TIMEOUT, offset: int = 0, validator: str = "") -> Iterator[Answer]:
    """Opens an http, https or file address, from byte `offset` on where the server can do that.

    With a `validator` it does so only if it still has the same content (RFC 9110, sections 13.1.5 and 14.2).
    Raises Gone for what the server says is not there or not allowed, and for what is no address; OSError for other
    trouble.
    """
    if "@" in urllib.parse.urlsplit(url).netloc:  # urllib takes a user and password for a part of the host's name
        raise Gone(NO_ADDRESS)
    asked = {"Range": f"bytes={offset}-"} if offset else {}
    asked |= {"If-Range": validator} if offset and validator else {}
    try:
        request = urllib.request.Request(url, headers=asked)
        response = urllib.request.urlopen(request, timeout=timeout, context=trusted())
    except (http.client.InvalidURL, ValueError):
        raise Gone(NO_ADDRESS) from None
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                raise RangeRefused("has nothing beyond what is here") from None
            if error.code < 500 and error.code not in (408, 425, 429):
                raise Gone(f"HTTP status {error.code}") from None
            raise ConnectionError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, FileNotFoundError | IsADirectoryError | PermissionError):
            raise Gone(f"{error.reason.strerror or 'cannot be read'}") from None
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Gone(NOT_VERIFIED) from None
        if proxy := proxy_of(url):
            through = f"asked through {proxy}, the proxy of HTTPS_PROXY or HTTP_PROXY"
            raise ConnectionError(f"{describe(error)} ({through})") from None
        raise
    with response:
        length = response.headers.get("Content-Length")
        response.length = int(length) if length and length.isdigit() else None
        begins = begin_of(response.headers.get("Content-Range")) if getattr(response, "status", None) == 206 else 0
        etag, changed = response.headers.get("ETag") or "", response.headers.get("Last-Modified") or ""
        yield Answer(response, response.length, begins, changed if etag.startswith("W/") else etag or changed)


def trusted() -> ssl.SSLContext:
    """The system's certificate authorities and those that the user names."""
    context = ssl.create_default_context()
    for file in settings.authorities():
        with suppress(ssl.SSLError):  # a file without a certificate: what it was to make trusted will be told
            context.load_verify_locations(file)
    return context


def proxy_of(url: str) -> str:
    """Host and port of the proxy that this address is asked through; empty where it is asked directly."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def begin_of(content_range: str | None) -> int:
    """The first byte's place in `bytes FIRST-LAST/ALL`. Raises ConnectionError where that is not what it is."""
    found = re.match(r"bytes (\d+)-", content_range or "")
    if found is None:
        raise ConnectionError("sent a part without saying which")
    return int(found[1])


def read_whole(url: str, largest: int = LARGEST_WHOLE) -> bytes:
    """The content of a small http, https or file address.

    Raises Fault where it is not there or larger than `largest` bytes, TemporaryFault where trying again may help.
    """
    try:
        with open_url(url) as stream:
            content = bytearray()
            while chunk := stream.read1(CHUNK):
                content += chunk
                if len(content) > largest:
                    raise Gone(f"larger than {largest / 1e6:.0f} MB")
            if stream.length is not None and len(content) < stream.length:
                raise ConnectionError(f"cut off after {len(content)} of {stream.length} bytes")
            return bytes(content)
    except Gone as error:
        raise Fault(f"{public(url)}: {error}.") from None
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryFault(f"{public(url)}: {describe(error)}.") from None


def public(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def describe(error: Exception) -> str:
    """What the network said, in a few words; never the address, which may hold a password."""
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return "no answer in time" if isinstance(reason, TimeoutError) and "timed out" in str(text) else str(text)
