"""Which files count: rights, links, kinds; the same for training, predict and summary."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from job.data import folder, inputs
from job.data.files import Passed, images
from job.errors import Fault
from job.storage import open_store
from tests.helpers.folders import pictures, quiet
from tests.helpers.nobody import told_to_nobody


def names(root: Path) -> list[str]:
    return [str(file.relative_to(root)) for file in images(root, Passed())]


def passed_over(root: Path) -> dict[str, int]:
    passed = Passed()
    list(images(root, passed))
    return dict(passed.others)


def scanned(root: Path) -> str:
    tree = folder.scan(root)
    return f"{len(tree.train)} to train on"


# ---- rights, as another user ----


def test_a_folder_that_may_not_be_listed_is_named(open_place: Path) -> None:
    root = pictures(open_place / "x", *(f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab"))
    (root / "train/b").chmod(0)
    said = told_to_nobody(lambda: scanned(root))
    assert said.startswith(f"Fault: cannot list the folder {root}/train/b: Permission denied")
    assert "DATA_DIR" in said


def test_images_that_may_not_be_read_are_named_like_broken_ones(open_place: Path) -> None:
    root = pictures(
        open_place / "x", *(f"{part}/{label}/{n}.png" for part in ("train", "test") for label in "ab" for n in "12")
    )
    (root / "train/b/1.png").chmod(0)
    said = told_to_nobody(lambda: folder.load(root, bar=quiet))
    assert "Unreadable: DATA_DIR: 1 of 8 images cannot be read: train/b/1.png (Permission denied)." in said
    skipped = told_to_nobody(lambda: len(folder.load(root, bar=quiet, rules=folder.Rules(skip=True)).train_labels))
    assert skipped == "3"


def test_a_folder_whose_names_alone_may_be_read(open_place: Path) -> None:
    """`r--`: its files are listed, and none may be looked at."""
    root = pictures(open_place / "x", *(f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab"))
    (root / "train/b").chmod(0o744)
    said = told_to_nobody(lambda: folder.load(root, bar=quiet))
    assert "train/b/1.png (Permission denied)" in said


def test_what_is_left_out_anyway_need_not_be_readable(open_place: Path) -> None:
    """`lost+found` as mkfs makes it, a hidden folder of somebody else's, one that is no part of the set."""
    root = pictures(open_place / "x", *(f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab"))
    for name in ("lost+found", "train/lost+found", ".cache", "train/.cache", "more"):
        pictures(root, f"{name}/1.png")
        (root / name).chmod(0)
    assert told_to_nobody(lambda: scanned(root)) == "2 to train on"


def test_predict_names_its_own_variable(open_place: Path) -> None:
    root = pictures(open_place / "x", "a/1.png", "b/1.png")
    (root / "b").chmod(0)
    said = told_to_nobody(lambda: inputs.found(str(root)))
    assert "cannot list the folder" in said
    assert "INPUT" in said
    assert "DATA_DIR" not in said


# ---- links ----


def test_links_across_bring_no_image_twice_and_end(tmp_path: Path) -> None:
    """Twelve folders with a link to each of the others: more ways through than anybody can go."""
    root = pictures(tmp_path / "x", *(f"{number}/{number}.png" for number in range(12)))
    for one in range(12):
        for other in range(12):
            (root / f"{one}/to {other}").symlink_to(root / str(other))
    assert sorted(Path(name).name for name in names(root)) == sorted(f"{number}.png" for number in range(12))


def test_a_link_to_itself_and_one_through_a_file(tmp_path: Path) -> None:
    root = pictures(tmp_path / "x", "1.png")
    (root / "2.png").symlink_to(root / "2.png")
    (root / "round").symlink_to(root / "round")
    (root / "3.png").symlink_to(root / "1.png" / "below")
    assert names(root) == ["1.png", "2.png", "3.png"], "by their names they are images: whoever reads them will tell"
    assert passed_over(root) == {"link(s) that lead nowhere": 1}


def test_two_classes_may_be_one_folder(tmp_path: Path) -> None:
    """A part is walked class by class: a link to another class is another class."""
    root = pictures(tmp_path / "x", "train/a/1.png", "test/a/2.png")
    (root / "train/b").symlink_to(root / "train/a")
    (root / "test/b").symlink_to(root / "train/a")
    tree = folder.scan(root)
    assert [label for _, label in tree.train] == [0, 1]


def test_summary_finds_runs_behind_links(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "outputs", tmp_path / "elsewhere"
    (elsewhere / "old").mkdir(parents=True)
    (elsewhere / "old/manifest.json").write_text("{}")
    (runs / "mine").mkdir(parents=True)
    (runs / "mine/manifest.json").write_text("{}")
    (runs / "others").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(runs)
    assert open_store(str(runs)).list() == ["mine/manifest.json", "others/old/manifest.json"]


def test_a_run_is_not_removed_through_a_link(tmp_path: Path) -> None:
    """What FRESH=1 removes is listed by the run's own store."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/mine.txt").write_text("mine")
    (tmp_path / "outputs/run").mkdir(parents=True)
    (tmp_path / "outputs/run/link").symlink_to(tmp_path / "kept")
    assert open_store(str(tmp_path / "outputs"), "run").list() == []


# ---- kinds ----


def test_kinds_by_content_alone(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        Image.new("RGB", (9, 9)).save(tmp_path / kind.lower(), kind)
    Image.new("RGB", (9, 9)).save(tmp_path / "big", "TIFF", big_tiff=True)
    (tmp_path / "BMW").write_bytes(b"BM is a car maker's beginning")
    assert names(tmp_path) == ["big", "bmp", "gif", "jpeg", "png", "tiff", "webp"]
    assert passed_over(tmp_path) == {"file(s) that are no images": 1}


def test_images_of_other_kinds_are_told(tmp_path: Path) -> None:
    for name in ("IMG_1.HEIC", "raw.NEF", "drawing.svg"):
        (tmp_path / name).write_bytes(b"any")
    (kind,) = passed_over(tmp_path)
    assert kind.startswith("image(s) of other kinds than JPEG")


def test_a_socket_and_a_pipe_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
        assert names(tmp_path) == []
        for place in ("pipe.png", "/dev/zero"):
            with pytest.raises(Fault, match="is a pipe, a socket or a device"):
                inputs.found(str(place))


def test_predict_takes_what_training_takes(tmp_path: Path) -> None:
    root = pictures(
        tmp_path / "x",
        "a/1.png",
        "a/deep/2.png",
        "a/.hidden.png",
        "a/.hidden/3.png",
        "a/@eaDir/4.png",
        "a/__MACOSX/5.png",
    )
    (root / "a/._1.png").write_bytes(b"\0\5\x16\7")
    (root / "a/1.png").rename(root / "a/noname")
    (root / "a/odd").symlink_to(root / "a")
    os.link(root / "a/deep/2.png", os.fsencode(root) + b"/a/\xff.png")
    found = inputs.found(str(root))
    assert [found.name(key) for key in found.keys] == ["a/deep/2.png", "a/noname", r"a/\xff.png"]
    assert names(root / "a") == ["deep/2.png", "noname", "\udcff.png"]
