"""What a folder of images means: which are for training, validation and testing, and of which class.

Understood are parts with a folder a class in each (`train/`, `val/`, `test/`, in any of the ways that people write
them), the same the other way round, folders of classes alone, and a table of file names and labels beside the images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from job.console.logs import event, printable
from job.data import labels
from job.data.files import (
    FILE,
    FOLDER,
    KINDS,
    NOWHERE,
    Passed,
    images,
    is_hidden,
    is_left_behind,
    kind_of,
    left_out,
    listed,
    named_as_image,
    spelled,
)
from job.data.labels import Parts
from job.data.parts import PARTS, class_name, part_of
from job.errors import Fault

REMEDY = (
    "DATA_DIR must hold train/<class>/* and test/<class>/* (val/<class>/* if you like), or <class>/* alone, or images "
    "with a table labels.csv of file names and labels."
)
DEEP = 3  # folders inside each other that hold nothing else, as unpacked archives have them
LOOSE = "image(s) in no class folder, left out"
WRAPPERS = ("images", "imgs", "image", "data")  # folders around the classes of a part


@dataclass(frozen=True)
class Listed:
    """Image files with the names of their classes, in alphabetical order of class and file. A part that the folder
    does not tell apart is empty. `told`: how the folder was understood.
    """

    root: Path
    told: str
    parts: Parts = field(default_factory=dict)


def understood(root: Path, passed: Passed) -> Listed:
    """The images below `root` by part and class. Raises Fault where there is no single reading."""
    if kind_of(root) != FOLDER:
        raise Fault(f"DATA_DIR: {printable(str(root))} is not a directory.", REMEDY)
    place = root
    for _ in range(DEEP):
        found = reading(place, passed)
        if found is not None:
            if place != root:
                inside = printable(spelled(place.relative_to(root)))
                event("data", f"{root}: the data set is taken from {inside} inside it")
            return found
        inside_it = folders(place)
        if len(inside_it) != 1:
            break
        note_others(place, inside_it, passed)
        (place,) = inside_it
    raise Fault(f"DATA_DIR: {what_lies(root)}.", REMEDY)


def reading(root: Path, passed: Passed) -> Listed | None:
    """`root` as a data set, None where it is none."""
    parts = {part: unwrapped(folder, part) for part, folder in parts_of(root).items()}
    by_table = labels.parts(root, parts, passed)
    if by_table is not None:
        return Listed(root, by_table[1], by_table[0])
    if is_parted(root, parts):
        return by_parts(root, parts, passed)
    classes = folders(root)
    like_parts = [folder for folder in classes if part_of(folder.name, exact=True)]
    if any(map(folders, like_parts)) or len(like_parts) > 1 or len(classes) - len(like_parts) < 2:
        return None
    return by_classes(root, classes, passed)


def is_parted(root: Path, parts: dict[str, Path]) -> bool:
    """Whether there is a training set with folders in it. `steam-train/` beside other folders may well be a class."""
    if "train" not in parts or not folders(parts["train"]):
        return False
    return len(parts) > 1 or len(folders(root)) == 1 or part_of(parts["train"].name, exact=True) is not None


def by_parts(root: Path, parts: dict[str, Path], passed: Passed) -> Listed:
    """`train/<class>/*` and so on. A test or validation set of loose images has no labels and is left out."""
    at_root = [folder for folder in folders(root) if any(folder in (part, *part.parents) for part in parts.values())]
    note_others(root, at_root, passed)
    for part in ("validation", "test"):
        if part in parts and not folders(parts[part]) and not is_empty(parts[part]):
            left_out(parts[part], f"{parts[part].name}/", f"image(s) of a {part} set without classes, left out", passed)
            del parts[part]
    told = ", ".join(f"{printable(spelled(folder.relative_to(root)))}/" for folder in parts.values())
    return Listed(root, told, {part: by_class(folder, passed, part) for part, folder in parts.items()})


def by_classes(root: Path, classes: list[Path], passed: Passed) -> Listed | None:
    """`<class>/*` alone, or `<class>/train/*` and `<class>/test/*`; None where no folder holds an image."""
    if not any(True for folder in classes for _ in images(folder, Passed())):
        return None
    inner = {folder: parts_of(folder) for folder in classes}
    if all("train" in parts and len(parts) == len(folders(folder)) for folder, parts in inner.items()):
        found: Parts = {}
        note_others(root, classes, passed)
        for folder, parts in inner.items():
            note_others(folder, parts.values(), passed)
            for part, place in parts.items():
                inside = images(place, passed, root)
                found.setdefault(part, []).extend((file, class_name(folder.name)) for file in inside)
        return Listed(root, "class folders with parts", {part: in_order(files) for part, files in found.items()})
    return Listed(root, "class folders", {"train": by_class(root, passed, "train")})


def parts_of(root: Path) -> dict[str, Path]:
    """Part → folder. Raises Fault where two folders could be the same part, and where one is a link to nowhere."""
    found: dict[str, Path] = {}
    for exact in (True, False):
        for folder in (path for path in shown(root) if kind_of(path) in (FOLDER, NOWHERE)):
            part = part_of(folder.name, exact=exact)
            if part is None or folder in found.values() or (not exact and part in found):
                continue
            if kind_of(folder) == NOWHERE:
                if exact:
                    raise leads_nowhere(folder)
                continue
            if part in found:
                both = f"{printable(found[part].name)}/ and {printable(folder.name)}/"
                raise Fault(f"DATA_DIR: {root} has {both}: which one is it?", "Rename or remove one of them.")
            found[part] = folder
    return {part: found[part] for part in PARTS if part in found}


def unwrapped(folder: Path, part: str) -> Path:
    """The folder of a part's classes, where an archive put it into another one: `train/train/<class>`."""
    for _ in range(DEEP):
        inside = folders(folder)
        if len(inside) != 1 or (part_of(inside[0].name, exact=False) != part and inside[0].name not in WRAPPERS):
            break
        (folder,) = inside
    return folder


