"""`MODE=predict`: images from everywhere, through a real run's model."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from job import data, device, engine, settings
from job.console.progress import Progress
from job.data import inputs, synthetic
from job.engine import classifier
from job.engine.step import normalise
from job.errors import Fault, TemporaryFault
from job.interrupt import Stop
from job.modes import predict, predict_answers, predict_rows
from tests.conftest import ROOT, Job


@pytest.fixture
def handed_on(one_run: Path, tmp_path: Path) -> Path:
    """`weights.pt` and `model.json` of a finished run, and nothing else, as `outputs/mine`."""
    target = tmp_path / "outputs" / "mine"
    target.mkdir(parents=True)
    for name in ("weights.pt", "model.json"):
        shutil.copy(one_run / name, target)
    return target


@pytest.fixture(scope="module")
def arrays() -> Any:
    return synthetic.draw(3407, 200)


@pytest.fixture
def images(arrays: Any, tmp_path: Path) -> Path:
    """Six test images as PNG, in folders; a file that only looks like one, and one that does not."""
    folder = tmp_path / "images"
    for row in range(6):
        place = folder / ("deep/er" if row % 2 else "") / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays.test_images[row]).save(place)
    (folder / "broken.JPG").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def test_a_folder(handed_on: Path, images: Path, arrays: Any, main: Job, tmp_path: Path) -> None:
    """The answers are those of the engine on the same pixels; a broken image is named and stops no other one."""
    done = main(MODE="predict", RUN_ID="mine", INPUT="images", DEVICE="cpu", PRECISION="fp32")
    assert done.returncode == 78, done.stdout + done.stderr
    assert "1 of 7 images could not be read: broken.JPG (not a readable image: a text file)" in done.stdout
    assert "has no manifest: its files are used as they are" in done.stdout
    assert "1 file(s) that are no images: notes.txt" in done.stdout
    assert sorted(file.name for file in handed_on.iterdir()) == ["model.json", "weights.pt"]

    with (tmp_path / "outputs" / "predictions" / "mine" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [
        "0.png",
        "2.png",
        "4.png",
        "broken.JPG",
        *(f"deep/er/{n}.png" for n in (1, 3, 5)),
    ]
    broken = rows.pop(3)
    assert (broken["class"], broken["failure"]) == ("", "not a readable image: a text file")
    about = json.loads((handed_on / "model.json").read_text())
    model = classifier.load(about, (handed_on / "weights.pt").read_bytes()).model
    order = [0, 2, 4, 1, 3, 5]
    split = data.Split(torch.from_numpy(arrays.test_images[order]), torch.zeros(6, dtype=torch.int64))
    wanted = engine.predict(model, split, device.choose("cpu", "fp32"), lambda _: None).double().softmax(1).numpy()
    for row, shares in zip(rows, wanted, strict=True):
        assert [float(row[f"probability_{name}"]) for name in about["classes"]] == pytest.approx(shares, abs=1e-6)
        assert row["class"] == about["classes"][shares.argmax()]
        assert float(row["probability"]) == pytest.approx(shares.max(), abs=1e-6)
        assert f"{row['image']}: {row['class']} " in done.stdout


def test_the_normalisation_is_the_sidecars(handed_on: Path, arrays: Any) -> None:
    """To the engine's own bits where it is the engine's, and another one where the sidecar says so."""
    about, weights = json.loads((handed_on / "model.json").read_text()), (handed_on / "weights.pt").read_bytes()
    pixels = torch.from_numpy(arrays.test_images)
    loaded = classifier.load(about, weights)
    with torch.no_grad():
        assert torch.equal(loaded(pixels), loaded.model(normalise(pixels)))
        other = classifier.load(about | {"mean": [0.5] * 3, "std": [0.25] * 3}, weights)
        by_hand = (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        assert torch.allclose(other(pixels), loaded.model(by_hand), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "unheard_of"}, "names the model unheard_of"),
        ({"model": "cnn"}, r"does not fit job/models/cnn\.py"),
        ({"num_classes": 9}, "does not tell which model"),
        ({"mean": None}, "does not tell which model"),
    ],
)
def test_a_sidecar_that_does_not_fit(handed_on: Path, change: dict[str, Any], told: str) -> None:
    about = json.loads((handed_on / "model.json").read_text()) | change
    with pytest.raises(Fault, match=told):
        classifier.load(about, (handed_on / "weights.pt").read_bytes())


def test_a_file_that_is_more_than_weights_is_refused_without_bad_advice(handed_on: Path) -> None:
    """torch's own text advises `weights_only=False`, which would run whatever the file holds."""

    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(handed_on / "ran"),))

    planted = io.BytesIO()
    torch.save({"weight": Planted()}, planted)
    about = json.loads((handed_on / "model.json").read_text())
    for content in (planted.getvalue(), b"not a file of torch's"):
        with pytest.raises(Fault, match="holds other things than weights") as caught:
            classifier.load(about, content)
        assert "weights_only" not in str(caught.value)
    assert not (handed_on / "ran").exists()


