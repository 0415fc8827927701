"""Pretrained weights: every layout in which they are published, what lies in their place, and where they come from."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from job import models, settings, storage
from job.console.progress import Progress
from job.data import pretrained, state_dicts
from job.data.pretrained import Pretrained
from job.engine import build
from job.errors import Fault, Interrupted, TemporaryFault
from job.interrupt import Stop
from job.preflight import weights as preflight
from tests.helpers.mirror import PAGE, mirror
from tests.helpers.s3_fixtures import set_aws
from tests.helpers.s3_server import Server
from tests.helpers.weight_files import BAD, GOOD, network, published, saved

MODEL = "resnet18_pretrained"


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return network()


@pytest.fixture(scope="module")
def state(net: nn.Module) -> Mapping[str, Tensor]:
    return net.state_dict()


@pytest.fixture(scope="module")
def content(state: Mapping[str, Tensor]) -> bytes:
    """The file as published."""
    return saved(published(state))


@contextmanager
def lying(file: Path, content: bytes) -> Iterator[Path]:
    """A file for a moment: each has 47 MB."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        yield file
    finally:
        file.unlink()


def load(source: str | None, check: Any = lambda: None) -> Pretrained:
    found = pretrained.load(MODEL, source, bar=Progress("off", check).bar, open_s3=storage.open_object)
    assert found is not None
    return found


def look(monkeypatch: pytest.MonkeyPatch, source: str | None) -> list[Any]:
    """What MODE=check finds."""
    monkeypatch.setenv("MODEL", MODEL)
    if source is not None:
        monkeypatch.setenv("PRETRAINED_WEIGHTS", source)
    return preflight.look(settings.load(), lambda: None)


@pytest.mark.parametrize("layout", GOOD)
def test_what_torch_takes_is_taken(tmp_path: Path, state: Mapping[str, Tensor], layout: str) -> None:
    """All but the head, which is put on anyway; and the hash is the same whatever the layout."""
    with lying(tmp_path / "weights", GOOD[layout](state)) as file:
        found = load(str(file))
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    assert list(found.state) == list(body)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in body.items())
    assert not any(isinstance(tensor, nn.Parameter) for tensor in found.state.values())
    assert found.sha256 == state_dicts.sha256_of(body)
    assert bool(found.notes) == (layout in ("imagenet example", "model", "averaged", "compiled", "lightning"))


def test_what_was_undone_is_said(tmp_path: Path, state: Mapping[str, Tensor]) -> None:
    def notes(layout: str) -> str:
        with lying(tmp_path / "weights", GOOD[layout](state)) as file:
            return load(str(file)).describe()

    assert "taken from its 'state_dict'; 'module.' in front of the names is left out" in notes("imagenet example")
    assert "taken from its 'model' (model_ema is another one, not used)" in notes("averaged")
    assert "'model.' in front of the names is left out; not used: loss.weight" in notes("lightning")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_features_are_those_of_torchvisions_network(
    tmp_path: Path, net: nn.Module, state: Mapping[str, Tensor], content: bytes, dtype: torch.dtype
) -> None:
    """At 224 pixels with ImageNet's own stem: all of the network but stem and head is the built model's."""
    with lying(tmp_path / "weights", content) as file:
        model: Any = build.Builder(MODEL, 10, 32, load(str(file)).state)()
    theirs: Any = network()
    theirs.load_state_dict(state)
    model.conv1, model.maxpool = theirs.conv1, theirs.maxpool
    model.fc = theirs.fc = nn.Identity()
    torch.manual_seed(1)
    images = torch.randn(2, 3, 224, 224, dtype=dtype)
    with torch.inference_mode():
        expected, features = (each.to(dtype).eval()(images) for each in (theirs, model))
    assert features.shape == (2, 512)
    assert expected.std() > 0.01, "features that say something"
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(features, expected, rtol=tolerance, atol=tolerance)


def test_every_part_of_the_state_counts(state: Mapping[str, Tensor]) -> None:
    """The hash is over names, dtypes, shapes and bytes, not over their order."""
    some = {name: state[name] for name in ("conv1.weight", "bn1.bias", "bn1.num_batches_tracked")}
    other = {
        "name": {name.replace("bn1", "bn2"): tensor for name, tensor in some.items()},
        "dtype": some | {"bn1.bias": some["bn1.bias"].view(torch.int32)},
        "shape": some | {"bn1.bias": some["bn1.bias"].reshape(8, 8)},
        "bytes": some | {"bn1.bias": torch.nextafter(some["bn1.bias"], torch.ones(64))},
    }
    hashes = {change: state_dicts.sha256_of(each) for change, each in other.items()}
    assert len({*hashes.values(), state_dicts.sha256_of(some)}) == 5
    assert state_dicts.sha256_of(dict(reversed(some.items()))) == state_dicts.sha256_of(some)
    bf16 = {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.ones(2, 2).t()}
    assert len(state_dicts.sha256_of(bf16)) == 64


