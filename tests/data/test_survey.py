"""What a data set is like: counts by class, images that occur twice, test images that are trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

from job import data, storage
from job.console.progress import Progress
from job.data import Dataset
from job.data.folder import RULES, Rules


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
