"""Whether the data set is there, or can be had, and is what it should be."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from job import data, storage
from job.console.logs import printable
from job.data import cache, cifar10, download, folder, misplaced, synthetic
from job.data.addresses import public
from job.data.draws import tuning_counts, tuning_doubt
from job.data.part import data_file
from job.data.picture import Shape
from job.preflight import disk, fetched, images
from job.preflight.findings import Finding, failed, ok, warn
from job.settings import Settings
from job.storage.room import nearest, size

MORE_IMAGES = "Raise TUNE_PERCENT or DATA_LIMIT, or give LEARNING_RATE and EPOCHS."


@dataclass(frozen=True)
class Counts:
    """What a run would train and test on."""

    train: int
    test: int
    classes: int
    validation: int = 0

    @property
    def images(self) -> int:
        return self.train + self.validation + self.test


def look(settings: Settings, kaggle_input: Path, check: Callable[[], object]) -> tuple[Counts | None, list[Finding]]:
    """The data set's size (None where it cannot be told) and what was found.

    Raises Fault for a data set that is not as it must be. `check` is called between images and may raise.
    """
    if settings.dataset == "synthetic":
        counts = Counts(synthetic.TRAIN_COUNT, synthetic.TEST_COUNT, synthetic.CLASSES)
        findings = [ok("data", "synthetic: drawn by the job")]
    elif settings.dataset == "cifar10":
        counts = Counts(cifar10.TRAIN_COUNT, cifar10.TEST_COUNT, cifar10.CLASSES)
        findings = look_for_cifar10(settings, kaggle_input, check)
    else:
        place, findings = fetched.look(settings, check) if settings.data_url else (settings.data_dir, [])
        if place is None:
            return None, findings
        counts, more = look_at_folder(settings.model_copy(update={"data_dir": place}), check)
        findings = [*findings, *more]
    train, test = data.reduced_counts(counts.train, counts.test, counts.classes, settings.data_limit)
    return replace(counts, train=train, test=test), findings


def look_for_cifar10(settings: Settings, kaggle_input: Path, check: Callable[[], object]) -> list[Finding]:
    """A copy whose checksums hold, or a mirror that answers and room for what it sends."""
    searched = None if "data_dir" in settings.model_fields_set else kaggle_input
    found, damaged = cifar10.look(settings.data_dir, searched)
    remedy = "Remove it, or put a whole one there."
    findings = [warn("data", f"{line}; it would not be used", remedy) for line in damaged]
    if found is not None:
        return [*findings, ok("data", f"cifar10: {found}, checksums right")]
    misplaced.check(settings.data_dir, cifar10.ARCHIVE, cifar10.FOLDER, cifar10.FILES)
    incomplete = misplaced.lacking(settings.data_dir, cifar10.FOLDER, cifar10.FILES)
    if incomplete:
        findings.append(warn("data", f"{incomplete}; it would not be used", remedy))
    wanted = data_file(settings.data_dir / cifar10.ARCHIVE, cifar10.ARCHIVE_MD5, cifar10.ARCHIVE_BYTES)
    answer = download.probe(settings.data_url or cifar10.MIRRORS, open_s3=storage.open_object, check=check)
    if answer.url is None:
        fault = wanted.not_fetched(answer.said, answer.for_good)
        return [*findings, failed("data", fault)]
    for url, said in answer.said.items():
        findings.append(warn("data", f"{public(url)}: {said}", "The next mirror is taken."))
    mirror, length = public(answer.url), size(cifar10.ARCHIVE_BYTES)
    findings.append(ok("data", f"cifar10: {mirror} answers; {length} would be downloaded"))
    findings.append(disk.room("DATA_DIR", settings.data_dir, cifar10.ARCHIVE_BYTES))
    if not os.access(nearest(settings.data_dir), os.W_OK):
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        findings.append(failed("data", wanted.unwritable(denied)))
    return findings


def look_at_folder(settings: Settings, check: Callable[[], object]) -> tuple[Counts, list[Finding]]:
    """Layout, counts, and as many images decoded as the time allows; all of them where the cache has them already."""
    tree = folder.scan(settings.data_dir)
    if not tree.test and len(tree.train) == len(tree.classes):
        raise folder.untestable(tree)
    counts = counts_of(tree, settings)
    sizes = Counter(label for _, label in tree.train)
    smallest = min(sizes, key=lambda label: (sizes[label], label))
    about = "" if tree.test else f" (TEST_PERCENT={settings.test_percent:g}, about)"
    own = f", {counts.validation:,} validation" * bool(counts.validation)
    told = (
        f"folder {tree.root} ({tree.told}): {counts.classes} classes, {counts.train:,} training{own} and "
        f"{counts.test:,} test images{about}; smallest class {printable(tree.classes[smallest])} ({sizes[smallest]:,})"
    )
    files, shape = tree.files(), Shape(settings.image_size, settings.resize)
    seen = images.decoded(tree, shape, check)
    faults = seen.faults
    findings = [warn("data", sentence, "Put some there, or leave it.") for sentence in tree.lacking]
    if faults and not settings.skips_bad_images:
        findings.append(failed("data", folder.all_unreadable(tree, faults)))
    part = f"all {len(seen):,} images" if seen.whole else f"{len(seen):,} of {len(files):,} images, drawn at random,"
    left_out = " and would be left out" if faults and settings.skips_bad_images else ""
    said = f"{told}; {part} were decoded, {len(faults)} cannot be read{left_out}"
    findings.insert(0, warn("data", said, "Mend or remove them.") if faults else ok("data", said))
    findings += images.findings(tree, seen, shape, check)
    places = cache.places(tree.root, shape)
    rooms = [disk.room("DATA_DIR", place.parent, len(files) * 3 * shape.side**2) for place in places]
    if not any(room.result == "ok" for room in rooms):
        findings.append(warn("disk", "no place for the decoded images: every start would decode them again"))
    return counts, findings


def counts_of(tree: folder.Tree, settings: Settings) -> Counts:
    """What a run would have of the folder; about, where its test set is yet to be drawn."""
    test = len(tree.test) or round(len(tree.train) * settings.test_percent / 100)
    train = len(tree.train) - (0 if tree.test else test)
    return Counts(train, test, len(tree.classes), len(tree.validation))


def search(settings: Settings, counts: Counts) -> list[Finding]:
    """The split that the search would use. Raises Fault where it leaves nothing to train or validate on."""
    given = f"{counts.train:,} training and {counts.test:,} test images in {counts.classes} classes"
    if settings.learning_rate is not None:
        return [ok("split", f"{given}; no search, LEARNING_RATE and EPOCHS are given")]
    training, validation = tuning_counts(counts.train, settings.tune_percent, counts.validation)
    told = f"{given}; the search trains on {training:,} and validates on {validation:,}"
    doubt = tuning_doubt(training, validation, counts.classes)
    return [warn("split", f"{told}: {doubt}", MORE_IMAGES) if doubt else ok("split", told)]