@pytest.mark.parametrize("lies", BAD)
def test_what_cannot_be_used_says_what_lies_there(
    tmp_path: Path, state: Mapping[str, Tensor], capsys: pytest.CaptureFixture[str], lies: str
) -> None:
    """In words, never the name of an exception."""
    make, told = BAD[lies]
    with lying(tmp_path / "weights.pth", make(state)) as file, pytest.raises(Fault) as caught:
        load(str(file))
    assert caught.value.what.startswith(f"PRETRAINED_WEIGHTS: {file} ")
    assert told in caught.value.what
    assert caught.value.remedy
    assert "Error" not in str(caught.value)
    assert "weights_only" not in str(caught.value), "torch's advice to run the file's code is not repeated"
    assert caught.value.exit_code == 78
    assert "this must not be printed" not in capsys.readouterr().out


@pytest.mark.parametrize("lies", ["pointer", "cut", "code"])
def test_the_preflight_says_the_same(
    tmp_path: Path, state: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch, lies: str
) -> None:
    with lying(tmp_path / "weights.pth", BAD[lies][0](state)) as file:
        with pytest.raises(Fault) as caught:
            load(str(file))
        with pytest.raises(Fault) as checked:
            look(monkeypatch, str(file))
    assert str(checked.value) == str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    for name in ("missing.pth", "a-file/weights.pth"):
        (tmp_path / "a-file").write_text("x")
        with pytest.raises(Fault, match="is not a file"):
            load(str(tmp_path / name))
    with pytest.raises(Fault, match="is not a file"):
        load(str(tmp_path))
    with pytest.raises(Fault, match="gs://bucket/weights is no address that this job can read"):
        load("gs://bucket/weights?token=canary")


@pytest.mark.parametrize(
    ("manner", "kind", "told"),
    [
        ("missing", Fault, "HTTP status 404"),
        ("forbidden", Fault, "HTTP status 403"),
        ("page", Fault, "a web page"),
        ("busy", TemporaryFault, "HTTP status 503"),
        ("silent", TemporaryFault, "no answer in time"),
    ],
)
def test_an_address_that_does_not_give_them(
    content: bytes, monkeypatch: pytest.MonkeyPatch, manner: str, kind: type[Fault], told: str
) -> None:
    """A run ends as MODE=check says that it would."""
    monkeypatch.setattr(pretrained, "LIMITS", pretrained.Limits(timeout=0.5))
    with mirror(content) as (address, _):
        source = f"{address}/{manner}/weights.pth?token=canary"
        with pytest.raises(Fault, match=told) as caught:
            load(source)
        (finding,) = look(monkeypatch, source)
    assert type(caught.value) is kind
    assert "PRETRAINED_WEIGHTS" in str(caught.value)
    assert "canary" not in str(caught.value) + finding.detail
    assert told in finding.detail
    assert finding.exit_code == kind.exit_code


def test_an_address_that_breaks_off(content: bytes) -> None:
    with mirror(content) as (address, _), pytest.raises(TemporaryFault, match=r"cut off after \d+ of \d+ bytes"):
        load(f"{address}/cut/weights.pth")


def test_a_file_at_an_address_is_judged_as_one_here(content: bytes) -> None:
    with mirror(content[: 1 << 20]) as (address, _), pytest.raises(Fault) as caught:
        load(f"{address}/good/a.pth")
    assert f"the file at {address}/good/a.pth is cut off after 1.0 of about 45 MB" in caught.value.what


