"""One owner: whoever was frozen, cut off or slow writes nothing into a run that is another's by then."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.errors import TakenOver, TemporaryFault
from job.interrupt import Stop
from job.runs import lock, manifest, publish, status, taking
from job.runs.owner import Clock, Owner, Timing, boot_time, content, owner, start_time, this_machine
from job.storage import Heard, s3
from job.storage.local import LocalStore
from tests.conftest import ROOT, bare_environment
from tests.helpers import chaos, small_run
from tests.helpers.fault_proxy import Proxy, Rule
from tests.helpers.s3_fixtures import aws_variables, set_aws
from tests.helpers.s3_server import Server

QUICK = Timing(beat=0.1, patience=0.8)
LIMITS = s3.Limits(connect=5, read=5, pause=0.1, patience=60, settle=0.3)
STEPS = 13  # four removals, status, state, three files, manifest, state gone, status, lock gone
PUBLISHED = 11  # from here on the run was finished before the freeze, and its job may say so
PATIENT = 300.0  # seconds, on a machine under load


@pytest.fixture(params=["a directory", "S3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "a directory":
        return str(tmp_path)
    request.getfixturevalue("s3_environment")
    return f"s3://{request.getfixturevalue('bucket')}"


Running = list["subprocess.Popen[str]"]


@pytest.fixture
def running() -> Iterator[Running]:
    """Processes of a test, which end with it."""
    processes: Running = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def begin(running: Running, output: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.small_run", output, *arguments],
        cwd=ROOT, env=bare_environment() | aws | variables, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    running.append(process)
    return process


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """The lines up to the one with `word`; all of them where none has it."""
    assert process.stdout is not None
    lines = ""
    for line in process.stdout:
        lines += line
        if word in line:
            break
    return lines


def read_until_frozen(process: subprocess.Popen[str]) -> str:
    """The same, once it has stopped: it says so right before, and a SIGCONT must not come in between."""
    said = read_until(process, "frozen")
    assert "frozen" in said, said
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return said


def assert_is_whole(output: str, by: str) -> None:
    """The run is finished, every byte of it is `by`'s, and nothing else lies there."""
    store = small_run.place(output)
    said = manifest.read(store)
    assert said is not None
    for name in small_run.FILES:
        assert store.get(name) == small_run.content(name, by), name
        assert said["files"][name] == manifest.file_entry(small_run.content(name, by))
    told = status.read(store)
    assert (told["phase"], told["progress"]["by"], told["last_error"]) == ("finished", by, None)
    assert sorted(store.list()) == sorted([*small_run.FILES, manifest.NAME, status.NAME])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frozen_at_every_write_it_does_nothing_to_the_new_owner(output: str, running: Running) -> None:
    """SIGSTOP at each put and delete of a run; another job takes over and finishes; then SIGCONT."""
    places = {step: f"{output}/{step}" for step in (-1, *range(1, STEPS + 1))}
    old = {}
    for steps in (list(places)[start : start + 3] for start in range(0, len(places), 3)):  # few at a time
        for step in steps:
            old[step] = begin(running, places[step], "old", str(step))
        for step in steps:
            read_until_frozen(old[step])
        new = {step: begin(running, places[step], "new") for step in steps}
        for step, process in new.items():
            said, _ = process.communicate(timeout=PATIENT)
            assert process.returncode == 0, f"step {step}: {said}"
    for step, process in old.items():
        process.send_signal(signal.SIGCONT)
        if step == -1:
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENT)
        if 0 < step < PUBLISHED:
            assert process.returncode == 75, f"step {step}: {said}"
            assert "another job" in said
        assert_is_whole(places[step], "new")


