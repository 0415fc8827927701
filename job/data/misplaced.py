"""CIFAR-10 that lies nearly where it should: what is there, and what to set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from job.errors import Fault

DEPTH = 3  # folders below DATA_DIR in which a copy is looked for
MOST_FOLDERS = 200  # that are looked into: DATA_DIR may be somebody's home


def check(directory: Path, archive: str, folder: str, files: Sequence[str]) -> None:
    """Raises Fault where `directory` itself, or a folder below it, is the copy: fetching another one helps nobody."""
    if directory.is_file():
        if directory.name == archive:
            raise Fault(f"DATA_DIR: {directory} is the archive itself.", f"Set DATA_DIR={directory.parent}.")
        raise Fault(f"DATA_DIR: {directory} is a file.", f"Name the directory that holds {archive} or {folder}.")
    if all((directory / name).is_file() for name in files):
        raise Fault(
            f"DATA_DIR: {directory} holds the unpacked files themselves; they are looked for in a folder {folder}.",
            f"Set DATA_DIR={directory.parent}."
            if directory.name == folder
            else f"Call that folder {folder} and name the one around it in DATA_DIR.",
        )
    found = nested(directory, archive, folder, files)
    if found is not None:
        raise Fault(f"DATA_DIR: CIFAR-10 lies deeper, in {found}.", f"Set DATA_DIR={found}.")


def nested(directory: Path, archive: str, folder: str, files: Sequence[str]) -> Path | None:
    """The first folder below `directory` that holds the archive or the whole unpacked folder."""
    looked = 0
    for parent, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place, looked = Path(parent), looked + 1
        if place != directory and (archive in names or all((place / folder / name).is_file() for name in files)):
            return place
        if len(place.relative_to(directory).parts) >= DEPTH or looked > MOST_FOLDERS:
            folders.clear()
    return None


def lacking(directory: Path, folder: str, files: Sequence[str]) -> str:
    """Which of the unpacked files are not there, in words, where some are; else nothing."""
    missing = [name for name in files if not (directory / folder / name).is_file()]
    if not (directory / folder).is_dir() or not missing:
        return ""
    return f"DATA_DIR: {directory / folder} lacks {', '.join(missing)}"
