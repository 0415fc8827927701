"""`MODE=export`. Every model and a whole job: `make test-taken`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from job import models
from job.data import Split
from job.engine import build, classifier
from job.errors import Fault, Interrupted
from job.modes import export, export_formats, verify_exports
from job.modes.export_compared import compare, compared, torchs
from job.modes.export_formats import FORMATS
from job.runs import manifest, publish
from job.runs.finished import Finished
from job.storage import open_store
from tests.conftest import ROOT, Job

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


def trained(name: str) -> classifier.Classifier:
    """A model whose batch norms and head are not as they start, so that nothing is hidden behind ones and zeros."""
    torch.manual_seed(0)
    model = models.find(name).build(10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        model.train()
        model(torch.randn(64, 3, 32, 32))
    return classifier.load(about_of(name), build.weights_file(model))


def about_of(name: str) -> dict[str, Any]:
    classes = list("abcdefghij")
    return {"model": name, "num_classes": 10, "classes": classes, "image_size": 32, "mean": MEAN, "std": STD}


def images(count: int) -> Split:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(pixels, torch.arange(count) % 10)


@pytest.mark.parametrize(
    "name", [name if name == "mlp" else pytest.param(name, marks=pytest.mark.slow) for name in models.names()]
)
@pytest.mark.parametrize("form", FORMATS)
def test_every_model_computes_the_same(form: str, name: str) -> None:
    """For one image, for batches of any size; no place of this machine is in the file."""
    model, made, test = trained(name), FORMATS[form], images(301)
    written = made.write(model, 32, {"classes": json.dumps(["cat", "dog"])})
    answer = made.load(written.content, lambda: classifier.fresh(about_of(name)))
    found = compare(torchs(model, test, lambda: None), answer, test, lambda: None)
    assert found.largest_logit > 0.1
    assert found.images == 301
    if made.quantised:
        assert 0 < found.greatest_difference < 0.1 * max(1, found.largest_logit), "8 bits round to a 256th of the range"
        assert len(written.content) < len(FORMATS["onnx"].write(model, 32, {}).content)
    else:
        assert found.greatest_difference < 1e-5 * max(1, found.largest_logit)
        assert found.correct_exported == found.correct_torch
    assert unpacked(written.content).count(str(ROOT).encode()) == 0


def unpacked(content: bytes) -> bytes:
    """With the members of an archive, if it is one."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def test_onnx_and_safetensors_tell_their_classes_and_come_out_equal() -> None:
    import onnx
    import safetensors

    model, said = trained("mlp"), {"classes": json.dumps(["cat", "dog"])}
    written = FORMATS["onnx"].write(model, 32, said)
    proto = onnx.load_from_string(written.content)
    assert {prop.key: prop.value for prop in proto.metadata_props} == said
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert written.facts["opset"] >= 18
    assert FORMATS["onnx"].write(model, 32, said) == written
    weights = FORMATS["safetensors"].write(model, 32, said)
    assert FORMATS["safetensors"].write(model, 32, said) == weights
    header = json.loads(weights.content[8 : 8 + int.from_bytes(weights.content[:8], "little")])
    assert header["__metadata__"] == said
    assert safetensors.deserialize(weights.content)
    assert {"scale", "shift"} <= set(header)


@pytest.mark.slow
def test_a_run_as_a_person_exports_it(one_run: Path, main: Job, tmp_path: Path) -> None:
    """Then used as its sidecar says, without torch or this job: the answers are those of MODE=predict."""
    import onnxruntime

    run = tmp_path / "outputs" / "mine"
    shutil.copytree(one_run, run)
    before = json.loads((run / "manifest.json").read_text())["files"]
    variables = {"RUN_ID": "mine", "DEVICE": "cpu", "PRECISION": "fp32"}
    for formats in ("onnx,onnx-int8,pt2,safetensors", "onnx"):  # a second time replaces the first
        done = main(MODE="export", EXPORT_FORMAT=formats, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads((run / "manifest.json").read_text())["files"]
    assert set(after) == {*before, *(name for form in FORMATS.values() for name in (form.file, form.sidecar))}
    assert {name: after[name] for name in before} == before
    assert not (run / "lock.json").exists()
    verified = main(MODE="verify", **variables)
    assert verified.returncode == 0, verified.stdout
    for form in FORMATS.values():
        assert re.search(rf"^{form.file} +(near|equal) +logits differ from torch's by", verified.stdout, re.M)
        assert re.search(rf"^{form.sidecar} +equal", verified.stdout, re.M)

    sidecar = json.loads((run / "model.onnx.json").read_text())
    compared = sidecar["compared_with_torch"]
    assert compared["images"] == 40
    assert 100 * compared["correct_onnx"] / 40 == sidecar["test"]["accuracy_percent"], "as reported, in fp32"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    _, shares = session.run(None, {sidecar["input"]["name"]: pixels[None]})
    assert main(MODE="predict", INPUT="one.png", **variables).returncode == 0
    line = (tmp_path / "outputs" / "predictions" / "mine" / "predictions.csv").read_text().splitlines()[1]
    assert [float(value) for value in next(csv.reader([line]))[4:]] == pytest.approx(shares[0], abs=2e-6)

    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: the camera was upside down
    Image.fromarray(pixels[::-1, ::-1]).save(run / "cat.jpg", format="png", exif=exif)
    page = (ROOT / "docs" / "outputs.md").read_text().split("## For other programs")[1]
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    code = ["onnxruntime" in snippets[0], "torch.export.load" in snippets[1], "safetensors" in snippets[2]]
    assert code == [True] * 3
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(snippets)],
        cwd=run,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n") == [*[sidecar["classes"][shares[0].argmax()]] * 3, ""], done.stderr