@pytest.mark.parametrize("manner", ["good", "parts", "nolength", "flaky"])
def test_an_address_that_gives_them(
    content: bytes, state: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr(pretrained, "LIMITS", pretrained.Limits(slowest=(1, 1, 1)))
    with mirror(content) as (address, requests):
        found = load(f"{address}/{manner}/weights.pth?token=canary")
        assert len(requests) == {"parts": 3, "flaky": 2}.get(manner, 1)
    assert torch.equal(found.state["layer4.1.bn2.running_var"], state["layer4.1.bn2.running_var"])
    assert found.origin == f"{address}/{manner}/weights.pth"


def test_a_stop_is_heard_while_a_server_says_nothing(content: bytes) -> None:
    stop = Stop()
    threading.Timer(0.5, lambda: setattr(stop, "signum", 15)).start()
    started = time.monotonic()
    with mirror(content) as (address, _), pytest.raises(Interrupted):
        load(f"{address}/silent/weights.pth", stop.check)
    assert time.monotonic() - started < 10


def test_a_bucket(
    swift: Server, owner: Any, bucket: str, content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_aws(monkeypatch, swift.endpoint)
    owner.put_object(Bucket=bucket, Key="deep/weights.pth", Body=content)
    found = load(f"s3://{bucket}/deep/weights.pth")
    with lying(tmp_path / "weights.pth", content) as file:
        assert found.sha256 == load(file.as_uri()).sha256 == load(str(file)).sha256
    assert look(monkeypatch, f"s3://{bucket}/deep/weights.pth")[0].result == "ok"
    with pytest.raises(Fault, match="has no object") as caught:
        load(f"s3://{bucket}/nothing.pth")
    assert caught.value.exit_code == 78
    (finding,) = look(monkeypatch, f"s3://{bucket}/nothing.pth")
    assert finding.exit_code == 78


@pytest.fixture
def address(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """torchvision's address, on loopback: where torch would keep the file, and the requests. As with torchvision's own,
    the file's name holds the beginning of its SHA-256.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with mirror(content) as (server, requests):
        monkeypatch.setattr(models.find(MODEL), "ADDRESS", f"{server}/good/{name}")
        yield tmp_path / "torch" / "hub" / "checkpoints" / name, requests


def test_torchvisions_file_is_kept_as_torch_keeps_it(address: tuple[Path, list[str]], content: bytes) -> None:
    kept, requests = address
    first, second = load(None), load(None)
    assert len(requests) == 1
    assert first.sha256 == second.sha256
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    assert kept.read_bytes() == content
    assert torch.hub.load_state_dict_from_url(models.find(MODEL).ADDRESS, check_hash=True), "torch finds it there"
    assert len(requests) == 1
    kept.unlink()


@pytest.mark.parametrize(
    ("lies", "told"), [(b"", "an empty file"), (PAGE, "a web page"), (None, "cut off after 1.0 of about 45 MB")]
)
def test_what_does_not_serve_in_torchs_cache_is_told_and_fetched_anew(
    address: tuple[Path, list[str]],
    content: bytes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    lies: bytes | None,
    told: str,
) -> None:
    kept, requests = address
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content[: 1 << 20] if lies is None else lies)
    warned, answers, _ = look(monkeypatch, None)
    assert (warned.result, answers.result) == ("warn", "ok")
    assert told in warned.detail
    load(None)
    assert len(requests) == 2, "once by MODE=check, once by the run"
    assert told in caplog.text
    assert kept.read_bytes() == content
    kept.unlink()


def test_another_file_in_torchs_cache_is_taken_as_torch_does_and_told(
    address: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, requests = address
    with lying(kept, saved(published(network(seed=1).state_dict()))):
        found = load(None)
        (finding,) = look(monkeypatch, None)
    assert requests == []
    assert "is not the file that torchvision publishes under this name" in found.doubt
    assert finding.result == "warn"


@pytest.mark.parametrize(("manner", "told"), [("wrong", "sent other bytes"), ("page", "sent a web page")])
def test_torchvisions_address_with_something_else(
    address: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, manner: str, told: str
) -> None:
    module = models.find(MODEL)
    monkeypatch.setattr(module, "ADDRESS", module.ADDRESS.replace("/good/", f"/{manner}/"))
    with pytest.raises(Fault, match=told):
        load(None)
    assert list(address[0].parent.iterdir()) == [], "nothing of it is kept"


def test_a_torch_home_that_cannot_be_written(
    address: tuple[Path, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "torch").write_text("no directory")
    assert load(None).sha256
    assert "cannot be written; the weights are not kept" in caplog.text


def test_a_published_name_promises_a_content_at_any_address(content: bytes) -> None:
    name = pretrained.published_name(models.find(MODEL))
    with mirror(content) as (server, _), pytest.raises(Fault, match="expected f37072fd"):
        load(f"{server}/good/{name}")


def test_the_real_address() -> None:
    module = models.find(MODEL)
    assert pretrained.hash_in(pretrained.published_name(module)) == "f37072fd"
    assert pretrained.hash_in("weights.pth") == pretrained.hash_in("resnet18-2024.pth") == ""
    assert pretrained.kept(module).name == "resnet18-f37072fd.pth"
