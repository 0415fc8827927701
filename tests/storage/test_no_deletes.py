"""A key that may not delete: what would be deleted is emptied and counts as not there, so that a run begins, ends and
begins anew as on any store.
"""

from __future__ import annotations

from typing import Any

import pytest

from job.errors import TakenOver
from job.interrupt import Stop
from job.runs import lock
from job.storage import open_store
from tests.conftest import Job
from tests.helpers.fault_proxy import Proxy, Rule
from tests.helpers.s3_fixtures import aws_variables, set_aws

DENIED = Rule("answer", "DELETE", status=403, code="AccessDenied")


@pytest.fixture
def place(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    set_aws(monkeypatch, proxy.endpoint)
    proxy.rules = [DENIED]
    return f"s3://{bucket}/runs"


def test_what_is_deleted_is_not_there(place: str, owner: Any, bucket: str) -> None:
    store, other = open_store(place, "run"), open_store(place, "run")
    store.put("a", b"1")
    store.put("empty", b"")
    store.delete("a")
    store.delete("never there")
    for each in (store, other):
        assert each.get("a") is None
        assert each.get_versioned("a") is None
        assert each.list() == ["empty"]
    assert not store.deletes
    assert owner.get_object(Bucket=bucket, Key="runs/run/a")["ContentLength"] == 0


def test_it_is_written_anew_as_if_nothing_were_there(place: str) -> None:
    """By each way of writing; of two that find nothing, one wins."""
    store, other = open_store(place, "run"), open_store(place, "run")
    for name in ("a", "b", "c"):
        store.put(name, b"1")
        store.delete(name)
        assert other.get(name) is None
    store.put("a", b"2")
    assert store.put_if("b", b"2", None)
    assert not other.put_if("b", b"3", None)
    store.put_known("c", b"2", None)
    with pytest.raises(TakenOver):
        other.put_known("c", b"3", None)
    assert [other.get(name) for name in ("a", "b", "c")] == [b"2"] * 3


def test_a_lock_is_given_back_and_taken(place: str) -> None:
    for _ in range(2):
        with lock.held(open_store(place, "run"), Stop()) as held:
            held.store.put("status.json", b"{}")


@pytest.mark.slow
def test_a_run_is_finished_and_begun_anew(place: str, proxy: Proxy, tiny: Job) -> None:
    variables = aws_variables(proxy.endpoint) | {
        "OUTPUT": place,
        "RUN_ID": "run",
        "LEARNING_RATE": "0.001",
        "EPOCHS": "1",
    }
    ended = tiny(**variables)
    assert ended.returncode == 0, ended.stdout
    assert "nothing may be deleted; what is not needed is emptied" in ended.stdout + ended.stderr
    again = tiny(**variables)
    assert again.returncode == 0, again.stdout
    assert "finished already" in again.stdout
    assert tiny(**variables, MODE="verify").returncode == 0
    anew = tiny(**variables, FRESH="1")
    assert anew.returncode == 0, anew.stdout
    assert "finished: the files are in" in anew.stdout
    checked = tiny(**(variables | {"RUN_ID": "other", "MODE": "check"}))
    assert "may not be deleted" in " ".join(checked.stdout.split())
