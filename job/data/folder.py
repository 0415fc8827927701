"""A person's own images, of any kind and size, from the folder as people have it (`layouts`).

Every file is read and told by its content, decoded once with all cores, and kept as one cache file, which is mapped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from job.console.logs import event, printable
from job.data import cache, decoding, layouts
from job.data.arrays import Arrays, Bad
from job.data.decoding import Decoded
from job.data.download import Bar
from job.data.draws import kept_for_testing
from job.data.files import Passed, spelled
from job.data.known import contents as known_contents
from job.data.parts import PARTS
from job.data.picture import SMALL, Shape
from job.errors import Fault, os_faults

CACHE_FORMAT = 5  # raise it when decoding changes, so that older caches are not taken
TOLD = 20  # unreadable files in a message

Labelled = tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class Rules:
    """How a folder is taken: the percentage kept for testing where it has no test set, the seed that draws it,
    whether unreadable images are left out, and what all are brought to.
    """

    test_percent: float = 20.0
    seed: int = 0
    skip: bool = False
    shape: Shape = SMALL


RULES = Rules()


@dataclass(frozen=True)
class Tree:
    """The image files of a data set with their labels, which index `classes`. `test` is empty where the folder has
    none; `told` says how the folder was understood.
    """

    root: Path
    told: str
    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled
    test: Labelled
    lacking: tuple[str, ...] = field(default=())

    def files(self) -> list[Path]:
        return [file for file, _ in (*self.train, *self.validation, *self.test)]

    def name(self, file: Path) -> str:
        """An image's path below `root`, as text."""
        return spelled(file.relative_to(self.root))


class Unreadable(Fault):
    """Images that cannot be read; all of them are in `bad`."""

    def __init__(self, what: str, remedy: str, bad: Sequence[Bad]) -> None:
        super().__init__(what, remedy)
        self.bad = bad


def load(root: Path, *, bar: Bar, rules: Rules = RULES) -> Arrays:
    """All images below `root`, in the shape that `rules` say.

    Raises Fault, naming the file or folder, for a folder of another layout; Unreadable where `rules` leave none out and
    an image cannot be read; TemporaryFault where the disk does not answer.
    """
    tree = scan(root)
    places = cache.places(tree.root, rules.shape)
    noted = next((noted for place in places if (noted := cache.known(place, tree.root))), {})
    contents, known = known_contents(tree.files(), noted, bar)
    tree = tested(tree, contents, rules)
    key = cache.Key(fingerprint(tree, contents, rules.shape), known)
    return arrays_of(tree, decoded(tree, key, rules.shape, bar), rules)


def decoded(tree: Tree, key: cache.Key, shape: Shape, bar: Bar) -> Decoded:
    """The images from the cache, or into it; in memory where it can be nowhere."""
    places, files = cache.places(tree.root, shape), tree.files()
    for place in places:
        stored = cache.read(place, key.fingerprint, tree.root)
        if stored is not None:
            event("data", f"decoded images taken from the cache {place}")
            return stored
    decode_to = partial(decoding.decode, files, tree.root, shape, bar)
    for place in places:
        stored = cache.write(place, key, (len(files), shape.side), decode_to)
        if stored is not None:
            event("data", f"decoded images cached in {place}")
            return stored
    told = f"no place to cache the decoded images (tried {', '.join(map(str, places))}): they are kept in memory"
    event("data", told, level="WARNING")
    return decoding.decode_into_memory(len(files), shape.side, decode_to)


def scan(root: Path) -> Tree:
    """Lists the tree without reading an image. Raises Fault where it cannot be understood as a data set."""
    passed = Passed()
    with os_faults(f"DATA_DIR: cannot read {printable(str(root))}", "DATA_DIR"):
        listed = layouts.understood(root, passed)
    passed.tell(str(root))
    found = listed.parts["train"]
    classes = tuple(sorted({name for _, name in found}))
    place = f"DATA_DIR: {printable(str(root))} ({listed.told})"
    for part, files in listed.parts.items():
        unknown = sorted({name for _, name in files} - set(classes))
        if unknown:
            raise Fault(
                f"{place}: {part} has classes that train lacks: {', '.join(map(printable, unknown))}.", layouts.REMEDY
            )
        if not files:
            raise Fault(f"{place}: there is no image in {part}.", layouts.REMEDY)
    if len(classes) < 2:
        raise Fault(f"{place} has {len(classes)} class(es) with images; a classifier needs two.", layouts.REMEDY)
    labels = {name: label for label, name in enumerate(classes)}
    train, validation, test = (
        tuple((file, labels[name]) for file, name in listed.parts.get(part, ())) for part in PARTS
    )
    lacking = tuple(layouts.missing_classes(listed))
    for sentence in lacking:
        event("data", f"{root}: {sentence}", level="WARNING")
    return Tree(root, listed.told, classes, train, validation, test, lacking)


