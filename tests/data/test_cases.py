"""Folders that broke the job when it was tried as a new user would, each for a whole kind of fault; built here anew."""

from __future__ import annotations

import csv
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from job.console.logs import CONTROLS, LOGGER
from job.data import folder
from job.data.folder import Rules
from job.errors import Fault
from tests.conftest import TINY, Job
from tests.helpers.folders import pictures, quiet
from tests.helpers.nobody import told_to_nobody

GIVEN = {"LEARNING_RATE": "0.001", "EPOCHS": "1", "DATASET": "folder", "DATA_DIR": "images", "DATA_LIMIT": ""}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", logger=LOGGER.name)
    return caplog


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Two classes, each with five images to train and two to test on."""
    counts = (("train", 5), ("test", 2))
    names = [f"{part}/{c}/{n}.png" for part, count in counts for c in ("blue", "red") for n in range(count)]
    return pictures(tmp_path / "images", *names)


def loaded(root: Path, rules: Rules = folder.RULES) -> tuple[int, int]:
    arrays = folder.load(root, bar=quiet, rules=rules)
    return len(arrays.train_labels), len(arrays.test_labels)


def test_01_appledouble(sound: Path, told: pytest.LogCaptureFixture) -> None:
    """A zip that macOS made: a resource fork beside each image, .DS_Store; and Windows' Thumbs.db."""
    for file in list(sound.rglob("*.png")):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    for place in ("train", "test", "train/red"):
        (sound / place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (sound / "train/red/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    assert loaded(sound) == (10, 4)
    assert told.text.count("passed over that systems leave behind") == 1
    assert "18 file(s) and folder(s) passed over" in told.text


def test_02_transparent(tmp_path: Path) -> None:
    """Black icons on a transparent ground: two shapes that a model can tell apart."""
    for part in ("train", "test"):
        for number in range(4):
            for shape in ("circle", "cross"):
                icon = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
                place = (8 + number, 8, 48 + number, 48)
                if shape == "circle":
                    ImageDraw.Draw(icon).ellipse(place, fill=(0, 0, 0, 255))
                else:
                    ImageDraw.Draw(icon).line(place, fill=(0, 0, 0, 255), width=9)
                (tmp_path / part / shape).mkdir(parents=True, exist_ok=True)
                icon.save(tmp_path / part / shape / f"{number}.png")
    arrays = folder.load(tmp_path, bar=quiet)
    circles, crosses = (arrays.train_images[arrays.train_labels == label] for label in (0, 1))
    assert circles[:, 0, 0].min() == crosses[:, 0, 0].min() == 255, "the ground is white"
    assert circles.min() == crosses.min() == 0, "the icons are black"
    assert abs(circles.mean() - crosses.mean()) > 20


def test_03_dangling(sound: Path) -> None:
    """Half of a class are links to a place that is not mounted."""
    for name in ("train/blue/2.png", "train/blue/3.png", "test/blue/1.png"):
        (sound / name).unlink()
        (sound / name).symlink_to("/mnt/not mounted/1.png")
    with pytest.raises(folder.Unreadable, match=r"3 of 14 images cannot be read.*2.png \(a link that leads nowhere"):
        loaded(sound)
    assert loaded(sound, Rules(skip=True)) == (8, 3)


def test_04_nested(sound: Path, told: pytest.LogCaptureFixture) -> None:
    for part in ("blue", "red"):
        (sound / "train" / part / "2024").mkdir()
        for number in (0, 1):
            shutil.move(sound / f"train/{part}/{number}.png", sound / f"train/{part}/2024")
    pictures(sound, "train/loose1.png", "train/loose2.png")
    assert loaded(sound) == (10, 4)
    assert "2 image(s) in no class folder, left out: train/loose1.png, train/loose2.png" in told.text


def test_07_nfc_nfd(sound: Path) -> None:
    """The same name for whoever reads it: one sign, or a letter and its accent."""
    for part, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        (sound / part / "blue").rename(sound / part / name)
    assert folder.scan(sound).classes == ("caf\u00e9", "red")
    assert loaded(sound) == (10, 4)


def test_08_tiny_given_rate(main: Job, sound: Path) -> None:
    """Where there is no search nothing of the search is wanted; with one the message says what to do."""
    for file in sound.glob("train/*/[234].png"):
        file.unlink()
    for file in sound.glob("*/*/1.png"):
        file.unlink()
    variables = TINY | GIVEN | {"MODEL": "cnn"}
    done = main(**variables)
    assert done.returncode == 0, done.stdout + done.stderr
    done = main(**(variables | {"LEARNING_RATE": "", "EPOCHS": "", "TUNE_PERCENT": "20"}))
    assert done.returncode == 78
    assert "TUNE_PERCENT=20 of 2 training images is 0: too few to train and to validate on" in done.stdout


def test_17_lost_found(open_place: Path) -> None:
    """As mkfs.ext4 leaves it: 0700, root's own. The job is somebody else."""
    root = pictures(open_place / "x", *(f"{part}/{label}/1.png" for part in ("train", "test") for label in "ab"))
    for place in (root / "lost+found", root / "train/lost+found"):
        place.mkdir(mode=0o700)
    assert told_to_nobody(lambda: loaded(root)) == "(2, 2)"
    (root / "train/c").mkdir(mode=0o700)
    assert f"Fault: cannot list the folder {root}/train/c" in told_to_nobody(lambda: loaded(root))


def test_27_leak(main: Job, sound: Path, tmp_path: Path) -> None:
    """Every test image is a copy of a training image: log, status and report say so."""
    for part in ("blue", "red"):
        for number in (0, 1):
            shutil.copy(sound / f"train/{part}/{number + 2}.png", sound / f"test/{part}/{number}.png")
    said = "4 of 4 test images are in the training set as well"
    checked = main(**(TINY | GIVEN), MODE="check")
    assert said in checked.stdout, checked.stdout + checked.stderr
    done = main(**(TINY | GIVEN), RUN_ID="leak")
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "outputs/leak"
    assert f"warning: {said}" in done.stdout
    assert said in (run / "report.html").read_text()
    assert any(said in warning for warning in json.loads((run / "status.json").read_text())["warnings"])
    assert json.loads((run / "results.json").read_text())["data"]["survey"]["leaked"] == 4


def test_30_dangling_class(sound: Path) -> None:
    for part in ("train", "test"):
        (sound / part / "green").symlink_to(f"/mnt/not mounted/{part}/green")
    with pytest.raises(Fault, match=r"the link .*/train/green leads nowhere"):
        loaded(sound)


class Page(HTMLParser):
    """The elements of a page, of which none may come from a name."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


ODD = (
    b"line\nend",
    b"=cmd()",
    b'quote"comma,',
    b"<script>alert(1)",
    b"caf\xe9",
    b"\xe2\x80\xaeright to left",
    b"escape\x1b[31m",
    "$math_{x}$ \u732b\U0001f431".encode(),
    b"n" * 251,
)


def test_05_names_that_the_system_allows_in_every_mode(main: Job, tmp_path: Path) -> None:
    """Classes and files of such names, in ISO-8859-1 and of 255 bytes too: every table, page, picture and log."""
    rng = np.random.default_rng(0)
    for part in (b"train", b"test"):
        for name in ODD:
            place = tmp_path / "images" / os.fsdecode(part) / os.fsdecode(name)
            place.mkdir(parents=True)
            image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            image.save(place / os.fsdecode(name + b".png"))
    variables = TINY | GIVEN | {"RUN_ID": "odd"}
    logs = []
    for mode in ("check", "run", "verify", "predict", "summary"):
        done = main(**variables, MODE=mode, INPUT="images" if mode == "predict" else "")
        assert done.returncode == 0, done.stdout + done.stderr
        logs.append(done.stdout)
    for line in "".join(logs).splitlines():
        assert not CONTROLS.search(line)
        assert not line.startswith(("end", "=cmd"))
    run = tmp_path / "outputs/odd"
    classes = json.loads((run / "results.json").read_text())["data"]["classes"]
    assert len(classes) == len(ODD)
    assert r"caf\xe9" in classes
    for table, lines in (("per_class.csv", len(ODD)), ("test_predictions.csv", len(ODD))):
        with (run / table).open(newline="") as opened:
            assert len(list(csv.reader(opened))) == lines + 1
    with (tmp_path / "outputs/predictions/odd/predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 2 * len(ODD)
    assert not any(row["failure"] for row in rows)
    for page in (run / "report.html", tmp_path / "outputs/summary.html"):
        parsed = Page()
        parsed.feed(page.read_text())
        assert "script" not in parsed.tags
    for picture in ("confusion_matrix.png", "mistakes.png"):
        Image.open(run / picture).verify()