def test_the_documented_way_to_load_a_model(one_run: Path, arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/outputs.md, word for word, in the run's own folder."""
    page = (ROOT / "docs" / "outputs.md").read_text()
    (snippet,) = (code for code in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "import models" in code)
    monkeypatch.chdir(one_run)
    names: dict[str, Any] = {}
    exec(snippet, names)
    pixels = torch.from_numpy(arrays.test_images)
    with torch.no_grad():
        answers = names["model"](normalise(pixels)).argmax(1)
    right = (answers == torch.from_numpy(arrays.test_labels)).double().mean().item()
    assert 100 * right == names["about"]["test"]["accuracy_percent"]


def test_every_model_loads_without_fetching_anything(one_run: Path) -> None:
    """Also the one that starts from ImageNet's weights: its trained ones are all there is to it."""
    from job import models
    from job.engine import build

    about = json.loads((one_run / "model.json").read_text())
    for name in models.names():
        trained = models.find(name).build(10)
        loaded = classifier.load(about | {"model": name}, build.weights_file(trained))
        for key, tensor in trained.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[key], tensor)


@pytest.fixture
def address(images: Path) -> Iterator[str]:
    """An HTTP server for the images."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(images))
    handler.func.log_message = lambda *_: None  # type: ignore[method-assign]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def names_and_bytes(place: str) -> list[tuple[str, bytes]]:
    found = inputs.found(place)
    return [(found.name(key), found.read(key)) for key in found.keys]


def test_a_file_and_addresses(images: Path, address: str) -> None:
    content = (images / "0.png").read_bytes()
    assert names_and_bytes(str(images / "0.png")) == [("0.png", content)]
    assert names_and_bytes((images / "0.png").as_uri()) == [("0.png", content)]
    assert [name for name, _ in names_and_bytes((images / "deep").as_uri())] == [f"er/{n}.png" for n in (1, 3, 5)]
    assert names_and_bytes(f"{address}/0.png?key=secret") == [(f"{address}/0.png", content)]
    with pytest.raises(Fault, match="HTTP status 404") as gone:
        names_and_bytes(f"{address}/missing.png")
    assert not isinstance(gone.value, TemporaryFault)
    with pytest.raises(TemporaryFault):
        names_and_bytes("http://127.0.0.1:9/a.png")


def test_a_bucket(images: Path, owner: Any, bucket: str, s3_environment: dict[str, str]) -> None:
    for name in ("0.png", "deep/er/1.png", "notes.txt"):
        owner.put_object(Bucket=bucket, Key=f"in/{name}", Body=(images / name).read_bytes())
    content = (images / "0.png").read_bytes()
    assert names_and_bytes(f"s3://{bucket}/in/0.png") == [("0.png", content)]
    assert [name for name, _ in names_and_bytes(f"s3://{bucket}/in")] == ["0.png", "deep/er/1.png"]
    with pytest.raises(Fault, match=r"has no object 9\.png"):
        names_and_bytes(f"s3://{bucket}/in/9.png")
    with pytest.raises(Fault, match="INPUT"):
        names_and_bytes("s3://no-such-bucket-anywhere/in")


def test_what_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="there is no"):
        inputs.found(str(tmp_path / "nowhere"))
    with pytest.raises(Fault, match=r"holds no JPEG, PNG"):
        inputs.found(str(tmp_path))


def test_an_image_that_did_not_arrive_may_be_tried_again(
    handed_on: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"MODE": "predict", "RUN_ID": "mine", "INPUT": "http://127.0.0.1:9/a.png", "DEVICE": "cpu"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TemporaryFault, match="could not be read"):
        predict.run(settings.load(), Progress("off"), Stop())


def test_probabilities_are_whole(handed_on: Path) -> None:
    about = json.loads((handed_on / "model.json").read_text())
    model = classifier.load(about, (handed_on / "weights.pt").read_bytes())
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    shares = predict_answers.probabilities(model, pixels, device.choose("cpu", "fp32"))
    assert all(math.isclose(row.sum(), 1) for row in shares)
    text = predict_rows.rows([predict_rows.Answer("a,b", shares[0])], predict_rows.Columns(about["classes"]))
    assert next(csv.reader(io.StringIO(text)))[0] == "a,b"


def test_a_mode_without_its_input(main: Job) -> None:
    done = main(MODE="predict")
    assert done.returncode == 78
    assert "INPUT: MODE=predict needs it" in done.stdout
