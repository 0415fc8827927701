"""Which images: parts of a data set that are drawn, by chance or class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.errors import Fault
from job.seeds import seed_for

UNEVEN = 2  # times more or less than asked is what chance may keep of a class for testing
FEW_A_CLASS = 10  # validation images; the loss over fewer is told as what it is


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` row numbers in ascending order, each class with its share of them (largest remainders rounded up) and,
    where `count` allows, at least one.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    wanted = min(count, len(labels))
    shares = sizes * (wanted / len(labels))
    quota = np.maximum(np.floor(shares).astype(np.int64), 1)
    while quota.sum() < wanted:
        quota[np.argmax(shares - quota)] += 1
    while quota.sum() > wanted and quota.max() > 1:  # single images kept for tiny classes come from the large ones
        quota[np.argmax(np.where(quota > 1, quota - shares, -np.inf))] -= 1
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(labels == label))[:number] for label, number in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def kept_for_testing(drawn: Sequence[float], share: float) -> set[float]:
    """Which of the numbers in [0, 1) that a class's images drew are kept for testing: those below `share`, so that an
    image more moves no other. In a small class chance may go astray: where these are more than twice or less than
    half of what was asked, the next numbers are taken, or the last given back, until they are not. One number at least
    is kept and one is not, where there are two; equal images have drawn the same one.
    """
    sizes = Counter(drawn)
    *order, last = sorted(sizes)
    asked = round(len(drawn) * share, 9)  # 0.14 of 100 is 14
    least, most = asked / UNEVEN, asked * UNEVEN
    kept: set[float] = set()
    images = 0
    for number in order:
        if (number < share or images < least) and images + sizes[number] <= most:
            kept.add(number)
            images += sizes[number]
    if not kept and order:
        kept = {min((*order, last), key=lambda number: (sizes[number], number))}
    return kept


def tuning_counts(count: int, percent: float, validation: int = 0) -> tuple[int, int]:
    """How many of `percent` of `count` training images the search trains on, four fifths, and validates on; all of them
    are trained on where the data set has `validation` images of its own for that.

    Raises Fault where that leaves no image to train on or none to validate on.
    """
    drawn = round(count * percent / 100)
    training = drawn if validation else round(drawn * 0.8)
    held = validation or drawn - training
    if training < 1 or held < 1:
        raise Fault(
            f"TUNE_PERCENT={percent:g} of {count} training images is {drawn}: too few to train and to validate on.",
            "Raise TUNE_PERCENT or DATA_LIMIT.",
        )
    return training, held


@dataclass(frozen=True)
class Tuning:
    """Row numbers, among the training images, of what the search trains and validates on. `missed` are the labels of
    which a plain random draw left no image to train on: then it was drawn by class instead.
    """

    rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    missed: tuple[int, ...] = ()


def tuning_rows(labels: NDArray[np.int64], percent: float, seed: int, validation: int = 0) -> Tuning:
    """A random `percent` of the training images with these labels, split 80/20 unless there are `validation` images of
    their own. Stratified where a class would be missing from what is trained on and need not be. Raises Fault as
    `tuning_counts` does.
    """
    training, held = tuning_counts(len(labels), percent, validation)
    drawn, classes = training + (0 if validation else held), np.unique(labels)
    rows = np.random.default_rng(seed_for(seed, "tuning subset")).permutation(len(labels))[:drawn]
    missed = np.setdiff1d(classes, labels[rows[:training]])
    if not len(missed) or training < len(classes):
        return Tuning(rows[:training], rows[training:])
    rows = stratified(labels, drawn, seed_for(seed, "tuning subset", "by class"))
    chosen = stratified(labels[rows], training, seed_for(seed, "tuning subset", "by class", "training"))
    return Tuning(rows[chosen], np.delete(rows, chosen), tuple(missed.tolist()))


def tuning_doubt(training: int, validation: int, classes: int) -> str:
    """Why a search over so few images tells little; empty where they are enough."""
    if training < classes:
        return f"the search trains on {training:,} images, fewer than there are classes ({classes:,})"
    if validation < FEW_A_CLASS * classes:
        return (
            f"the search validates on {validation:,} images of {classes:,} classes: so few that chance has a large "
            "part in which learning rate wins"
        )
    return ""
