"""Which files below a folder are images: the one rule for training, predict and summary.

A file counts by its name's ending, or where that says nothing, by its first bytes. What systems and programs leave
behind is passed over. Nothing else is passed over without being counted. Links are followed, loops are not.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from job.console.logs import event, printable
from job.errors import is_permanent, os_fault

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
KINDS = "JPEG, PNG, WebP, BMP, GIF or TIFF"
LEFT_BEHIND = {  # by systems and programs, in small letters: files and whole folders
    *(".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".nomedia", "icon\r", ".picasa.ini"),
    *("__macosx", "@eadir", "#recycle", "lost+found", ".ipynb_checkpoints", "$recycle.bin"),
    *("system volume information", ".spotlight-v100", ".trashes", ".fseventsd", ".appledouble", ".git", ".svn"),
}
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
TOLD = 5  # names in a line


@dataclass
class Passed:
    """What is no image or was left out, by kind: how many there are, and the first few names."""

    left_behind: int = 0
    others: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str, count: int = 1) -> None:
        self.others[kind] += count
        self.names.setdefault(kind, []).append(name)

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
    """By its first bytes; BMP's two letters alone would be too few."""
    with file.open("rb") as opened:
        head = opened.read(16)
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def spelled(path: Path) -> str:
    """A path as text that every file and page takes: bytes that are no UTF-8 are spelled out, as in `\\xff`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def images(folder: Path, passed: Passed, root: Path | None = None) -> Iterator[Path]:
    """The image files below `folder`, with its subfolders, in alphabetical order; broken ones too, which whoever reads
    them will find. Links that lead nowhere count where their names are images'. What is left out goes into `passed`,
    named below `root`.

    Raises Fault, and TemporaryFault where it may pass, for a folder that cannot be listed.
    """
    yield from walk(folder, passed, root or folder, ())


def walk(folder: Path, passed: Passed, root: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """`above` are the folders (device, inode) that `folder` lies in: a link back to one of them is a loop."""
    here = identity(folder)
    if here in above:
        passed.note("link(s) back to a folder above, not followed", spelled(folder.relative_to(root)))
        return
    for path in listed(folder):
        name = spelled(path.relative_to(root))
        if is_left_behind(path.name):
            passed.left_behind += 1
        elif path.is_dir():
            if is_hidden(path.name):
                inside = sum(1 for _ in walk(path, Passed(), root, (*above, here)))
                if inside:
                    passed.note("image(s) in hidden folders, left out", name, inside)
            else:
                yield from walk(path, passed, root, (*above, here))
        elif is_hidden(path.name):
            if named_as_image(path.name):
                passed.note("hidden image(s), left out", name)
        elif counts(path, name, passed):
            yield path


def counts(path: Path, name: str, passed: Passed) -> bool:
    """Whether what is no folder is an image; notes it where not."""
    if not path.exists():  # a link that leads nowhere
        if named_as_image(path.name):
            return True
        passed.note("link(s) that lead nowhere", name)
    elif not stat.S_ISREG(path.stat().st_mode):
        passed.note("pipe(s), socket(s) or device(s), left out", name)
    elif named_as_image(path.name):
        return True
    else:
        try:
            if begins_as_image(path):
                return True
            passed.note("file(s) that are no images", name)
        except OSError as error:
            if not is_permanent(error):
                raise os_fault(error, f"cannot read {printable(str(path))}", "DATA_DIR", "read") from error
            passed.note("file(s) that are no images, or may not be read", name)
    return False


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, in alphabetical order, so that it does not depend on the file system."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise os_fault(error, f"cannot list the folder {printable(str(folder))}", "DATA_DIR", "read") from error


def identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