def by_class(folder: Path, passed: Passed, part: str) -> list[tuple[Path, str]]:
    """Every image below a class folder with its class. Classes whose names Unicode holds equal are one.

    Raises Fault for a link to a class that leads nowhere, and for a class without an image to train on.
    """
    for path in shown(folder):
        if kind_of(path) == NOWHERE and not named_as_image(path.name):
            raise leads_nowhere(path)
    classes = folders(folder)
    note_others(folder, classes, passed, folder.parent)
    found = []
    for place in classes:
        inside, name = list(images(place, passed, folder.parent)), class_name(place.name)
        found += [(file, name) for file in inside]
        if not inside and part == "train":
            raise Fault(
                f"DATA_DIR: {printable(str(place))} holds no image ({KINDS}).", "Put some there, or remove the folder."
            )
        if not inside:
            passed.note("class folder(s) without images", spelled(place.relative_to(folder.parent)))
    return in_order(found)


def in_order(found: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """By class, and within one as they were found."""
    return sorted(found, key=lambda each: each[1])


def note_others(folder: Path, taken: Collection[Path], passed: Passed, root: Path | None = None) -> None:
    """Notes what lies in a folder beside what is `taken` of it, named below `root`: images, and folders of images."""
    for path in listed(folder):
        name = spelled(path.relative_to(root or folder))
        if path in taken:
            continue
        if is_left_behind(path.name):
            passed.left_behind += 1
            continue
        kind = kind_of(path)
        if kind == FOLDER and is_hidden(path.name):
            left_out(path, name, "image(s) in hidden folders, left out", passed)
        elif kind == FOLDER:
            left_out(path, name, "image(s) in folders that are no part of the data set, left out", passed)
        elif named_as_image(path.name):
            passed.note("hidden image(s), left out" if is_hidden(path.name) else LOOSE, name)


def leads_nowhere(path: Path) -> Fault:
    return Fault(f"DATA_DIR: the link {printable(str(path))} leads nowhere.", "Mend or remove it.")


def shown(root: Path) -> list[Path]:
    """What lies in a folder and is neither hidden nor left behind."""
    return [path for path in listed(root) if not is_hidden(path.name) and not is_left_behind(path.name)]


def folders(root: Path) -> list[Path]:
    """Those that may be parts or classes."""
    return [path for path in shown(root) if kind_of(path) == FOLDER]


def is_empty(folder: Path) -> bool:
    return not any(True for _ in images(folder, Passed()))


def number(folder: Path) -> str:
    """How many images a folder holds, as a sentence tells it."""
    try:
        return f"{sum(1 for _ in images(folder, Passed())):,}"
    except Fault:
        return "?"


def what_lies(root: Path) -> str:
    """A sentence on what a folder holds, for whoever expected something else in it."""
    inside = shown(root)
    if not inside:
        return f"{root} is empty"
    pictures = sum(named_as_image(path.name) for path in inside)
    places = [f"{printable(path.name)}/ ({number(path)} images)" for path in inside if kind_of(path) == FOLDER]
    said = [f"the folder(s) {', '.join(places[:5])}{' …' if len(places) > 5 else ''}"] if places else []
    said += [f"{pictures:,} image(s) ({KINDS}) in no class folder"] if pictures else []
    others = [printable(path.name) for path in inside if kind_of(path) == FILE and not named_as_image(path.name)]
    said += [f"the other file(s) {', '.join(others[:5])}{' …' if len(others) > 5 else ''}"] if others else []
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
