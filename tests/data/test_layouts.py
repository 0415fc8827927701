"""How folders and tables are understood, as people and other programs leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.console.logs import LOGGER
from job.data import folder
from job.data.folder import Tree
from job.errors import Fault
from tests.helpers.folders import pictures


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", logger=LOGGER.name)
    return caplog


def parts(tree: Tree) -> dict[str, list[str]]:
    """Part → `class: file` of each image."""
    return {
        part: sorted(f"{tree.classes[label]}: {tree.name(file)}" for file, label in getattr(tree, part))
        for part in ("train", "validation", "test")
    }


def both(*places: str) -> list[str]:
    return [f"{place}/{label}/{number}.png" for place in places for label in "ab" for number in (1, 2)]


# ---- folders ----


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train/train", "test/test"),  # an archive for each, which holds a folder of its name
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/images", "test/images"),
        ("birds/birds-train", "birds/birds-test"),  # an archive around, a part in the name alone
        ("a/b/train", "a/b/test"),
    ],
)
def test_folders_too_deep(tmp_path: Path, train: str, test: str) -> None:
    tree = folder.scan(pictures(tmp_path / "x", *both(train, test)))
    assert (tree.classes, len(tree.train), len(tree.test)) == (("a", "b"), 4, 4)


def test_parts_within_classes(tmp_path: Path) -> None:
    names = [f"{label}/{part}/{number}.png" for label in "ab" for part in ("train", "val", "test") for number in (1, 2)]
    found = parts(folder.scan(pictures(tmp_path / "x", *names)))
    assert found["test"] == ["a: a/test/1.png", "a: a/test/2.png", "b: b/test/1.png", "b: b/test/2.png"]
    assert found["validation"][0] == "a: a/val/1.png"
    assert len(found["train"]) == 4


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    """Vehicles: cars, buses, trains."""
    tree = folder.scan(pictures(tmp_path / "x", "bus/1.png", "car/2.png", "train/3.png", "steam-train/4.png"))
    assert tree.classes == ("bus", "car", "steam-train", "train")


def test_a_class_may_have_a_part_in_its_name_and_folders_in_it(tmp_path: Path) -> None:
    tree = folder.scan(pictures(tmp_path / "x", "bus/2020/1.png", "car/2020/2.png", "steam train/2020/3.png"))
    assert tree.classes == ("bus", "car", "steam train")


def test_a_test_set_without_classes_is_told_and_left_out(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    tree = folder.scan(pictures(tmp_path / "x", *both("train"), "test/1.png", "test/2.png"))
    assert (len(tree.train), tree.test) == (4, ())
    assert "2 image(s) of a test set without classes, left out: test/" in told.text


def test_what_lies_beside_the_parts_is_counted(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = pictures(
        tmp_path / "x", *both("train", "test"), "unlabelled/1.png", "unlabelled/2.png", ".old/1.png", "preview.png"
    )
    (root / "README.md").write_text("ours")
    assert len(folder.scan(root).train) == 4
    assert "2 image(s) in folders that are no part of the data set, left out: unlabelled" in told.text
    assert "1 image(s) in hidden folders, left out: .old" in told.text
    assert "1 image(s) in no class folder, left out: preview.png" in told.text


def test_a_class_that_begins_with_a_dot_is_named_with_its_count(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    folder.scan(pictures(tmp_path / "x", *both("train", "test"), "train/.net/1.png", "train/.net/2.png"))
    assert "2 image(s) in hidden folders, left out: train/.net" in told.text


def test_a_part_that_is_a_link_to_nowhere(tmp_path: Path) -> None:
    """Not: no test set, so some of the training images are kept for it."""
    root = pictures(tmp_path / "x", *both("train"))
    (root / "test").symlink_to(tmp_path / "not mounted")
    with pytest.raises(Fault, match=r"the link .*/test leads nowhere"):
        folder.scan(root)


def test_only_a_test_set_has_no_single_reading(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"holds the folder\(s\) a/ \(1 images\), b/ \(1 images\), test/ \(4 images\)"):
        folder.scan(pictures(tmp_path / "x", "a/1.png", "b/2.png", *both("test")))


def test_loose_images_in_parts_have_no_reading(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "train/cat.1.png", "train/dog.1.png", "test/1.png")
    (root / "sample_submission.csv").write_text("id,label\n1,0\n")
    with pytest.raises(Fault, match=r"test/ \(1 images\), train/ \(2 images\).*the other file\(s\) sample_submission"):
        folder.scan(root)


# ---- tables ----


def with_table(root: Path, name: str, *lines: str, encoding: str = "utf-8") -> Path:
    (root / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return root


def test_hugging_faces_metadata_in_each_part(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "train/1.png", "train/2.png", "test/1.png", "test/2.png")
    for part in ("train", "test"):
        with_table(root / part, "metadata.csv", "file_name,label", "1.png,cat", "2.png,dog")
    found = parts(folder.scan(root))
    assert found["train"] == ["cat: train/1.png", "dog: train/2.png"]
    assert found["test"] == ["cat: test/1.png", "dog: test/2.png"]


def test_roboflows_columns_of_ones(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "train/1.png", "train/2.png", "valid/3.png", "test/4.png")
    for part, rows in (
        ("train", ["1.png, 1, 0", "2.png, 0, 1"]),
        ("valid", ["3.png, 0, 1"]),
        ("test", ["4.png, 1, 0"]),
    ):
        with_table(root / part, "_classes.csv", "filename, cat, dog", *rows)
    found = parts(folder.scan(root))
    assert found == {
        "train": ["cat: train/1.png", "dog: train/2.png"],
        "validation": ["dog: valid/3.png"],
        "test": ["cat: test/4.png"],
    }


def test_fastais_one_table_for_all_parts(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", *both("train", "valid"))
    with_table(root, "labels.csv", "name,label", *(f"{name},{name.split('/')[1]}" for name in both("train", "valid")))
    found = parts(folder.scan(root))
    assert (len(found["train"]), len(found["validation"]), found["test"]) == (4, 4, [])


def test_a_column_that_tells_the_part(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", *(f"images/{number}.png" for number in range(4)))
    rows = ("0.png,cat,train", "1.png,dog,Train", "2.png,cat,test", "3.png,dog,valid")
    found = parts(folder.scan(with_table(root, "labels.csv", "path,label,split", *rows)))
    assert found == {
        "train": ["cat: images/0.png", "dog: images/1.png"],
        "validation": ["dog: images/3.png"],
        "test": ["cat: images/2.png"],
    }


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_office_programs_write_them(tmp_path: Path, separator: str, encoding: str) -> None:
    root = pictures(tmp_path / "x", "1.png", "2.png")
    lines = [separator.join(row) for row in (("Image ID", "Class Name"), ("1", "Käse"), ("2", "Brot"))]
    assert folder.scan(with_table(root, "labels.csv", *lines, encoding=encoding)).classes == ("Brot", "Käse")


@pytest.mark.parametrize(
    "written", ["{}", "./{}", "images/{}", "/kaggle/input/pets/images/{}", r"C:\pets\images\{}", r"images\{}"]
)
@pytest.mark.parametrize("ending", ["", ".png"])
def test_names_as_another_machine_had_them(tmp_path: Path, written: str, ending: str) -> None:
    root = pictures(tmp_path / "x", "images/a.b.png", "images/c.png")
    rows = (f"{written.format(name + ending)},{label}" for name, label in (("a.b", "cat"), ("c", "dog")))
    assert parts(folder.scan(with_table(root, "labels.csv", "file,label", *rows)))["train"] == [
        "cat: images/a.b.png",
        "dog: images/c.png",
    ]


def test_names_in_another_normal_form(tmp_path: Path) -> None:
    """macOS unpacks é as two signs; the table has one."""
    root = pictures(tmp_path / "x", "caf\u0065\u0301.png", "b.png")
    assert len(folder.scan(with_table(root, "labels.csv", "file,label", "caf\u00e9.png,x", "b.png,y")).train) == 2


def test_images_without_a_label_are_told(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = pictures(tmp_path / "x", "1.png", "2.png", "3.png", "test/1.png")
    folder.scan(with_table(root, "labels.csv", "file,label", "1.png,a", "2.png,b"))
    assert "2 image(s) without a label, left out: 3.png, test/1.png" in told.text


def test_a_list_of_the_classes_is_no_table_of_images(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = pictures(tmp_path / "x", *both("train", "test"))
    tree = folder.scan(with_table(root, "labels.csv", "id,label", "0,a", "1,b"))
    assert (len(tree.train), len(tree.test)) == (4, 4)
    assert "labels.csv names no image that lies here: not used" in told.text


def test_a_table_of_something_else_is_told(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = pictures(tmp_path / "x", "1.png")
    with pytest.raises(Fault, match=r"the other file\(s\) train.csv"):
        folder.scan(with_table(root, "train.csv", "label,pixel0,pixel1", "5,0,0"))
    assert "train.csv: its first line names no column of file names and of labels" in told.text


def test_two_tables_for_one_part(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "1.png", "2.png")
    for name in ("labels.csv", "train.csv"):
        with_table(root, name, "file,label", "1.png,a", "2.png,b")
    with pytest.raises(Fault, match=r"labels.csv and train.csv: which one is it"):
        folder.scan(root)


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "1.png", "2.png")
    (root / "labels.csv").write_bytes("file,label\n1.png,Käse\n".encode("latin-1"))
    with pytest.raises(Fault, match="is not a table in UTF-8"):
        folder.scan(root)


def test_an_empty_table_is_told(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    root = pictures(tmp_path / "x", *both("train", "test"))
    (root / "train.csv").write_bytes(b"")
    assert len(folder.scan(root).train) == 4
    assert "train.csv: its first line names no column" in told.text