@pytest.mark.slow
def test_cut_off_from_the_store_its_own_repeats_do_nothing(
    proxy: Proxy, swift: Server, bucket: str, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is cut off in publish, without any freeze: 503 for everything, until the other has finished."""
    set_aws(monkeypatch, swift.endpoint)
    proxied = aws_variables(proxy.endpoint)
    for number, kind in enumerate(("answer", "hang", "lost")):
        output = f"s3://{bucket}/{number}"
        process = begin(running, output, "old", "7", **proxied)
        read_until_frozen(process)
        proxy.rules = [Rule(kind, "*")]
        process.send_signal(signal.SIGCONT)
        new = begin(running, output, "new")
        said, _ = new.communicate(timeout=PATIENT)
        assert new.returncode == 0, said
        proxy.rules = []
        said, _ = process.communicate(timeout=PATIENT)
        assert process.returncode == 75, said
        assert_is_whole(output, "new")


def test_frozen_for_less_than_the_patience_it_goes_on(tmp_path: Path, running: Running) -> None:
    process = begin(running, str(tmp_path), "old", "6")
    read_until_frozen(process)
    time.sleep(1.6)  # past its own trust, so that it has to prove itself
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENT)
    assert process.returncode == 0
    assert_is_whole(str(tmp_path), "old")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_started_at_the_same_instant_and_a_third_one_frozen(output: str, running: Running) -> None:
    """One finishes, the other is told; the third one, frozen before them and woken after, spoils nothing."""
    for number in range(2):
        place = f"{output}/{number}"
        third = begin(running, place, "third", "7")
        read_until_frozen(third)
        two = {name: begin(running, place, name) for name in ("one", "two")}
        codes = {}
        for name, process in two.items():
            process.communicate(timeout=PATIENT)
            codes[name] = process.returncode
        assert 0 in codes.values(), codes
        assert set(codes.values()) <= {0, 75}
        third.send_signal(signal.SIGCONT)
        third.communicate(timeout=PATIENT)
        assert third.returncode == 75
        told = status.read(small_run.place(place))["progress"]["by"]
        assert_is_whole(place, told)
        assert codes[told] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_started_at_the_same_instant_fifty_times(output: str) -> None:
    """Either one is told of the other, or the second one comes when the first has finished. The run is whole."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.small_run"])
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    ended: Counter[tuple[int | None, ...]] = Counter()
    for number in range(50):
        place, start = f"{output}/{number}", context.Barrier(2)
        two = [context.Process(target=small_run.race, args=(start, place, name, aws)) for name in ("one", "two")]
        for process in two:
            process.start()
        for process in two:
            process.join(PATIENT)
        codes = {name: process.exitcode for name, process in zip(("one", "two"), two, strict=True)}
        last = status.read(small_run.place(place))["progress"]["by"]
        assert codes[last] == 0, codes
        assert set(codes.values()) <= {0, 75}, codes
        assert_is_whole(place, last)
        ended[tuple(sorted(codes.values()))] += 1  # type: ignore[type-var]
    print(dict(ended))


# ---- the lock itself ----


def foreign(**changes: Any) -> bytes:
    return content(replace(Owner("someone", "elsewhere", "another machine", 1, "1"), **changes))


def test_who_is_dead_here() -> None:
    """Only who ran on this very machine and is gone, its number perhaps another process's by now."""
    living = Owner("job", "here", this_machine(), os.getpid(), start_time(os.getpid()))
    assert not living.is_dead_here()
    assert replace(living, started="1").is_dead_here()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        ended = replace(living, process=child.pid, started=start_time(child.pid))
    assert ended.is_dead_here()
    assert not replace(ended, machine="another").is_dead_here()


def test_every_write_asks_and_every_repeat_asks_again(output: str) -> None:
    """Each put, rename and removal of a store that is guarded, and nothing that only reads."""
    asked: list[str] = []

    def guard() -> None:
        asked.append("")

    store = small_run.place(output).guarded(guard, 5.0)
    calls = {
        "put": lambda: store.put("a/b", b"1"),
        "put_known": lambda: store.put_known("c", b"1", None),
        "put_if": lambda: store.put_if("d", b"1", None),
        "delete": lambda: store.delete("a/b"),
    }
    for name, call in calls.items():
        asked.clear()
        call()
        assert asked, name
    asked.clear()
    store.get("c")
    store.list()
    assert not asked

    def refuse() -> None:
        raise TakenOver("another's", "")

    refused = store.guarded(refuse, 5.0)
    for name in ("put", "put_known", "put_if", "delete"):
        with pytest.raises(TakenOver):
            {
                "put": lambda: refused.put("c", b"2"),
                "put_known": lambda: refused.put_known("new", b"2", None),
                "put_if": lambda: refused.put_if("new", b"2", None),
                "delete": lambda: refused.delete("c"),
            }[name]()
    assert store.get("c") == b"1"
    assert store.get("new") is None


