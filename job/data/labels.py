"""Images whose classes stand in a table beside them: which image each row means, and which part it belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from job.console.logs import event, printable
from job.data import tables
from job.data.files import NO_IMAGES, SUFFIXES, Passed, images, is_hidden, listed, named_as_image, spelled
from job.data.tables import Row
from job.errors import Fault

NAMES = {  # of a table, in small letters and without _ and -, to the part that it labels
    "labels": "train", "label": "train", "metadata": "train", "annotations": "train", "classes": "train",
    "train": "train", "trainlabels": "train", "trainlabel": "train", "training": "train", "traininglabels": "train",
    "test": "test", "testlabels": "test", "testlabel": "test",
    "val": "validation", "vallabels": "validation", "valid": "validation", "validlabels": "validation",
    "validation": "validation", "validationlabels": "validation",
}  # fmt: skip
GENERAL = ("labels", "label", "metadata", "annotations", "classes")  # that may label all parts
Parts = dict[str, list[tuple[Path, str]]]


@dataclass(frozen=True)
class Table:
    """A table with the folder that its images are looked for in first, and the part that its rows belong to where
    neither the row nor the image's folder tells.
    """

    path: Path
    base: Path
    part: str
    general: bool
    rows: list[Row]


def parts(root: Path, folders: dict[str, Path], passed: Passed) -> tuple[Parts, str] | None:
    """Part → image files with their classes, and how they were found; None where no table labels training images.

    `folders` are the parts that have one. Images without a label are told. Raises Fault for a row without its image.
    """
    candidates = list(tables_of(root, folders))
    if not candidates:
        return None
    noted = Passed(passed.variable)
    here = {spelled(file.relative_to(root)): file for file in images(root, noted)}
    used: dict[str, Table] = {}
    sorted_out: dict[Path, tuple[str, str]] = {}
    for table in candidates:
        found = located(table, root, folders, here)
        if not found:
            event("data", f"{printable(str(table.path))} names no image that lies here: not used", level="WARNING")
            continue
        if table.part in used:
            both = f"{printable(used[table.part].path.name)} and {printable(table.path.name)}"
            raise Fault(f"DATA_DIR: {root} has {both}: which one is it?", "Remove one of them.")
        used[table.part] = table
        sorted_out |= found
    if "train" not in used:
        return None
    for table in used.values():
        noted.forget(NO_IMAGES, spelled(table.path.relative_to(root)))
    passed.add(noted)
    for name, file in here.items():
        if file not in sorted_out:
            passed.note("image(s) without a label, left out", name)
    result: Parts = {"train": []}
    for file, (label, part) in sorted(sorted_out.items(), key=lambda each: (each[1][0], each[0])):
        result.setdefault(part, []).append((file, label))
    told = ", ".join(printable(spelled(table.path.relative_to(root))) for table in used.values())
    return result, told


def tables_of(root: Path, folders: dict[str, Path]) -> Iterator[Table]:
    """The tables beside the images, and those within a part's folder."""
    for place, own in ((root, None), *((folder, part) for part, folder in folders.items())):
        for path in listed(place):
            stem = path.stem.lower().replace("_", "").replace("-", "")
            part = own if own and stem in NAMES else NAMES.get(stem)
            if path.suffix.lower() not in (".csv", ".tsv") or is_hidden(path.name) or not part or not path.is_file():
                continue
            rows = tables.read(path)
            if rows is None:
                said = "its first line names no column of file names and of labels: not used"
                event("data", f"{printable(str(path))}: {said}", level="WARNING")
                continue
            yield Table(path, place if own else folders.get(part, root), part, own is None and stem in GENERAL, rows)


def located(table: Table, root: Path, folders: dict[str, Path], here: dict[str, Path]) -> dict[Path, tuple[str, str]]:
    """Image → class and part, for every row; nothing where no image of them is here. Raises Fault where some are not,
    and for an image that has two labels.
    """
    within = f"{spelled(table.base.relative_to(root))}/" if table.base != root else ""
    indices = [Names.of({name[len(within) :]: file for name, file in here.items() if name.startswith(within)})]
    indices += [Names.of(here)] if within else []
    found: dict[Path, tuple[str, str]] = {}
    spelt: dict[Path, str] = {}
    missing = []
    for row in table.rows:
        file = lookup(row.file, indices)
        if file is None or spelt.setdefault(file, row.file) != row.file:  # two names for one file: one means another
            missing.append(row.file)
            continue
        placed = next((part for part, folder in folders.items() if folder in file.parents), None)
        part = row.part or (placed if table.general else None) or table.part
        if found.setdefault(file, (row.label, part)) != (row.label, part):
            raise Fault(
                f"DATA_DIR: {printable(table.path.name)} gives {printable(row.file)} two labels.",
                "Remove the wrong line.",
            )
    if missing and found:
        names = ", ".join(map(printable, missing[:5]))
        raise Fault(
            f"DATA_DIR: {printable(table.path.name)} names {len(missing):,} image(s) that are not there, or that two "
            f"files could be: {names}{' …' if len(missing) > 5 else ''}.",
            f"Names are those of files below the folder, with or without {', '.join(SUFFIXES[:2])} and so on.",
        )
    return found


@dataclass(frozen=True)
class Names:
    """Every way in which a table may name a file, with its ending or without: by its path, or by its name alone."""

    paths: dict[str, list[Path]]
    short: dict[str, list[Path]]

    @staticmethod
    def of(here: dict[str, Path]) -> Names:
        names = Names({}, {})
        for name, file in here.items():
            name = unicodedata.normalize("NFC", name)
            for known, key in ((names.paths, name), (names.short, PurePosixPath(name).name)):
                known.setdefault(key, []).append(file)
                if named_as_image(key):
                    known.setdefault(key[: -len(PurePosixPath(key).suffix)], []).append(file)
        return names


def lookup(said: str, indices: Sequence[Names]) -> Path | None:
    """The one file that a name means: as it stands, or without the folders in front that another machine had."""
    steps = unicodedata.normalize("NFC", said).replace("\\", "/").removeprefix("./").split("/")
    for start in range(len(steps)):
        name = "/".join(steps[start:])
        for known in (*(names.paths for names in indices), *(names.short for names in indices)):
            found = known.get(name, [])
            if len(found) == 1:
                return found[0]
    return None
