"""What people call the parts of a data set."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from job.data.files import spelled

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def part_of(name: str, *, exact: bool) -> str | None:
    """Which part a folder of this name is: `Train`, or where it need not be exact, `birds-train-v2`."""
    words = [name.lower()] if exact else re.split(r"[-_. ]+", name.lower())
    parts = {part for part, names in PARTS.items() if any(word in names for word in words)}
    return parts.pop() if len(parts) == 1 else None


def class_name(name: str) -> str:
    """Composed (Unicode's NFC), as text that every file takes."""
    return unicodedata.normalize("NFC", spelled(Path(name)))
