"""`MODE=predict` for many images: parts that are kept, what a later start takes of them, the same file at the end."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from job import settings
from job.console.progress import Progress
from job.data import ahead, inputs
from job.data.picture import SMALL
from job.errors import Fault, Interrupted, TemporaryFault
from job.interrupt import Stop
from job.modes import predict, predict_answers, predict_heats, predict_parts
from tests.conftest import Job, bare_environment, start_job

IMAGES = 11
PREDICT = {"MODE": "predict", "RUN_ID": "mine", "INPUT": "images", "DEVICE": "cpu", "PRECISION": "fp32"}


def draw(folder: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / ("ab"[number % 2]) / f"{number:05}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((32, 32)).save(place)
    return folder


@pytest.fixture
def place(one_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the run `mine` below `outputs` and images, for parts of four and batches of three."""
    shutil.copytree(one_run, tmp_path / "outputs" / "mine")
    draw(tmp_path / "images", IMAGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict_parts, "SIZE", 4)
    monkeypatch.setattr(predict_answers, "MOST", 3)
    monkeypatch.setattr(predict_answers, "TOGETHER", 2)
    return tmp_path


class Went(list[str]):
    """The keys that were read."""


@pytest.fixture
def went(monkeypatch: pytest.MonkeyPatch) -> Went:
    went, read = Went(), predict_answers.Reader.read

    def noted(self: predict_answers.Reader, key: str) -> Any:
        went.append(key)
        return read(self, key)

    monkeypatch.setattr(predict_answers.Reader, "read", noted)
    return went


def predicted(monkeypatch: pytest.MonkeyPatch, check: Callable[[], object] = lambda: None, **variables: str) -> None:
    with monkeypatch.context() as patch:
        for name, value in (PREDICT | variables).items():
            patch.setenv(name, value)
        predict.run(settings.load(), Progress("off", check), Stop())


def raises() -> None:
    raise Interrupted(signal.SIGTERM)


def once(place: Path, kept: int) -> Callable[[], None]:
    """Raises as a signal does once so many parts are stored."""
    return lambda: raises() if len(parts(place)) >= kept else None


def result(place: Path) -> bytes:
    return (place / "outputs" / "predictions" / "mine" / "predictions.csv").read_bytes()


def parts(place: Path) -> list[str]:
    folder = place / "outputs" / "predictions" / "mine" / "parts"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("kept", range(3))
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    place: Path, went: Went, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted(monkeypatch)
    whole = result(place)
    assert not parts(place), "nothing is left over"
    with pytest.raises(Interrupted):
        predicted(monkeypatch, once(place, kept))
    assert len(parts(place)) == kept
    went.clear()
    predicted(monkeypatch)
    assert result(place) == whole
    assert len(went) == IMAGES - 4 * kept, "what is kept is not read again"
    assert not parts(place)


