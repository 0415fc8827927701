"""A bucket that keeps versions is written to seldom, and loses nothing but what a kill costs. On a real server."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from job.errors import Interrupted, TemporaryFault
from job.interrupt import Stop
from job.results import Epoch, Score
from job.runs import checkpoint, lock
from job.runs.budget import NEWS
from job.runs.checkpoint import SLOTS, Identity, Saved
from job.runs.keeper import Keeper, Patience
from job.runs.owner import PATIENCE_MOST
from job.runs.pace import SELDOM, USUAL, pace_of
from job.runs.standing import FINAL, START, Standing
from job.runs.status import Status
from job.storage import open_store
from job.storage.local import LocalStore
from tests.helpers import chaos
from tests.runs.test_resume import SlowStore

NOTHING = Saved(Identity({}, "", {}), 0, START)


@pytest.fixture
def versioned(owner: Any, bucket: str) -> str:
    """The name of a new bucket with versioning."""
    owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def writes(owner: Any, bucket: str) -> Counter[str]:
    """How often each name of the run was written: a version stays of every PUT."""
    listed = owner.list_object_versions(Bucket=bucket)
    assert not listed["IsTruncated"]
    names = (version["Key"].partition("run/")[2] for version in listed.get("Versions", ()))
    return Counter("checkpoint" if name in SLOTS else name for name in names)


def standing(number: int) -> Standing:
    return Standing((), FINAL, (Epoch(number, Score(1.0, 0.5), Score(1.0, 0.5), 1.0),), None)


def test_the_bucket_decides(s3_environment: dict[str, str], owner: Any, bucket: str, tmp_path: Path) -> None:
    place = open_store(f"s3://{bucket}", "run")
    assert pace_of(LocalStore(tmp_path)) is pace_of(place) is USUAL
    owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert pace_of(place) is SELDOM
    owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert pace_of(place) is USUAL


def test_patience_has_room_for_several_heartbeats_and_others_grant_it() -> None:
    for pace in (USUAL, SELDOM):
        assert pace.timing.with_answers_of(0.0) == pace.timing
        assert 3 * pace.timing.beat <= pace.timing.trust < pace.timing.patience <= PATIENCE_MOST
    assert (USUAL.news, SELDOM.news) == (NEWS, SELDOM.states.apart)


def test_writes_are_counted(s3_environment: dict[str, str], owner: Any, versioned: str) -> None:
    """An owner with a state every 50 ms: the first one and the last one are written, between them one a minute."""
    stop, states, began = Stop(), 40, time.monotonic()
    store = open_store(f"s3://{versioned}", "run")
    with lock.held(store, stop, SELDOM.timing) as held, Status(held.brief, stop) as status:
        status.tell("train")
        with Keeper(held.brief, NOTHING, status.stands, stop, SELDOM.states) as keeper:
            for number in range(1, states + 1):
                keeper.hand_over(standing(number))
                time.sleep(0.05)
        saved = checkpoint.load(held.store)
    assert saved is not None
    assert saved.standing.history[0].number == states
    found, took = writes(owner, versioned), time.monotonic() - began
    assert 1 <= found["checkpoint"] <= 2 + took / SELDOM.states.apart
    assert 1 <= found["lock.json"] <= 1 + took / SELDOM.timing.beat
    assert 1 <= found["status.json"] <= 1 + found["checkpoint"], "on change alone"


def test_the_same_status_is_not_written_again(tmp_path: Path) -> None:
    put: list[str] = []

    class Counting(LocalStore):
        def put_known(self, name: str, content: bytes, version: str | None) -> str:
            put.append(json.loads(content)["phase"])
            return super().put_known(name, content, version)

    with Status(Counting(tmp_path), Stop()) as status:
        for phase in ("train", "train", "train", "report", "report"):
            status.tell(phase)
            time.sleep(0.1)
    assert put == ["train", "report"]


def test_what_waits_is_the_newest_and_a_stop_writes_it(tmp_path: Path) -> None:
    """States are taken while one waits its minute, so that no epoch is lost when the attempt ends."""
    keeper = Keeper(LocalStore(tmp_path), NOTHING, lambda _: None, patience=Patience(apart=60.0))
    with suppress(Interrupted), keeper:
        keeper.hand_over(standing(1))
        keeper.flush()
        taken, deadline = 1, time.monotonic() + 30
        while taken < 4 and time.monotonic() < deadline:  # a copy may take but its share of the time

            def take() -> Standing:
                nonlocal taken
                taken += 1
                return standing(taken)

            keeper.offer(take)
            time.sleep(0.01)
        on_disk = checkpoint.load(LocalStore(tmp_path))
        raise Interrupted(signal.SIGTERM)
    assert on_disk is not None
    assert on_disk.sequence == 1
    saved = checkpoint.load(LocalStore(tmp_path))
    assert saved is not None
    assert (saved.sequence, saved.standing.history[0].number) == (2, taken) == (2, 4)


def test_what_was_refused_does_not_wait_a_minute(tmp_path: Path) -> None:
    store = SlowStore(tmp_path, 0.0, TemporaryFault("ill"))
    with Keeper(store, NOTHING, lambda _: None, patience=Patience(60, 0.05, apart=60.0)) as keeper:
        keeper.hand_over(standing(1))
        time.sleep(0.3)
        store.error = None
        deadline = time.monotonic() + 20
        while not store.puts and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.puts == [SLOTS[1]]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_where_versions_stay(
    twin: tuple[dict[str, bytes], float], s3_environment: dict[str, str], owner: Any, versioned: str, signum: int
) -> None:
    """The real job, to the same bytes; an attempt writes its first state and its last."""
    report = chaos.chaos(
        2,
        s3_environment,
        *twin,
        lambda place, home: chaos.bucket_files(owner, place),
        output=lambda number, home: f"s3://{versioned}/job-{number}",
        seed=3,
        signum=signum,
        empty_disk=True,
    )
    assert report.different == []
    assert report.kills == 2
    attempts, found = report.kills + report.jobs, writes(owner, versioned)
    assert found["checkpoint"] <= 3 * attempts
    assert found["status.json"] <= 8 * attempts
