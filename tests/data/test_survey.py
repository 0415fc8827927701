"""What a data set is like: counts by class, images that occur twice, test images that are trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset, decoding, folder, reduced
from job.data.folder import RULES, Rules
from job.data.picture import Shape
from job.data.survey import Sizes
from job.preflight import images
from tests.helpers.folders import quiet


def load(root: Path, rules: Rules = RULES) -> Dataset:
    return data.load(data.Wanted("folder", root, None, 1, rules=rules), Progress("off").bar, storage.open_object)


def test_a_sound_folder(tree: Path) -> None:
    found = load(tree).survey
    assert found is not None
    assert (found.train, found.validation, found.test) == ((4, 4), (), (2, 2))
    assert (found.again_in_train, found.again_in_test, found.leaked) == (0, 0, ())


def test_test_images_that_are_trained_on(tree: Path) -> None:
    """By their pixels, whatever the file is called or how it is stored."""
    shutil.copy(tree / "train/cats/2.png", tree / "test/cats/other.png")
    shutil.copy(tree / "train/dogs/0.png", tree / "train/dogs/again.png")
    dataset = load(tree)
    assert dataset.survey is not None
    assert dataset.survey.leaked == ("test/cats/other.png",)
    assert dataset.survey.again_in_train == 1
    said = dataset.doubts()
    assert any("1 of 5 test images are in the training set as well" in sentence for sentence in said)
    assert any("1 in the training set" in sentence for sentence in said)
    assert dataset.describe()["survey"]["leaked_examples"] == ["test/cats/other.png"]


def test_a_validation_set_of_its_own(tree: Path) -> None:
    shutil.copytree(tree / "test", tree / "val")
    dataset = load(tree)
    assert dataset.validation is not None
    assert len(dataset.validation) == 4
    assert dataset.survey is not None
    assert dataset.survey.validation == (2, 2)
    assert len(dataset.survey.leaked) == 4, "the search has seen them"
    shutil.rmtree(tree / "val")
    assert load(tree).sha256 != dataset.sha256, "it belongs to what a run is"


def test_examples_are_the_first_of_each_class(tree: Path) -> None:
    dataset = load(tree)
    cats, dogs = dataset.examples(3)
    assert (cats == dataset.train.images[:3].numpy()).all()
    assert (dogs == dataset.train.images[4:7].numpy()).all()


def test_what_is_left_out_is_told(tree: Path) -> None:
    (tree / "train/cats/3.jpg").write_text("no image")
    dataset = load(tree, Rules(skip=True))
    assert dataset.describe()["bad_images"] == [
        {"file": "train/cats/3.jpg", "reason": "not a readable image: a text file", "used": False}
    ]
    assert any("1 image that cannot be read is left out" in sentence for sentence in dataset.doubts())


def test_sizes(tree: Path) -> None:
    """The fixture's images are 32x32 but for one of 45x60 in each class and part (width x height)."""
    found = load(tree, Rules(shape=Shape(48, "crop"))).survey
    assert found is not None
    assert found.sizes == Sizes(12, (32, 32), (32, 32), (45, 60), enlarged=12, long=0, side=48, resize="crop")
    padded = load(tree, Rules(shape=Shape(48, "pad"))).survey
    assert padded is not None
    assert padded.sizes is not None
    assert padded.sizes.enlarged == 8, "the longer side counts"
    Image.new("RGB", (151, 100)).save(tree / "train/cats/0.png")
    dataset = load(tree, Rules(shape=Shape(32, "crop")))
    assert dataset.survey is not None
    assert dataset.survey.as_json()["sizes"]["long"] == 1
    assert not any("enlarged" in sentence or "longer" in sentence for sentence in dataset.doubts()), "one of twelve"
    Image.new("RGB", (100, 151)).save(tree / "train/cats/0.png")
    Image.new("RGB", (120, 600)).save(tree / "train/dogs/0.png")
    said = load(tree, Rules(shape=Shape(104, "crop"))).doubts()
    assert any("11 of 12 images have fewer pixels than IMAGE_SIZE=104 and were enlarged" in each for each in said)
    assert any("2 of 12 images are long, beyond 1.5 to 1: of these RESIZE=crop cuts off" in each for each in said)


def test_the_sizes_are_those_of_the_images_that_are_used(tree: Path) -> None:
    arrays = reduced(folder.load(tree, bar=quiet), 4, 1, tree)
    assert arrays.sizes is not None
    assert [len(part) for part in arrays.sizes] == [4, 0, 2]
    (tree / "train/cats/0.png").write_text("no image")
    (sizes, _, _) = folder.load(tree, bar=quiet, rules=Rules(skip=True)).sizes or ((), (), ())
    assert [tuple(size) for size in sizes] == [(32, 32)] * 3 + [(45, 60)] + [(32, 32)] * 3


def test_a_drawn_set_has_no_sizes() -> None:
    drawn = data.load(data.Wanted("synthetic", Path(), 100, 1), quiet, storage.open_object)
    assert "sizes" not in drawn.describe()["survey"]


def test_the_preflight_sees_the_same(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded in time by their pixels; else by their files' bytes, of which the equal ones alone are read whole."""
    shutil.copy(tree / "train/cats/2.png", tree / "test/cats/other.png")
    shutil.copy(tree / "train/dogs/0.png", tree / "train/dogs/again.png")
    listed, seen_by_a_run = folder.scan(tree), load(tree).survey
    seen = images.decoded(listed, Shape(), lambda: None)
    assert images.surveyed(listed, seen, Shape(), lambda: None)[0] == seen_by_a_run
    assert len(seen) == 14
    read: list[str] = []
    content_of = decoding.content_of
    monkeypatch.setattr(decoding, "content_of", lambda file: read.append(file.name) or content_of(file))
    part = images.Seen({}, seen.sizes, [], whole=False)
    found, how = images.surveyed(listed, part, Shape(), lambda: None)
    assert (found, how) == (seen_by_a_run, "all compared by their files' bytes")
    assert sorted(read) == ["0.png", "2.png", "again.png", "other.png"]
    monkeypatch.setattr(images, "SECONDS", -1.0)
    late = images.decoded(listed, Shape(), lambda: None)
    assert (len(late), late.whole) == (0, False)
    (said, *doubts) = images.findings(listed, late, Shape(), lambda: None)
    assert said.detail == "too many to look for equal ones here: a run does"
    assert [doubt.detail[:20] for doubt in doubts] == ["2 of 2 classes have "]