def test_missing_packages_are_told() -> None:
    form = dataclasses.replace(FORMATS["onnx"], packages=("onnx", "no_such_package"))
    with pytest.raises(Fault, match=r"not installed: no_such_package\.") as told:
        export_formats.check_packages([form, FORMATS["pt2"]])
    assert "make install" in told.value.remedy


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return open_store(str(tmp_path), "run")


def test_a_model_that_computes_something_else_is_refused(store: Any) -> None:
    ours = np.array([[3.0, 0.0], [0.0, 2.0], [0.5, 0.5 + 1e-6]], np.float32)
    labels = np.array([0, 1, 0])
    run = Finished("run", store, {})
    export.check(run, FORMATS["onnx"], compared(ours, ours, labels))
    close = ours.copy()
    close[2] = [0.5 + 1e-6, 0.5]  # both classes were equally likely: another answer is no fault
    found = compared(ours, close, labels)
    assert (found.other_answers, found.close_calls, found.correct_torch, found.correct_exported) == (1, 1, 2, 3)
    export.check(run, FORMATS["onnx"], found)
    with pytest.raises(Fault, match="Nothing was stored"):
        export.check(run, FORMATS["onnx"], compared(ours, ours + 0.01, labels))
    with pytest.raises(Fault, match="1 of 3 answers"):
        export.check(
            run, FORMATS["onnx"], compared(ours, ours[::-1][[2, 1, 0]] * np.float32([[1, 1], [-1, -1], [1, 1]]), labels)
        )
    with pytest.raises(Fault):
        export.check(run, FORMATS["onnx"], compared(ours, ours * np.nan, labels))


def test_verify_finds_a_model_that_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be after somebody put other weights there, and wrote the manifest anew."""
    about = about_of("mlp") | {"test": {}, "dataset": "synthetic", "data_sha256": "0"}
    model, form = trained("mlp"), FORMATS["safetensors"]
    other = classifier.fresh(about)
    said = about | {"resize": "squash", "input": {"shape": ["batch", 32, 32, 3]}, "classes": list("abcdefghix")}
    files = {form.file: form.write(other, 32, {}).content, form.sidecar: json.dumps(said).encode()}
    loaded = classifier.load(about, build.weights_file(model.model))
    monkeypatch.setattr(verify_exports.finished, "read", lambda _, name: files[name])
    facts: Any = SimpleNamespace(
        about=about, model=loaded, manifest={"files": files}, data=SimpleNamespace(test=images(20)), found=None
    )
    (row, sidecar) = verify_exports.rows(facts)
    assert (row.verdict, sidecar.verdict) == ("differs", "differs")
    assert "classes is" in sidecar.told
    files[form.file], files[form.sidecar] = form.write(model, 32, {}).content, json.dumps(said | about).encode()
    assert [row.verdict for row in verify_exports.rows(facts)] == ["equal", "equal"]


def test_what_is_quantised_may_lose_little() -> None:
    ours, labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 100], np.array([0, 1, 2, 3] * 100)
    for lost, fits in ((4, True), (5, False)):
        theirs = ours.copy()
        theirs[:lost] = theirs[:lost, ::-1]
        found = compared(ours, theirs, labels)
        assert (found.correct_torch - found.correct_exported, found.fits(True), found.fits(False)) == (
            lost,
            fits,
            False,
        )
    assert not compared(ours, ours * np.nan, labels).fits(True)


def test_files_that_are_added_are_vouched_for_at_every_moment(store: Any) -> None:
    """Stopped before any of the writes, the manifest names nothing that is not there as named."""
    store.put("weights.pt", b"weights")
    settings = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": None, "SEED": 1}
    manifest.write(store, {"run": "run", "settings": settings, "data_sha256": "0" * 64, "files": {}}, None)
    publish.add(store, {"model.onnx": b"old", "model.onnx.json": b"{}"}, lambda: None)

    for stop_at in range(3):
        calls = iter(range(10))

        def check(calls: Any = calls, stop_at: int = stop_at) -> None:
            if next(calls) == stop_at:
                raise Interrupted(15)

        with pytest.raises(Interrupted):
            publish.add(store, {"model.onnx": b"new", "model.onnx.json": b"[]"}, check)
        assert json.load(io.BytesIO(store.get(manifest.NAME)))["files"] == {}
    publish.add(store, {"model.onnx": b"new", "model.onnx.json": b"[]"}, lambda: None)
    files = json.load(io.BytesIO(store.get(manifest.NAME)))["files"]
    assert {name: said["size"] for name, said in files.items()} == {"model.onnx": 3, "model.onnx.json": 2}
    publish.remove(store)
    assert store.list() == [], "all that lies in the run's place goes, whatever the manifest named"
