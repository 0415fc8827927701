"""What a manifest vouches for is there, whole, at every moment: files first and read back, the manifest last."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.errors import Interrupted, TakenOver, TemporaryFault
from job.runs import manifest, publish, taking
from job.storage.local import LocalStore
from tests.helpers.small_run import ABOUT

FILES = {"weights.pt": b"weights", "results.json": b"{}", "report.html": b"<p>"}


class Altering(LocalStore):
    """A directory that stores other bytes than it was given, the first `times`; `done` is what was done there."""

    def __init__(self, root: Path, times: int = 0) -> None:
        super().__init__(root)
        self.times = times
        self.done: list[str] = []

    def put(self, name: str, content: bytes) -> None:
        self.done.append(f"put {name}")
        self.times -= 1
        super().put(name, b"?" + content[1:] if self.times >= 0 else content)

    def put_known(self, name: str, content: bytes, version: str | None) -> str:
        self.done.append(f"put {name}")
        return super().put_known(name, content, version)

    def delete(self, name: str) -> None:
        self.done.append(f"delete {name}")
        super().delete(name)


def test_a_file_that_comes_back_altered_is_stored_once_more(tmp_path: Path) -> None:
    store = Altering(tmp_path, times=1)
    publish.publish(store, FILES, ABOUT, lambda: None)
    assert {name: store.get(name) for name in FILES} == FILES
    said = manifest.read(store)
    assert said is not None
    assert said["files"] == {name: manifest.file_entry(content) for name, content in FILES.items()}


def test_a_file_that_comes_back_altered_twice_is_not_vouched_for(tmp_path: Path) -> None:
    store = Altering(tmp_path, times=2)
    with pytest.raises(TemporaryFault, match=r"weights.pt does not come back as it was stored"):
        publish.publish(store, FILES, ABOUT, lambda: None)
    assert store.list() == []


def test_the_manifest_comes_last(tmp_path: Path) -> None:
    """Stopped before any of the steps there is none; a finished run is not published over."""
    store = Altering(tmp_path)
    for stop_at in range(len(FILES) + 1):
        left = iter([None] * stop_at)

        def check(left: object = left) -> None:
            if next(left, "over") == "over":  # type: ignore[call-overload]
                raise Interrupted(15)

        with pytest.raises(Interrupted):
            publish.publish(store, FILES, ABOUT, check)
        assert manifest.read(store) is None
    store.done.clear()
    publish.publish(store, FILES, ABOUT, lambda: None)
    assert store.done == [f"put {name}" for name in (*FILES, manifest.NAME)]
    with pytest.raises(TakenOver):  # the very same files could be those of an answer that was lost
        publish.publish(store, {"results.json": b"[]"}, ABOUT, lambda: None)


def test_what_vouches_is_removed_first(tmp_path: Path) -> None:
    store = Altering(tmp_path)
    publish.publish(store, FILES, ABOUT, lambda: None)
    store.put("status.json", b"{}")
    store.put(taking.NAME, b"{}")
    store.done.clear()
    publish.remove(store)
    assert store.done[0] == f"delete {manifest.NAME}"
    assert store.done[-1] == "delete status.json"
    assert store.list() == [taking.NAME]


def test_a_state_that_is_not_listed_yet_is_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Altering(tmp_path)
    store.put("checkpoint/1", b"a state")
    monkeypatch.setattr(store, "list", lambda prefix="": [])
    publish.remove(store)
    assert store.get("checkpoint/1") is None
