"""An archive unpacked without believing it: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import gzip
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from job.console.logs import printable
from job.data.download import Bar
from job.errors import Fault, os_fault
from job.storage.objects import NotWritten, written
from job.storage.room import lacking

MOST_FILES = 5_000_000
MOST_TIMES = 100  # what an archive's bytes may become, each of them: photographs do not become twice as many
ALWAYS = 100_000_000  # bytes that any archive may become
CHUNK = 1 << 20
BEGINNINGS = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "tar.gz",
    b"\x28\xb5\x2f\xfd": "tar.zst",  # RFC 8878
}
TAR = 257  # byte at which a tar says that it is one (POSIX, ustar)
OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
}
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
Packed = gzip.GzipFile | BinaryIO
FILE, FOLDER = "file", "folder"


@dataclass(frozen=True)
class Member:
    """A name in an archive, in its own words, with its bytes; `kind` is FILE, FOLDER, or what else it is, in words."""

    name: str
    size: int
    kind: str
    content: IO[bytes] | None


class Bomb(Exception):
    """It becomes more than an archive of photographs would."""


def format_of(head: bytes, called: str) -> str:
    """`zip`, `tar`, `tar.gz` or `tar.zst` by how the archive begins. Raises Fault for anything else."""
    for beginning, name in BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    if head[TAR : TAR + 5] == b"ustar":
        return "tar"
    other = next((name for beginning, name in OTHERS.items() if head.startswith(beginning)), "something else")
    raise Fault(
        f"DATA_URL: {called} is no zip, tar, tar.gz or tar.zst, but {other}.", "Pack it anew: tar -cf, or zip -0 -r."
    )


def unpack(archive: Path, called: str, into: Path, bar: Bar) -> None:
    """Everything in the archive into an empty folder. A message calls the archive `called`.

    Raises Fault for an archive that is damaged, encrypted, not to be trusted or of another kind, TemporaryFault where
    the disk does not take it, and what the bar raises.
    """
    with archive.open("rb") as file:
        kind = format_of(file.read(512), called)
    open_it = opened_zip if kind == "zip" else opened_tar
    count, left = 0, most_of(archive)
    try:
        with open_it(archive, called, into) as (members, total), bar(f"unpack {called}", total, "B") as move:
            for member in members:
                count += 1
                if count > MOST_FILES:
                    raise Bomb
                path = place(member, called)
                if path is not None:
                    for fresh in put(member, into / path, called):
                        move(fresh)
                        left -= fresh
                        if left < 0:  # holes in a file are not packed at all
                            raise Bomb
    except Bomb:
        raise Fault(
            f"DATA_URL: {called} is a bomb: it becomes more than {MOST_TIMES} times its size, or {MOST_FILES:,} files.",
            "Pack images, not what is packed already a hundred times over.",
        ) from None
    except DAMAGED as error:
        if "too much memory" in str(error):  # zstd's words
            raise Fault(
                f"DATA_URL: {called} wants more than 128 MiB of memory to be unpacked.", "Pack it anew without --long."
            ) from None
        raise Fault(f"DATA_URL: {called} is damaged.", "Make it anew, and try it: unzip -t, tar -tf.") from None


def most_of(archive: Path) -> int:
    """The bytes that it may become."""
    return max(ALWAYS, MOST_TIMES * archive.stat().st_size)


def place(member: Member, called: str) -> PurePosixPath | None:
    """Where the member belongs; None for a folder, which comes with its files. Raises Fault where it may not be."""
    if member.kind not in (FILE, FOLDER):
        raise Fault(
            f"DATA_URL: {called} has {printable(member.name)}, which is {member.kind}.",
            "Pack files alone: zip -r, or tar --dereference --hard-dereference.",
        )
    path = safe(member.name)
    if path is None:
        raise Fault(
            f"DATA_URL: {called} has {printable(member.name)}, which lies outside of it.",
            "Pack it from inside: cd images && zip -r ../images.zip .",
        )
    return path if member.kind == FILE and path.parts else None


def safe(name: str) -> PurePosixPath | None:
    """A name as a path below a folder; None where it could lead out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        return None
    return PurePosixPath(*parts)