def test_what_a_part_was_made_from(place: Path, went: Went, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image that is another now, another count of columns, FRESH=1: what does not fit is computed anew."""
    with pytest.raises(Interrupted):
        predicted(monkeypatch, once(place, 1))
    assert len(parts(place)) >= 1
    for variables, wanted in (({"TOP_K": "2"}, IMAGES), ({"FRESH": "1"}, IMAGES)):
        copy = shutil.copytree(place / "outputs" / "predictions", place / "kept", dirs_exist_ok=True)
        went.clear()
        predicted(monkeypatch, **variables)
        assert len(went) == wanted
        shutil.copytree(copy, place / "outputs" / "predictions", dirs_exist_ok=True)
    first = place / "images" / "a" / "00000.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(first)
    os.utime(first, ns=(1, 1))
    went.clear()
    predicted(monkeypatch)
    assert "a/00000.png" in went
    again = result(place)
    predicted(monkeypatch, FRESH="1")
    assert result(place) == again


def test_a_part_that_is_damaged_is_told_and_made_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted(monkeypatch)
    whole = result(place)
    with pytest.raises(Interrupted):
        predicted(monkeypatch, once(place, 1))
    file = place / "outputs" / "predictions" / "mine" / "parts" / parts(place)[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TemporaryFault, match="was damaged, and is removed"):
        predicted(monkeypatch)
    predicted(monkeypatch)
    assert result(place) == whole


def test_what_may_be_readable_later_is_looked_at_again(
    place: Path, went: Went, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its own part; and where not one of a part can be read, others to come are not waited for."""
    (place / "images" / "a" / "00002.png").write_text("no image")
    down = {"b/00001.png"}

    def found(given: str) -> inputs.Inputs:
        real = kept_found(given)

        def read(key: str) -> bytes:
            if key in down:
                raise TemporaryFault("no answer.")
            return real.read(key)

        return inputs.Inputs(real.keys, read, real.mark)

    kept_found = inputs.found
    monkeypatch.setattr(inputs, "found", found)
    with pytest.raises(TemporaryFault, match=r"2 of 11 images could not be read: a/00002\.png.*; b/00001\.png"):
        predicted(monkeypatch)
    assert len(parts(place)) == 2
    down.clear()
    went.clear()
    with pytest.raises(Fault, match=r"1 of 11 images could not be read: a/00002\.png") as caught:
        predicted(monkeypatch)
    assert not isinstance(caught.value, TemporaryFault)
    assert len(went) == 4
    assert not parts(place)
    down.update(f"a/{number:05}.png" for number in range(0, IMAGES, 2))
    with pytest.raises(TemporaryFault, match="4 of 4 images could not be read"):
        predicted(monkeypatch)


def test_the_likeliest_classes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted(monkeypatch)
    every = list(csv.DictReader(result(place).decode().splitlines()))
    predicted(monkeypatch, TOP_K="3")
    few = list(csv.DictReader(result(place).decode().splitlines()))
    assert list(few[0]) == [
        "image",
        "class",
        "probability",
        "failure",
        "class_2",
        "probability_2",
        "class_3",
        "probability_3",
    ]
    for row, all_of_it in zip(few, every, strict=True):
        shares = {
            name.removeprefix("probability_"): share for name, share in all_of_it.items() if "probability_" in name
        }
        order = sorted(shares, key=lambda name: -float(shares[name]))[:3]
        assert [row["class"], row["class_2"], row["class_3"]] == order
        assert [row["probability"], row["probability_2"], row["probability_3"]] == [shares[name] for name in order]
    predicted(monkeypatch, TOP_K="1")
    assert result(place).splitlines()[0] == b'"image","class","probability","failure"'
    predicted(monkeypatch, TOP_K="99")
    assert "probability_10" in result(place).decode()


def test_names_are_data(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (place / "images" / "a" / "00000.png").read_bytes()
    shutil.rmtree(place / "images")
    (place / "images").mkdir()
    for name in (
        b"=1+1.png",
        b"two\nlines.png",
        b'a,b".png',
        b"\xff\xfe.png",
        "größe <b>.png".encode(),
        b"\x1b[2J.png",
    ):
        Path(os.fsdecode(os.fsencode(place / "images") + b"/" + name)).write_bytes(content)
    (place / "images" / "bad\n=1.png").write_text("nothing")
    monkeypatch.setattr(predict_heats, "PER_PAGE", 4)
    with pytest.raises(Fault, match="1 of 7 images"):
        predicted(monkeypatch, HEATMAPS="1")
    rows = list(csv.DictReader(result(place).decode().splitlines()))
    assert sorted(row["image"] for row in rows) == sorted(
        ["'=1+1.png", r"\x1b[2J.png", 'a,b".png', r"bad\n=1.png", "größe <b>.png", r"two\nlines.png", r"\xff\xfe.png"]
    )
    assert len({row["probability_" + name] for row in rows for name in [rows[0]["class"]] if not row["failure"]}) == 1
    pages = [(place / f"outputs/predictions/mine/heatmaps/0000{number}.html").read_text() for number in (1, 2)]
    assert "größe &lt;b&gt;.png" in "".join(pages)
    assert "\x1b" not in "".join(pages)


def test_heatmaps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for each so many images, the same after a stop; of an earlier prediction none is left."""
    monkeypatch.setattr(predict_heats, "PER_PAGE", 4)
    folder = place / "outputs" / "predictions" / "mine" / "heatmaps"
    predicted(monkeypatch, HEATMAPS="1")
    plain = result(place)
    pages = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(pages) == ["00001.html", "00002.html", "00003.html"]
    assert pages["00003.html"].count(b"<img") == 2 * 3
    assert b"Images 9 to 11 of 11" in pages["00003.html"]
    assert b'href="00002.html"' in pages["00001.html"]
    assert b"Simonyan" in pages["00001.html"]
    shutil.rmtree(folder)
    with pytest.raises(Interrupted):
        predicted(monkeypatch, once(place, 1), HEATMAPS="1")
    predicted(monkeypatch, HEATMAPS="1")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == pages
    assert result(place) == plain
    shutil.rmtree(place / "images" / "b")
    predicted(monkeypatch, HEATMAPS="1")
    assert sorted(file.name for file in folder.iterdir()) == ["00001.html", "00002.html"]


def test_from_a_bucket_into_a_bucket(
    place: Path, owner: Any, bucket: str, s3_environment: dict[str, str], went: Went, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted(monkeypatch)
    for file in (place / "images").rglob("*.png"):
        owner.put_object(Bucket=bucket, Key=f"in/{file.relative_to(place / 'images')}", Body=file.read_bytes())
    for name in ("weights.pt", "model.json"):
        owner.put_object(Bucket=bucket, Key=f"out/mine/{name}", Body=(place / "outputs/mine" / name).read_bytes())
    there = {"INPUT": f"s3://{bucket}/in", "OUTPUT": f"s3://{bucket}/out"}
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Interrupted):
        predicted(monkeypatch, stop_with_a_part(owner, bucket), **there)
    went.clear()
    predicted(monkeypatch, **there)
    assert 0 < len(went) < IMAGES
    names = [item["Key"] for item in owner.list_objects_v2(Bucket=bucket, Prefix="out/predictions/")["Contents"]]
    assert names == ["out/predictions/mine/predictions.csv"]
    assert owner.get_object(Bucket=bucket, Key=names[0])["Body"].read() == result(place)


def stop_with_a_part(owner: Any, bucket: str) -> Callable[[], None]:
    """Raises as a signal does once a part is stored."""

    def check() -> None:
        if owner.list_objects_v2(Bucket=bucket, Prefix="out/predictions/mine/parts/").get("KeyCount"):
            raises()

    return check


def test_few_wait_and_a_stop_is_heard_while_one_hangs() -> None:
    """Results come in order; what `check` raises is heard though the work never ends."""
    assert list(ahead.in_order(range(100), lambda number: -number, 3, lambda: None, 2)) == [-n for n in range(100)]
    begun: list[int] = []
    results = ahead.in_order(range(1000), lambda number: begun.append(number) or number, 2, lambda: None, 4)
    assert next(results) == 0
    assert len(begun) <= 2 * 4 + 1
    started = time.monotonic()
    with pytest.raises(Interrupted):
        list(ahead.in_order([1], lambda _: time.sleep(60), 1, raises))
    assert time.monotonic() - started < 30
    with pytest.raises(TimeoutError):
        list(ahead.in_order([1], lambda _: timed_out(), 1, lambda: None))


def timed_out() -> None:
    raise TimeoutError


def test_batches_are_small_where_images_are_large() -> None:
    sides = {32: 500, 64: 500, 224: 41, 512: 8}
    nothing = inputs.Inputs([], lambda key: b"", lambda key: None)
    for side, batch in sides.items():
        assert predict_answers.Reader(nothing, type(SMALL)(side), lambda: None).batch == batch


def begun(directory: Path, variables: Mapping[str, str]) -> Any:
    """A job in a process of its own, once it has stored a part more."""
    folder = directory / "outputs" / "predictions" / "mine" / "parts"

    def parts() -> int:
        return len([file for file in folder.glob("*") if not file.name.startswith(".")])

    before = parts()
    job = start_job(directory, variables)
    until = time.monotonic() + 120
    while parts() <= before:
        assert time.monotonic() < until
        assert job.poll() is None, job.stdout.read() if job.stdout else ""
        time.sleep(0.02)
    return job


@pytest.mark.slow
def test_killed_and_stopped_for_real(one_run: Path, job: Job, tmp_path: Path) -> None:
    """SIGKILL, then SIGTERM, then to the end: the file of a job that nobody disturbed."""
    shutil.copytree(one_run, tmp_path / "outputs" / "mine")
    draw(tmp_path / "images", 6000)
    done = job(**PREDICT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a/00000.png" not in done.stdout, "so many have no line each"
    whole = result(tmp_path)
    (tmp_path / "outputs" / "predictions" / "mine" / "predictions.csv").unlink()
    for signum, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        begun_job = begun(tmp_path, bare_environment() | PREDICT)
        started = time.monotonic()
        begun_job.send_signal(signum)
        said = begun_job.communicate(timeout=60)[0]
        assert begun_job.returncode == code, said
        assert time.monotonic() - started < 10
    kept = len(parts(tmp_path))
    assert kept >= 1
    done = job(**PREDICT)
    assert done.returncode == 0
    assert "which are answered already" in done.stdout
    assert result(tmp_path) == whole
    assert not parts(tmp_path)
