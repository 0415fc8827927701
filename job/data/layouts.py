"""What a folder of images means: which are for training, validation and testing, and of which class.

Understood are parts with a folder a class in each (`train/`, `val/`, `test/`, in any of the ways that people write
them), folders of classes alone, and a table of file names and labels beside a flat folder of images.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from job.console.logs import event, printable
from job.data import labels
from job.data.files import KINDS, Passed, images, is_hidden, is_left_behind, listed, named_as_image, spelled
from job.errors import Fault

PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
REMEDY = (
    "DATA_DIR must hold train/<class>/* and test/<class>/* (val/<class>/* if you like), or <class>/* alone, or images "
    "with a table labels.csv of file names and labels."
)
DEEP = 3  # folders inside each other that hold nothing else, as unpacked archives have them


@dataclass(frozen=True)
class Listed:
    """Image files with the names of their classes, in alphabetical order of class and file. A part that the folder
    does not tell apart is empty. `told`: how the folder was understood.
    """

    root: Path
    told: str
    parts: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)


def understood(root: Path, passed: Passed) -> Listed:
    """The images below `root` by part and class. Raises Fault where there is no single reading."""
    if not root.is_dir():
        raise Fault(f"DATA_DIR: {printable(str(root))} is not a directory.", REMEDY)
    place = root
    for _ in range(DEEP):
        found = reading(place, passed)
        if found is not None:
            if place != root:
                event("data", f"{root}: the data set is taken from {printable(str(place.relative_to(root)))} inside it")
            return found
        inside = folders(place)
        if len(inside) != 1:
            break
        (place,) = inside
    raise Fault(f"DATA_DIR: {what_lies(root)}.", REMEDY)


def reading(root: Path, passed: Passed) -> Listed | None:
    """`root` as a data set, None where it is none."""
    parts = parts_of(root)
    tables = labels.tables(root)
    if tables:
        found, told = labels.parts(root, tables, parts, passed)
        return Listed(root, told, found)
    if "train" in parts and any(folders(parts["train"])):
        told = ", ".join(f"{folder.name}/" for folder in parts.values())
        return Listed(root, told, {part: by_class(folder, passed, part) for part, folder in parts.items()})
    classes = [folder for folder in folders(root) if folder not in parts.values()]
    if not parts and len(classes) > 1 and any(True for _ in images(classes[0], Passed())):
        return Listed(root, "class folders", {"train": by_class(root, passed, "train")})
    return None


def parts_of(root: Path) -> dict[str, Path]:
    """Part → folder. Raises Fault where two folders could be the same part."""
    found: dict[str, Path] = {}
    for exact in (True, False):
        for folder in folders(root):
            part = part_of(folder.name, exact=exact)
            if part is None or folder in found.values() or (not exact and part in found):
                continue
            if part in found:
                both = f"{printable(found[part].name)}/ and {printable(folder.name)}/"
                raise Fault(f"DATA_DIR: {root} has {both}: which one is it?", "Rename or remove one of them.")
            found[part] = folder
    return {part: found[part] for part in PARTS if part in found}


def part_of(name: str, *, exact: bool) -> str | None:
    """Which part a folder of this name is: `Train`, or where it need not be exact, `birds-train-v2`."""
    words = [name.lower()] if exact else re.split(r"[-_. ]+", name.lower())
    parts = {part for part, names in PARTS.items() if any(word in names for word in words)}
    return parts.pop() if len(parts) == 1 else None


def by_class(folder: Path, passed: Passed, part: str) -> list[tuple[Path, str]]:
    """Every image below a class folder with its class. Classes whose names Unicode holds equal are one.

    Raises Fault for a link to a class that leads nowhere, and for a class without an image to train on.
    """
    note_what_is_left_out(folder, passed)
    found = []
    for place in folders(folder):
        inside = list(images(place, passed, folder.parent))
        found += [(class_name(place.name), file) for file in inside]
        if not inside and part == "train":
            raise Fault(
                f"DATA_DIR: {printable(str(place))} holds no image ({KINDS}).", "Put some there, or remove the folder."
            )
        if not inside:
            passed.note("class folder(s) without images", spelled(place.relative_to(folder.parent)))
    return [(file, name) for name, file in sorted(found, key=lambda each: each[0])]


def class_name(name: str) -> str:
    """Composed (Unicode's NFC), as text that every file takes."""
    return unicodedata.normalize("NFC", spelled(Path(name)))


def note_what_is_left_out(folder: Path, passed: Passed) -> None:
    """Loose images beside the class folders, and hidden folders of images. Raises Fault for a class that is no more
    than a link that leads nowhere.
    """
    for path in listed(folder):
        name = f"{folder.name}/{spelled(Path(path.name))}"
        if is_left_behind(path.name):
            passed.left_behind += 1
        elif not path.exists() and not named_as_image(path.name):
            raise Fault(f"DATA_DIR: the link {printable(str(path))} leads nowhere.", "Mend or remove it.")
        elif path.is_file() and named_as_image(path.name):
            passed.note("image(s) in no class folder, left out", name)
        elif path.is_dir() and is_hidden(path.name):
            inside = sum(1 for _ in images(path, Passed()))
            if inside:
                passed.note("image(s) in hidden folders, left out", name, inside)


def folders(root: Path) -> list[Path]:
    """Those that may be parts or classes."""
    return [
        path for path in listed(root) if path.is_dir() and not is_hidden(path.name) and not is_left_behind(path.name)
    ]


def what_lies(root: Path) -> str:
    """A sentence on what a folder holds, for whoever expected something else in it."""
    inside = [path for path in listed(root) if not is_left_behind(path.name) and not is_hidden(path.name)]
    if not inside:
        return f"{root} is empty"
    pictures = sum(named_as_image(path.name) for path in inside)
    places = [f"{printable(path.name)}/" for path in inside if path.is_dir()]
    said = [f"the folder(s) {', '.join(places[:5])}{' …' if len(places) > 5 else ''}"] if places else []
    said += [f"{pictures:,} image(s) ({KINDS}) in no class folder"] if pictures else []
    others = len(inside) - pictures - len(places)
    said += [f"{others:,} other file(s)"] if others else []
    return f"{root} holds {', '.join(said)}, and no classes that can be told apart"


def missing_classes(listed: Listed) -> Iterator[str]:
    """Sentences on classes of the training set that another part has no image of."""
    known = {name for _, name in listed.parts["train"]}
    for part in ("validation", "test"):
        lacking = sorted(known - {name for _, name in listed.parts.get(part, [])})
        if part in listed.parts and lacking:
            yield f"the {part} set has no image of {', '.join(map(printable, lacking[:10]))}" + " …" * (
                len(lacking) > 10
            )
