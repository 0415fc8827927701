"""A table of file names and labels, as competitions, fastai, Hugging Face, Roboflow and people with Excel write it."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from job.console.logs import printable
from job.data.parts import class_name, part_of
from job.errors import Fault, os_faults

FILE_COLUMNS = {
    *("file", "files", "filename", "filenames", "image", "images", "imageid", "imagename", "img", "imgname", "id"),
    *("path", "filepath", "filepaths", "imagepath", "imgpath", "name", "photo", "picture", "fname"),
}
LABEL_COLUMNS = {
    *("label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "target", "y"),
    *("breed", "species", "diagnosis"),
}
PART_COLUMNS = {"split", "set", "dataset", "subset", "partition", "part"}
SEPARATORS = ",;\t|"
REMEDY = "Its first line names the columns, such as file,label; every further line has an image's name and its class."


@dataclass(frozen=True)
class Row:
    """An image's name as the table spells it, its class, and its part where the table tells that too."""

    file: str
    label: str
    part: str | None


@dataclass(frozen=True)
class Columns:
    """Where a row's file, label and part stand; or instead of one label a column for each class."""

    file: int
    label: int | None
    part: int | None
    classes: tuple[tuple[int, str], ...] = ()


def read(table: Path) -> list[Row] | None:
    """The rows of a table; None where its first line names no columns of files and labels.

    Raises Fault where a row has not both, or the file is no text.
    """
    with os_faults(f"DATA_DIR: cannot read {printable(str(table))}", "DATA_DIR"):
        content = table.read_bytes()
    try:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(SEPARATORS, key=first.count)
        heading, *lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator) if text else [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Fault(f"DATA_DIR: {printable(str(table))} is not a table in UTF-8 ({error}).", REMEDY) from error
    rows = [(number, row) for number, row in enumerate(lines, 2) if any(cell.strip() for cell in row)]
    found = columns(heading, [row for _, row in rows])
    return None if found is None else [row_of(table, number, cells, found) for number, cells in rows]


def columns(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns | None:
    """What the columns are by their names. Of two columns one that is known tells the other; several columns of 0 and
    1 beside the file, with one 1 in each row, are the classes.
    """
    names = ["".join(sign for sign in name.lower() if sign.isalnum()) for name in heading]

    def place(known: set[str]) -> int | None:
        return next((place for place, name in enumerate(names) if name in known), None)

    file, label, part = place(FILE_COLUMNS), place(LABEL_COLUMNS), place(PART_COLUMNS)
    if len(names) == 2 and (file is None) != (label is None):
        file, label = (file, 1 - file) if file is not None else (1 - (label or 0), label)
    if file is None:
        return None
    if part is not None and any(len(row) <= part or not part_named(row[part]) for row in rows):
        part = None
    if label is not None:
        return Columns(file, label, part)
    others = [place for place in range(len(names)) if place not in (file, part)]
    if len(others) < 2 or not all(is_one_of(row, others) for row in rows):
        return None
    return Columns(file, None, part, tuple((place, heading[place].strip()) for place in others))


def part_named(text: str) -> str | None:
    return part_of(text.strip(), exact=True)


def is_one_of(row: Sequence[str], places: Sequence[int]) -> bool:
    """Whether a row has 1 in one of these places and 0 in all others."""
    if len(row) <= max(places):
        return False
    said = [row[place].strip().removesuffix(".0") for place in places]
    return set(said) <= {"0", "1"} and said.count("1") == 1


def row_of(table: Path, number: int, cells: Sequence[str], places: Columns) -> Row:
    file = cells[places.file].strip() if len(cells) > places.file else ""
    if places.label is None:
        label = next(name for place, name in places.classes if cells[place].strip().startswith("1"))
    else:
        label = cells[places.label].strip() if len(cells) > places.label else ""
    if not file or not label:
        raise Fault(f"DATA_DIR: {printable(table.name)}, line {number}: no file or no label.", REMEDY)
    return Row(file, class_name(label), part_named(cells[places.part]) if places.part is not None else None)
