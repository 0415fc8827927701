"""A table of file names and labels beside a flat folder of images, as competitions hand them out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from job.console.logs import event, printable
from job.data.files import SUFFIXES, Passed, images, listed, named_as_image, spelled
from job.errors import Fault, os_faults

NAMES = {  # of a table, in small letters and without _ and -, to the part that it labels
    "labels": "train", "label": "train", "train": "train", "trainlabels": "train", "trainlabel": "train",
    "annotations": "train", "test": "test", "testlabels": "test", "val": "validation", "vallabels": "validation",
    "valid": "validation", "validation": "validation",
}  # fmt: skip
FILE_COLUMNS = (
    "file",
    "filename",
    "file_name",
    "image",
    "image_id",
    "imageid",
    "img",
    "id",
    "path",
    "name",
    "filepath",
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "breed", "species", "diagnosis", "y")
REMEDY = "Its first line names the columns, such as file,label; every further line has an image's name and its class."


def tables(root: Path) -> dict[str, Path]:
    """Part → the table of its labels, beside the images."""
    found: dict[str, Path] = {}
    for path in listed(root):
        part = NAMES.get(path.stem.lower().replace("_", "").replace("-", ""))
        if path.suffix.lower() == ".csv" and part and path.is_file() and labelled(path):
            if part in found:
                raise Fault(
                    f"DATA_DIR: {root} has {found[part].name} and {path.name}: which one is it?", "Remove one of them."
                )
            found[part] = path
    return found if "train" in found else {}


def labelled(table: Path) -> bool:
    """Whether its columns are known; a table of something else is passed over."""
    with (
        os_faults(f"DATA_DIR: cannot read {printable(str(table))}", "DATA_DIR"),
        table.open(newline="", errors="replace") as file,
    ):
        return columns(next(csv.reader(file), [])) is not None


def columns(header: list[str]) -> tuple[int, int] | None:
    """Where a row's file and label stand; two columns of any name are taken in this order if one of them is known."""
    names = [name.strip().lower().lstrip("\ufeff") for name in header]
    file = next((names.index(name) for name in FILE_COLUMNS if name in names), None)
    label = next((names.index(name) for name in LABEL_COLUMNS if name in names), None)
    if len(names) == 2 and (file is None) != (label is None):
        return (file, 1 - file) if file is not None else (1 - int(label or 0), int(label or 0))
    return None if file is None or label is None else (file, label)


def parts(
    root: Path, tables: dict[str, Path], folders: dict[str, Path], passed: Passed
) -> tuple[dict[str, list[tuple[Path, str]]], str]:
    """Part → image files with their classes, and how they were found. Raises Fault for a row without its image."""
    found = {}
    for part, table in tables.items():
        place = folders.get(part, root)
        here = {spelled(file.relative_to(place)): file for file in images(place, passed, root)}
        rows = list(read(table))
        found[part] = sorted(located(table, rows, here), key=lambda each: (each[1], each[0]))
        unlabelled = len(here) - len(rows)
        if unlabelled > 0 and place != root:
            event(
                "data",
                f"{table.name}: {unlabelled:,} image(s) of {place.name}/ have no label, left out",
                level="WARNING",
            )
    for part in folders.keys() - tables.keys():
        count = sum(1 for _ in images(folders[part], Passed()))
        if count:
            event("data", f"{folders[part].name}/: {count:,} image(s) without labels, left out", level="WARNING")
    return found, ", ".join(table.name for table in tables.values())


def read(table: Path) -> Iterator[tuple[str, str]]:
    """File name and label of every row. Raises Fault where a row has not both, or the file is no text."""
    try:
        with (
            os_faults(f"DATA_DIR: cannot read {printable(str(table))}", "DATA_DIR"),
            table.open(newline="", encoding="utf-8-sig") as file,
        ):
            rows = csv.reader(file)
            places = columns(next(rows, []))
            assert places is not None
            for row in rows:
                if not any(row):
                    continue
                if len(row) <= max(places) or not row[places[0]].strip() or not row[places[1]].strip():
                    raise Fault(f"DATA_DIR: {table.name}, line {rows.line_num}: no file or no label.", REMEDY)
                yield row[places[0]].strip(), row[places[1]].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise Fault(f"DATA_DIR: {printable(str(table))} is not a table in UTF-8 ({error}).", REMEDY) from error


def located(table: Path, rows: list[tuple[str, str]], here: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    """The image of each row: by its path, its name alone, or its name without an ending. Raises Fault for those that
    are not there, and for one that has two labels.
    """
    short: dict[str, list[Path]] = {}
    for name, file in here.items():
        for key in {name, file.name, file.stem, name.rpartition(".")[0]} if named_as_image(name) else {name}:
            short.setdefault(key, []).append(file)
    seen: dict[Path, str] = {}
    missing = []
    for name, label in rows:
        found = [here[name]] if name in here else short.get(name.removeprefix("./"), [])
        if len(found) != 1:
            missing.append(name)
            continue
        if seen.setdefault(found[0], label) != label:
            raise Fault(f"DATA_DIR: {table.name} gives {printable(name)} two labels.", "Remove the wrong line.")
    if missing:
        names = ", ".join(map(printable, missing[:5]))
        raise Fault(
            f"DATA_DIR: {table.name} names {len(missing):,} image(s) that are not there, or that two files could be: "
            f"{names}{' …' if len(missing) > 5 else ''}.",
            f"Names are those of files below the folder, with or without {', '.join(SUFFIXES[:2])} and so on.",
        )
    yield from seen.items()