def test_a_repeat_after_a_refusal_asks_again(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours at the first sending, another's at the second: nothing is written."""
    set_aws(monkeypatch, proxy.endpoint)
    answers = iter([None, None, TakenOver("another's", "")])

    def guard() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    store = s3.open_store(f"s3://{bucket}", "run", LIMITS).guarded(guard, 30.0)
    proxy.rules = [Rule("answer", times=2)]
    with pytest.raises(TakenOver):
        store.put("a", b"1")
    proxy.rules = []
    assert store.get("a") is None


def test_put_known_is_for_who_knows_what_is_there(output: str) -> None:
    store = small_run.place(output)
    first = store.put_known("status.json", b"1", None)
    second = store.put_known("status.json", b"2", first)
    for stale in (None, first):
        with pytest.raises(TakenOver):
            store.put_known("status.json", b"mine", stale)
    assert store.get_versioned("status.json") == (b"2", second)


def test_put_known_whose_answer_was_lost(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has it; the repeat is refused, and finds its own content there."""
    set_aws(monkeypatch, proxy.endpoint)
    store = s3.open_store(f"s3://{bucket}", "run", LIMITS)
    for kind in ("atomic", "unconditional"):
        name = f"status-{kind}"
        version = store.put_known(name, b"1", None)
        proxy.rules = [Rule("lost", times=1), Rule(kind)]
        version = store.put_known(name, b"2", version)
        proxy.rules = [Rule(kind)]
        assert store.get_versioned(name) == (b"2", version)
        with pytest.raises(TakenOver):
            store.put_known(name, b"3", "stale")


def test_a_heartbeat_that_ends_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever: an odd store's KeyError, a MemoryError. Otherwise two jobs would train after the patience."""
    for error in (KeyError("ETag"), MemoryError(), SystemExit(1)):
        store = LocalStore(tmp_path)
        with monkeypatch.context() as patch, lock.held(store, Stop(), QUICK) as held:

            def broken(*_: object, error: BaseException = error) -> None:
                raise error

            patch.setattr(LocalStore, "put_known", broken)
            end = time.monotonic() + 20
            while held.lost is None and time.monotonic() < end:
                time.sleep(0.02)
            with pytest.raises(TemporaryFault, match="heartbeat of the lock has ended") as caught:
                held.check()
            assert caught.value.exit_code == 75
            with pytest.raises(TemporaryFault, match="heartbeat"):
                held.store.put("results.json", b"")
        store.delete(taking.NAME)


def test_without_a_heartbeat_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that refuses heartbeats for a while: writing waits for the next one that is durable."""
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), QUICK) as held:
        real = LocalStore.put_known

        def refused(*_: object) -> str:
            raise TemporaryFault("ill", "")

        monkeypatch.setattr(LocalStore, "put_known", refused)
        time.sleep(QUICK.trust + 0.3)
        writing = threading.Thread(target=held.store.put, args=("results.json", b"1"))
        writing.start()
        time.sleep(0.5)
        assert store.get("results.json") is None
        monkeypatch.setattr(LocalStore, "put_known", real)
        writing.join(30)
        assert store.get("results.json") == b"1"


def test_it_trusts_no_longer_than_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that ends the taking is slow: the next heartbeat asks others for more patience, not this lock yet."""
    store, look = LocalStore(tmp_path), LocalStore.get_versioned

    def slow(store: LocalStore, name: str) -> tuple[bytes, str] | None:
        found = look(store, name)
        time.sleep(0.3 if found else 0)
        return found

    monkeypatch.setattr(LocalStore, "get_versioned", slow)
    claim = taking.Claim(Owner("me", "", "", 0, ""), QUICK, Clock())
    taken = taking.acquire(store, claim, lambda: None)
    assert claim.timing.with_answers_of(claim.clock.answer).patience > QUICK.patience
    assert taken.timing.patience == owner(store.get(taking.NAME) or b"").patience == QUICK.patience


def test_a_lock_that_another_may_be_about_to_take_is_not_removed(tmp_path: Path, monkeypatch: Any) -> None:
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), QUICK):

        def refused(*_: object) -> str:
            raise TemporaryFault("ill", "")

        monkeypatch.setattr(LocalStore, "put_known", refused)
        time.sleep(QUICK.trust + 0.3)
    assert store.get(taking.NAME) is not None


def test_a_heartbeat_under_way_does_not_put_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that arrives after the lock was given back, at a store that knows no conditions or is not strict."""
    store, under_way = LocalStore(tmp_path), threading.Event()

    def slow(_: LocalStore, name: str, content: bytes, version: str | None) -> str:
        under_way.set()
        time.sleep(0.3)
        (tmp_path / name).write_bytes(content)
        return "anything"

    with lock.held(store, Stop(), QUICK), monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_known", slow)
        assert under_way.wait(30)
    time.sleep(0.5)
    assert store.get(taking.NAME) is None


def test_without_another_thread_no_lock_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on processes: the job ends, and the next one need not wait for a heartbeat that never was."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError), lock.held(LocalStore(tmp_path), Stop(), Timing()):
        pytest.fail("held without a heartbeat")
    assert not (tmp_path / taking.NAME).exists()


def test_heartbeats_go_on_through_a_stop(tmp_path: Path) -> None:
    """The lock is the owner's until it is given back, also where its store hears the stop."""
    stop, store = Stop(), LocalStore(tmp_path)
    with lock.held(Heard(store, stop), stop, QUICK) as held:
        stop.request(signal.SIGTERM)
        time.sleep(3 * QUICK.beat)
        held.check()
        held.store.put("status.json", b"stopped")
    assert store.get("status.json") == b"stopped"
    assert store.get(taking.NAME) is None


