"""The pretrained weights belong to the run: by their content, never by the path."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from job import settings
from job.console.progress import Progress
from job.data.dataset import other_weights
from job.errors import Fault
from job.runs import checkpoint, code, publish
from job.runs.checkpoint import Identity, Saved
from job.runs.standing import Standing
from job.storage.local import LocalStore
from tests.conftest import TINY, Job, start_job, tells
from tests.helpers.mirror import mirror
from tests.helpers.weight_files import GOOD, network

RUN = TINY | {
    "MODEL": "resnet18_pretrained",
    "DATA_LIMIT": "20",
    "BATCH_SIZE": "10",
    "LEARNING_RATE": "0.0001",
    "EPOCHS": "1",
    "RUN_ID": "",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One network's weights in two layouts, and another network's."""
    folder = tmp_path_factory.mktemp("weights")
    contents = {
        "one": GOOD["published"](network(1).state_dict()),
        "same": GOOD["imagenet example"](network(1).state_dict()),
        "other": GOOD["published"](network(2).state_dict()),
    }
    paths = {name: folder / f"{name}.pth" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def with_weights(monkeypatch: pytest.MonkeyPatch, source: str | Path, **variables: str) -> Any:
    for name, value in (RUN | {"PRETRAINED_WEIGHTS": str(source)} | variables).items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_the_path_does_not_name_the_run(files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {with_weights(monkeypatch, source).run_name for source in (*files.values(), "https://host/a?b=c", "")}
    assert len(names) == 1
    assert "PRETRAINED_WEIGHTS" not in settings.load().shaping()


def finished_from(run: Path, record: dict[str, str] | None, now: Any) -> LocalStore:
    """A finished run of the settings `now` that started from these weights; its figures stand for nothing here."""
    store = LocalStore(run)
    publish.publish(store, {}, publish.about(now, "0" * 64, code.of(now.model), record), lambda: None)
    return store


def test_a_finished_run_is_told_by_the_content_of_its_weights(
    files: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from job.data import pretrained

    quiet = Progress("off")
    one = pretrained.load("resnet18_pretrained", str(files["one"]), bar=quiet.bar, open_s3=lambda _: None)  # type: ignore[arg-type,return-value]
    assert one is not None
    store = finished_from(tmp_path, one.record(), with_weights(monkeypatch, files["one"]))

    def is_finished(source: str | Path) -> bool:
        now = with_weights(monkeypatch, source)
        return publish.finished_already(store, now, lambda: "", other_weights(now, quiet))

    assert is_finished(files["one"])
    assert is_finished(files["same"]), "the same weights, elsewhere and in another layout"
    with pytest.raises(Fault, match=f"it started from weights with the SHA-256 {one.sha256[:16]}") as caught:
        is_finished(files["other"])
    assert caught.value.exit_code == 78
    assert "FRESH=1" in caught.value.remedy
    assert "RUN_ID" in caught.value.remedy
    with mirror(files["one"].read_bytes()) as (address, _):
        assert is_finished(f"{address}/good?token=one")
    with mirror(files["other"].read_bytes()) as (address, _), pytest.raises(Fault, match="it started from weights"):
        is_finished(f"{address}/good?token=two")
    caplog.clear()
    assert is_finished("gone.pth"), "what is finished stays so"
    assert "were not compared" in caplog.text
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing is kept here"))
    with pytest.raises(Fault, match="other weights than those that torchvision publishes"):
        is_finished("")


def test_torchvisions_own_need_no_download_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing is kept here"))
    now = with_weights(monkeypatch, "")
    store = finished_from(tmp_path, {"sha256": "1" * 64, "file_sha256": "f37072fd" + "0" * 56}, now)
    assert publish.finished_already(store, now, lambda: "", other_weights(now, Progress("off")))


def test_a_state_goes_on_with_its_own_weights_alone(tmp_path: Path) -> None:
    was = Identity({"MODEL": "resnet18_pretrained"}, "a" * 64, {"device": "cpu"}, {}, "b" * 64)
    saved = checkpoint.decode(checkpoint.encode(Saved(was, 1, Standing())))
    checkpoint.check(saved, was, "here")
    for other in ("c" * 64, None):
        now = Identity(was.settings, was.data_sha256, was.arithmetic, {}, other)
        with pytest.raises(Fault, match="the pretrained weights have changed"):
            checkpoint.check(saved, now, "here")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_from_end_to_end(
    files: Mapping[str, Path], tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.pth"
    shutil.copy(files["one"], weights)
    variables = RUN | {"PRETRAINED_WEIGHTS": str(weights)}
    done = job(timeout=600, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "outputs").iterdir()
    manifest, results = (json.loads((run / name).read_text()) for name in ("manifest.json", "results.json"))
    sha256 = manifest["pretrained"]["sha256"]
    assert results["provenance"]["pretrained"] == manifest["pretrained"]
    assert sha256 in (run / "report.html").read_text()
    assert f"SHA-256 {sha256[:16]}" in done.stdout

    assert "finished already" in job(timeout=600, **variables | {"PRETRAINED_WEIGHTS": str(files["same"])}).stdout
    verified = {"MODE": "verify", "RUN_ID": run.name, "DEVICE": "cpu"}
    assert job(timeout=600, **verified).returncode == 0
    assert job(timeout=600, **verified, PRETRAINED_WEIGHTS=str(files["same"])).returncode == 0

    shutil.copy(files["other"], weights)
    for mode in ("run", "check", "verify"):
        refused = job(timeout=600, **variables | {"MODE": mode, "RUN_ID": run.name})
        assert refused.returncode == 78, f"{mode}: {refused.stdout}{refused.stderr}"
        assert "it started from weights with the SHA-256" in refused.stdout + refused.stderr, mode
    assert job(timeout=600, **variables, FRESH="1").returncode == 0
    assert json.loads((run / "manifest.json").read_text())["pretrained"]["sha256"] != sha256


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_stopped_run_refuses_other_weights(files: Mapping[str, Path], tmp_path: Path, job: Job) -> None:
    weights = tmp_path / "weights.pth"
    shutil.copy(files["one"], weights)
    variables = RUN | {"PRETRAINED_WEIGHTS": str(weights), "EPOCHS": "500", "LOG_FORMAT": "json"}
    running = start_job(tmp_path, variables)
    assert running.stdout is not None
    epochs = (line for line in running.stdout if tells(line, "epoch"))
    for _ in range(3):
        next(epochs)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=300)
    assert running.returncode == 143
    shutil.copy(files["other"], weights)
    refused = job(timeout=600, **variables)
    assert refused.returncode == 78, refused.stdout
    assert "the pretrained weights have changed" in refused.stdout + refused.stderr
