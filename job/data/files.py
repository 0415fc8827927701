"""Which files below a folder are images: the one rule for training, predict and summary.

A file counts by its name's ending, or where that says nothing, by its first bytes. What systems and programs leave
behind is passed over. Nothing else is passed over without being counted. Links are followed, loops are not.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from job.console.logs import event, printable
from job.errors import Fault, is_permanent, os_fault

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
KINDS = "JPEG, PNG, WebP, BMP, GIF or TIFF"
LEFT_BEHIND = {  # by systems and programs, in small letters: files and whole folders
    *(".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".nomedia", "icon\r", ".picasa.ini"),
    *("__macosx", "@eadir", "#recycle", "lost+found", ".ipynb_checkpoints", "$recycle.bin"),
    *("system volume information", ".spotlight-v100", ".trashes", ".fseventsd", ".appledouble", ".git", ".svn"),
}
OTHER_SUFFIXES = (  # of images that are not read here: nobody shall find out by their absence
    *(
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".psd",
        ".svg",
        ".eps",
        ".pdf",
        ".ico",
        ".tga",
        ".exr",
        ".dcm",
    ),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NO_IMAGES = "file(s) that are no images"
TOLD = 5  # names in a line
FOLDER, FILE, NOWHERE, OTHER, REFUSED = "folder", "file", "nowhere", "other", "refused"


@dataclass
class Passed:
    """What is no image or was left out, by kind: how many there are, and their names. `variable` is the setting that
    names the place, for messages.
    """

    variable: str = "DATA_DIR"
    left_behind: int = 0
    others: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str, count: int = 1) -> None:
        self.others[kind] += count
        self.names.setdefault(kind, []).append(name)

    def forget(self, kind: str, name: str) -> None:
        """Takes back a note: it turned out to be of use."""
        if name in self.names.get(kind, []):
            self.names[kind].remove(name)
            self.others[kind] -= 1
            if not self.others[kind]:
                del self.others[kind], self.names[kind]

    def add(self, other: Passed) -> None:
        """What somebody else has noted as well."""
        self.left_behind += other.left_behind
        for kind, count in other.others.items():
            self.others[kind] += count
            self.names.setdefault(kind, []).extend(other.names[kind])

    def tell(self, place: str) -> None:
        """A line a kind."""
        if self.left_behind:
            event("data", f"{place}: {self.left_behind:,} file(s) and folder(s) passed over that systems leave behind")
        for kind, count in self.others.items():
            names = self.names[kind]
            more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
            shown = ", ".join(printable(name) for name in names[:TOLD])
            event("data", f"{place}: {count:,} {kind}: {shown}{more}", level="WARNING")


def is_left_behind(name: str) -> bool:
    """Whether systems and programs leave a file or folder of this name."""
    return name.startswith("._") or name.lower() in LEFT_BEHIND or name.lower().startswith(".trash-")


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def named_as_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def begins_as_image(file: Path) -> bool:
    """By its first bytes; BMP has no more than two letters and its own length (Microsoft, BITMAPFILEHEADER)."""
    with file.open("rb") as opened:
        head = opened.read(16)
        length = os.fstat(opened.fileno()).st_size
    if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == length:
        return True
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def spelled(path: Path) -> str:
    """A path as text that every file and page takes: bytes that are no UTF-8 are spelled out, as in `\\xff`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


@dataclass
class Walk:
    """A way through folders: names are told below `root`, folders that were `seen` (device, inode) are not read again,
    so that links neither go round in circles nor bring the same images twice.
    """

    root: Path
    passed: Passed
    seen: set[tuple[int, int]] = field(default_factory=set)

    def name(self, path: Path) -> str:
        return spelled(path.relative_to(self.root))


def images(folder: Path, passed: Passed, root: Path | None = None) -> Iterator[Path]:
    """The image files below `folder`, with its subfolders, in alphabetical order; broken ones too, which whoever reads
    them will find. Links that lead nowhere count where their names are images'. What is left out goes into `passed`,
    named below `root`.

    Raises Fault, and TemporaryFault where it may pass, for a folder that cannot be listed.
    """
    yield from walked(folder, Walk(root or folder, passed))


def walked(folder: Path, walk: Walk) -> Iterator[Path]:
    passed, here = walk.passed, identity(folder)
    if here in walk.seen:
        passed.note("link(s) to a folder that is read already, not followed", walk.name(folder))
        return
    walk.seen.add(here)
    for path in listed(folder, passed.variable):
        if is_left_behind(path.name):
            passed.left_behind += 1
            continue
        kind = kind_of(path)
        if kind == FOLDER and is_hidden(path.name):
            left_out(path, walk.name(path), "image(s) in hidden folders, left out", passed)
        elif kind == FOLDER:
            yield from walked(path, walk)
        elif is_hidden(path.name):
            if named_as_image(path.name):
                passed.note("hidden image(s), left out", walk.name(path))
        elif counts(path, kind, walk):
            yield path


def left_out(folder: Path, name: str, kind: str, passed: Passed) -> None:
    """Notes a folder that is not taken with the count of its images, where it has any."""
    try:
        inside = sum(1 for _ in images(folder, Passed()))
    except Fault:
        passed.note("folder(s) left out that may not be looked into", name)
        return
    if inside:
        passed.note(kind, name, inside)


def counts(path: Path, kind: str, walk: Walk) -> bool:
    """Whether what is no folder is an image; notes it where not. Raises Fault where nothing can be told of it."""
    if kind != OTHER and named_as_image(path.name):
        return True
    passed, name = walk.passed, walk.name(path)
    if kind == OTHER:
        passed.note("pipe(s), socket(s) or device(s), left out", name)
    elif kind == NOWHERE:
        passed.note("link(s) that lead nowhere", name)
    elif path.name.lower().endswith(OTHER_SUFFIXES):
        passed.note(f"image(s) of other kinds than {KINDS}, left out", name)
    else:
        try:
            if begins_as_image(path):
                return True
            passed.note(NO_IMAGES, name)
        except OSError as error:
            if not is_permanent(error):
                raise unreadable(path, error, passed.variable) from error
            passed.note("file(s) that are no images, or may not be read", name)
    return False


def kind_of(path: Path) -> str:
    """FOLDER or FILE, links followed; NOWHERE where a link leads, or REFUSED what may not be looked at, or OTHER.

    Raises TemporaryFault where the disk does not answer.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return NOWHERE
        if is_permanent(error):
            return REFUSED
        raise unreadable(path, error, "DATA_DIR") from error
    return FOLDER if stat.S_ISDIR(mode) else FILE if stat.S_ISREG(mode) else OTHER


def listed(folder: Path, variable: str = "DATA_DIR") -> Iterator[Path]:
    """What lies in a folder, in alphabetical order, so that it does not depend on the file system. It is listed at
    once, and held as names alone: of a folder with very many files the paths would take much memory.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise os_fault(error, f"cannot list the folder {printable(str(folder))}", variable, "read") from error
    return (folder / name for name in names)


def unreadable(path: Path, error: OSError, variable: str) -> Fault:
    return os_fault(error, f"cannot read {printable(str(path))}", variable, "read")


def identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise unreadable(folder, error, "DATA_DIR") from error
    return status.st_dev, status.st_ino
