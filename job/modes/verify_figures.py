"""What a run's weights say now against what it reported: loss, accuracy, and each answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from job.modes.verify_rows import EXACT, SMALL, Facts, Row, judged
from job.report.answers import FILE, Answers
from job.results import Score


def rows(facts: Facts) -> Iterator[Row]:
    yield Row("data set", "equal", f"SHA-256 {facts.data.sha256[:16]}…, as in the manifest")
    yield test_figures(facts)
    if facts.flipped is not None:
        yield with_flip(facts, facts.flipped)
    if facts.kept is None:
        yield Row(FILE, "not compared", "the run kept no answers")
    else:
        yield from answers(facts, facts.kept)


def test_figures(facts: Facts) -> Row:
    """Loss and accuracy from the weights."""
    images, wanted = len(facts.data.test), facts.wanted
    off = round(abs(facts.now.accuracy - facts.said.accuracy) * images / 100)
    near = abs(facts.now.loss - facts.said.loss) <= wanted.loss * max(facts.said.loss, SMALL)
    if not near or off > wanted.of_images(images):
        how = "which must be equal to the last bit here" if wanted == EXACT else f"not {wanted.describe()}"
        return Row("loss, accuracy", "differs", f"{facts.figures()}, {how}")
    if facts.now == facts.said:
        return Row("loss, accuracy", "equal", f"{facts.figures()}, to the last bit, from the weights")
    return Row("loss, accuracy", "near", f"{facts.figures()}, {wanted.describe()}, from the weights")


def with_flip(facts: Facts, now: Score) -> Row:
    """The second figure: loss and accuracy where each image's answer is averaged with its mirror image's."""
    said = facts.results["test_time_flip"]
    off = round(abs(now.accuracy - said["accuracy_percent"]) * len(facts.data.test) / 100)
    told = f"accuracy {now.accuracy:.2f} % ({said['accuracy_percent']:.2f} %)"
    if not abs(now.loss - said["loss"]) <= facts.wanted.loss * max(said["loss"], SMALL):
        return Row("with test-time flip", "differs", f"loss {now.loss:.6f} ({said['loss']:.6f}), {told}")
    if off > facts.wanted.of_images(len(facts.data.test)):
        return Row("with test-time flip", "differs", told)
    equal = (now.loss, now.accuracy) == (said["loss"], said["accuracy_percent"])
    return Row("with test-time flip", "equal" if equal else "near", f"{told}, from the weights")


def answers(facts: Facts, kept: Answers) -> Iterator[Row]:
    """Each answer from the weights: class and confidence; and which images they are for."""
    now, images = facts.answers, len(facts.answers)
    if len(kept) != images or not np.array_equal(kept.true, now.true):
        yield Row(FILE, "differs", "its true classes are not those of the test set")
        return
    if kept.names != now.names:
        yield Row("names of images", "not compared", "the same images have other names now")
    other, off = others(facts, kept), float(np.abs(kept.confidence - now.confidence).max())
    told = f"{other:,} of {images:,} answers are others, confidences differ by {off:.2g} at most"
    if facts.wanted == EXACT:
        yield judged(FILE, [told] * (other > 0 or off > 0), f"{images:,} answers and confidences, from the weights")
    elif other > facts.wanted.of_images(images):
        yield Row(FILE, "differs", f"{told}, where {facts.wanted.of_images(images):,} may be")
    else:
        yield Row(FILE, "near", f"{told}, from the weights")


def others(facts: Facts, kept: Answers) -> int:
    """How many answers are not the kept ones: another class, or where the run kept them another rank of the true one;
    computed elsewhere the ranks need not be equal, but on the same side of the five likeliest.
    """
    now = facts.answers
    differ = kept.predicted != now.predicted
    if kept.ranks is not None and now.ranks is not None:
        differ |= kept.ranks != now.ranks if facts.wanted == EXACT else kept.near != now.near
    return int(differ.sum())


def untold(facts: Facts) -> Iterator[Row]:
    """What no computation from the weights can show."""
    yield Row("epochs of trials and training", "not compared", "their losses take the whole run again (FRESH=1)")
    yield Row("times, cost, machine, versions", "not compared", "measured or read once, where the run was")