def put(member: Member, file: Path, called: str) -> Iterator[int]:
    """Writes it, and gives the bytes as they are written."""
    assert member.content is not None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            raise FileExistsError
    except (FileExistsError, NotADirectoryError):
        twice = f"DATA_URL: {called} has {printable(member.name)} twice."
        raise Fault(twice, "Pack it anew, each name once.") from None
    except OSError as error:
        raise os_fault(error, f"cannot write {printable(str(file))}", "DATA_DIR") from error
    left = member.size
    try:
        with written(file) as output:
            while chunk := member.content.read(CHUNK):
                output.write(chunk)
                left -= len(chunk)
                yield len(chunk)
    except NotWritten as failed:
        raise os_fault(failed.error, f"cannot write {printable(str(file))}", "DATA_DIR") from failed
    if left:
        raise EOFError


@contextmanager
def opened_zip(archive: Path, called: str, into: Path) -> Iterator[tuple[Iterator[Member], int | None]]:
    """Its members, and the bytes that they become, which it says beforehand and is held to."""
    with zipfile.ZipFile(archive) as opened:
        listed = opened.infolist()
        total = sum(each.file_size for each in listed)
        if total > most_of(archive) or len(listed) > MOST_FILES:
            raise Bomb
        few = lacking("DATA_DIR", into, total)
        if few is not None:
            raise few
        yield (member_of_zip(opened, each, called) for each in listed), total


def member_of_zip(opened: zipfile.ZipFile, each: zipfile.ZipInfo, called: str) -> Member:
    mode = each.external_attr >> 16  # of Unix, where it was packed there
    name = each.filename.replace("\\", "/")  # as programs for Windows wrote it
    if each.is_dir():
        return Member(name, 0, FOLDER, None)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Member(name, 0, "a link" if stat.S_ISLNK(mode) else "no file", None)
    if each.flag_bits & 1:
        raise Fault(f"DATA_URL: {called} is encrypted.", "Pack it without a password.")
    try:
        return Member(name, each.file_size, FILE, opened.open(each))
    except NotImplementedError:
        raise Fault(
            f"DATA_URL: {called} is packed in a way that is not read here.", "Pack it anew: zip -0, or tar -cf."
        ) from None


@contextmanager
def opened_tar(archive: Path, called: str, into: Path) -> Iterator[tuple[Iterator[Member], int | None]]:
    """Its members as they come, and the bytes of a tar that is not packed."""
    length = archive.stat().st_size
    few = lacking("DATA_DIR", into, length)
    if few is not None:
        raise few
    with archive.open("rb") as file:
        kind = format_of(file.read(512), called)
        file.seek(0)
        unpacked: Packed = gzip.GzipFile(fileobj=file) if kind == "tar.gz" else file
        damage: type[Exception] = EOFError
        if kind == "tar.zst":
            unpacked, damage = of_zstd(file, called)
        bounded = Bounded(unpacked, most_of(archive))
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as opened:  # type: ignore[call-overload]
                yield (member_of_tar(opened, each) for each in opened), length if kind == "tar" else None
        except damage as error:
            raise EOFError(str(error)) from None


def of_zstd(file: BinaryIO, called: str) -> tuple[BinaryIO, type[Exception]]:
    """What is packed in it, and the error of what is damaged; windows of more than 128 MiB are one as well. Python has
    it from 3.14 on; before, a package does, which a platform's own Python may lack.
    """
    try:
        zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise Fault(
            f"DATA_URL: {called} is packed by zstd, for which backports.zstd is not installed.",
            "Install it (pip install backports.zstd), or pack the images as tar.gz or zip.",
        ) from None
    return zstd.ZstdFile(file), zstd.ZstdError


def member_of_tar(opened: tarfile.TarFile, each: tarfile.TarInfo) -> Member:
    if each.isdir():
        return Member(each.name, 0, FOLDER, None)
    if not each.isfile():
        return Member(each.name, 0, "a link" if each.issym() or each.islnk() else "no file", None)
    return Member(each.name, each.size, FILE, opened.extractfile(each))


class Bounded:
    """A file that raises Bomb where more than `most` bytes are read from it."""

    def __init__(self, file: Packed, most: int) -> None:
        self.file = file
        self.left = most

    def read(self, count: int) -> bytes:
        content = self.file.read(count)
        self.left -= len(content)
        if self.left < 0:
            raise Bomb
        return content