def test_after_release_nothing_is_written(output: str) -> None:
    """By a thread that was left behind in a store that hung."""
    store = small_run.place(output)
    with lock.held(store, Stop(), Timing()) as held:
        held.store.put("a", b"1")
    with pytest.raises(TakenOver):
        held.store.put("a", b"2")
    assert store.get("a") == b"1"


def test_a_lock_that_vanished_is_not_ours(tmp_path: Path) -> None:
    """The new owner has finished and removed it."""
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), QUICK) as held:
        store.delete(taking.NAME)
        with pytest.raises(TakenOver):
            held.store.put("results.json", b"")
    assert store.get("results.json") is None
    assert store.get(taking.NAME) is None


def test_whose_lock_it_is_decides_who_removes_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), Timing(beat=60, patience=240)):
        store.put(taking.NAME, foreign())
    assert owner(store.get(taking.NAME) or b"").job == "someone"


def test_the_owner_gives_up_before_others_take_over() -> None:
    for answer in (0.0, 0.3, 1.2, 3.0, 6.0):
        timing = Timing().with_answers_of(answer)
        assert timing.trust < timing.patience
        assert timing.patience - timing.trust >= 5.0, "seconds in which a request under way may still arrive"
        assert timing.trust > timing.beat + 4 * answer, "a heartbeat may be late once"
    assert Timing().with_answers_of(0.01).patience == pytest.approx(20.1, abs=0.2)


def test_a_suspended_machine_counts() -> None:
    """The clock of the proof goes on while the machine sleeps."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("SKIPPED: this system has no CLOCK_BOOTTIME")
    assert boot_time() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)


def test_an_owner_who_asks_for_more_patience_gets_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(taking.NAME, foreign(patience=1.5))
    started = time.monotonic()
    with lock.held(store, Stop(), QUICK):
        assert time.monotonic() - started >= 1.5
    store.put(taking.NAME, json.dumps({**json.loads(foreign()), "patience": "long"}).encode())
    with lock.held(store, Stop(), QUICK):
        pass


# ---- slow stores ----


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seconds", [0.3, *(pytest.param(seconds, marks=pytest.mark.slow) for seconds in (1.2, 3.0, 6.0))]
)
def test_a_slow_store_works(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The lock is taken and recognised, a second job sees that its owner lives, and the run is published."""
    set_aws(monkeypatch, proxy.endpoint)
    proxy.rules = [Rule("late", "*", delay=seconds)]
    store = s3.open_store(f"s3://{bucket}", "run")
    with lock.held(store, Stop()) as held:
        with pytest.raises(taking.AtWork), lock.held(s3.open_store(f"s3://{bucket}", "run"), Stop()):
            pytest.fail("a live owner looked dead")
        publish.publish(held.store, {"results.json": b"1"}, small_run.ABOUT, held.check)
        assert held.lost is None
    proxy.rules = []
    assert manifest.read(store) is not None
    assert store.get(taking.NAME) is None


def test_a_slow_store_is_named(tmp_path: Path) -> None:
    clock = Clock([0.2, 3.25])
    told = str(taking.taken_over(LocalStore(tmp_path), clock))
    assert "takes 3.2 s to answer" in told
    assert "answer" not in str(taking.taken_over(LocalStore(tmp_path), Clock([0.1])))


# ---- a stop, whatever the store does ----

ILL = {
    "well": [],
    "slow": [Rule("late", "*", delay=3.0)],
    "hanging": [Rule("hang", "*")],
    "refusing": [Rule("answer", "*")],
    "cutting": [Rule("reset", "*")],
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ill", ILL)
@pytest.mark.parametrize("part", ["training", "publishing", "waiting for the lock"])
def test_a_stop_ends_in_time_whatever_the_store_does(
    proxy: Proxy, swift: Server, bucket: str, running: Running, monkeypatch: pytest.MonkeyPatch, part: str, ill: str
) -> None:
    set_aws(monkeypatch, swift.endpoint)
    output, proxied = f"s3://{bucket}", aws_variables(proxy.endpoint)
    if part == "waiting for the lock":
        small_run.place(output).put(taking.NAME, foreign(patience=500.0))
        process = begin(running, output, "me", **proxied)
        end = time.monotonic() + PATIENT
        while not any(taking.NAME in line for line in proxy.requests) and time.monotonic() < end:
            time.sleep(0.1)
    else:
        process = begin(running, output, "me", "-2" if part == "training" else "5", **proxied)
        read_until(process, "training") if part == "training" else read_until_frozen(process)
    proxy.rules = list(ILL[ill])
    process.send_signal(signal.SIGCONT)
    time.sleep(1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENT)
    seconds = time.monotonic() - started
    print(f"{part}, store {ill}: {seconds:.1f} s to exit code {process.returncode}")
    finished = part == "publishing" and ill == "well" and process.returncode == 0  # within that second
    assert process.returncode == 143 or finished, said
    assert seconds < chaos.IN_TIME + chaos.LOADED