def tested(tree: Tree, contents: dict[Path, str], rules: Rules) -> Tree:
    """The tree with a test set: its own, or about `test_percent` of each class. Which images these are depends on the
    seed and each image's own bytes (see `draws.kept_for_testing`), and equal images are on the same side.

    Raises Fault where nothing is left to test on.
    """
    if tree.test:
        return tree
    classes: dict[int, dict[Path, float]] = {}
    for file, label in tree.train:
        classes.setdefault(label, {})[file] = share(rules.seed, contents[file])
    test: set[Path] = set()
    for mine in classes.values():
        kept = kept_for_testing(tuple(mine.values()), rules.test_percent / 100)
        test |= {file for file, drawn in mine.items() if drawn in kept}
    if not test:
        raise untestable(tree)
    split = {True: tuple(each for each in tree.train if each[0] in test)}
    split[False] = tuple(each for each in tree.train if each[0] not in test)
    event(
        "data",
        f"{tree.root} has no test set: {len(split[True]):,} of {len(tree.train):,} images are kept for testing "
        f"(TEST_PERCENT={rules.test_percent:g})",
    )
    return Tree(tree.root, tree.told, tree.classes, split[False], tree.validation, split[True], tree.lacking)


def untestable(tree: Tree) -> Fault:
    return Fault(
        f"DATA_DIR: {printable(str(tree.root))} has no test set, and no class has two images of which one could "
        "be kept for testing.",
        "Put more images there: a few dozen a class teach something.",
    )


def share(seed: int, content: str) -> float:
    """A number from 0 to 1 that an image draws."""
    drawn = hashlib.sha256(f"{seed}/test/{content}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def fingerprint(tree: Tree, contents: dict[Path, str], shape: Shape) -> str:
    """SHA-256 (hex) over all names, parts, labels and contents."""
    sha = hashlib.sha256(f"{CACHE_FORMAT}\0{shape}\0{tree.classes}\n".encode())
    for part in (tree.train, tree.validation, tree.test):
        sha.update(b"part\n")
        for file, label in part:
            sha.update(f"{tree.name(file)}\0{label}\0{contents[file]}\n".encode())
    return sha.hexdigest()


def arrays_of(tree: Tree, stored: Decoded, rules: Rules) -> Arrays:
    """The images by part, without those that cannot be read. Raises Unreadable where `rules` want all of them, and
    Fault where a class has none left to train on.
    """
    bad = [Bad(**note) for note in stored.found.notes]
    unreadable = [each for each in bad if not each.used]
    if unreadable and not rules.skip:
        raise all_unreadable(tree, unreadable)
    for each in bad:
        event("image", f"{printable(each.file)}: {printable(each.reason)}", level="WARNING")
    left_out = {each.row for each in unreadable}
    parts, kept = [], []
    row = start = 0
    for part in (tree.train, tree.validation, tree.test):
        kept = [each for each, at in zip(part, range(row, row + len(part)), strict=True) if at not in left_out]
        these = slice(start, start + len(kept))  # a view: the images stay where they are
        labels = np.array([label for _, label in kept], dtype=np.int64)
        parts.append((stored.images[these], labels, stored.found.sizes[these], stored.found.contents[these]))
        row, start = row + len(part), these.stop
    images, (train_labels, validation_labels, test_labels), sizes, contents_of = zip(*parts, strict=True)
    train, validation, test = images
    empty = sorted(set(range(len(tree.classes))) - set(train_labels.tolist()))
    if empty or not len(test):
        what = (
            f"class {printable(tree.classes[empty[0]])} has no image to train on" if empty else "no test image is left"
        )
        raise Fault(f"DATA_DIR: {what} that can be read.", layouts.REMEDY)
    return Arrays(
        str(tree.root),
        tree.classes,
        train,
        train_labels,
        test,
        test_labels,
        tuple(tree.name(file) for file, _ in kept),  # of the last part, the test set
        (validation, validation_labels) if tree.validation else None,
        tuple(bad),
        sizes,
        contents_of,
        stored.mapping,
    )


def all_unreadable(tree: Tree, bad: Sequence[Bad]) -> Unreadable:
    shown = "; ".join(f"{printable(each.file)} ({printable(each.reason)})" for each in bad[:TOLD])
    more = f"; and {len(bad) - TOLD} more" if len(bad) > TOLD else ""
    return Unreadable(
        f"DATA_DIR: {len(bad):,} of {len(tree.files()):,} images cannot be read: {shown}{more}.",
        "Mend or remove them, or leave them out with BAD_IMAGES=skip.",
        bad,
    )
