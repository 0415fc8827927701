"""Nothing is lost: kills, damage, full disks and second jobs, against an uninterrupted twin."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from job import engine, models
from job.engine.learner import Learner, new_learner, restore, snapshot
from job.errors import Fault, Interrupted, NoRoom, TakenOver, TemporaryFault
from job.interrupt import GRACE, Stop
from job.results import Epoch, Score, Trial
from job.runs import checkpoint, lock
from job.runs.checkpoint import Identity, Saved
from job.runs.keeper import Keeper, Patience
from job.runs.owner import Owner, Timing, content, owner, start_time, this_machine
from job.runs.standing import START, Standing
from job.runs.status import write_termination_log
from job.storage.local import LocalStore
from tests.conftest import TINY, Job, start_job, tells
from tests.helpers import chaos

IDENTITY = Identity({"MODEL": "cnn", "SEED": 1}, "a" * 64, {"device": "cpu", "precision": "fp32", "threads": 1})


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("signum", "kills"),
    [
        (signal.SIGKILL, 2),
        pytest.param(signal.SIGKILL, 10, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 3, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(twin: tuple[dict[str, bytes], float], signum: int, kills: int) -> None:
    report = chaos.chaos(
        kills,
        {},
        twin[0],
        twin[1],
        chaos.read_directory,
        output=lambda number, home: "out",
        seed=signum,
        signum=signum,
    )
    assert report.different == []
    assert report.kills == kills
    assert report.slowest_stop < chaos.IN_TIME


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("others", "kills"),
    [
        ({"MODEL": "mlp", "PRECISION": "fp32", "MAX_EVALS": "6"}, 5),
        ({"SEARCH": "halving", "MAX_EVALS": "7", "TUNE_MAX_EPOCHS": "6"}, 8),
        ({"RECIPE": "strong", "EPOCHS": "6"}, 10),
        ({"RECIPE": "strong", "EPOCHS": "6", "MODEL": "mlp", "WORKERS": "2"}, 3),
    ],
    ids=["mlp", "halving", "strong", "strong with workers"],
)
def test_others_killed_at_random_moments(others: dict[str, str], kills: int, tmp_path: Path) -> None:
    whole = chaos.attempt({**others, "OUTPUT": "out"}, tmp_path)
    assert whole.code == 0, whole.output
    twin = chaos.directory_files(tmp_path / "out" / "run")
    report = chaos.chaos(
        kills, others, twin, whole.seconds, chaos.read_directory, output=lambda number, home: "out", seed=5
    )
    assert report.different == []
    assert report.kills == kills


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_in_every_rung(workers: str, tmp_path: Path) -> None:
    """One run that kill -9 ends in the rungs of 2, 4 and 8 epochs and in what follows; the twin has one process."""
    halved = {"SEARCH": "halving", "MAX_EVALS": "10", "TUNE_MAX_EPOCHS": "10", "PATIENCE": "10", "OUTPUT": "out"}
    (tmp_path / "whole").mkdir()
    whole = chaos.attempt(halved, tmp_path / "whole")
    assert whole.code == 0, whole.output
    for epoch in (2, 3, 5, 9):
        process = start_job(tmp_path, chaos.SMALL | halved | {"WORKERS": workers})
        assert process.stdout is not None
        told = (json.loads(line) for line in process.stdout if tells(line, "epoch"))
        assert any(each["phase"] == "tune" and each["epoch"] == epoch for each in told)
        process.kill()
        process.communicate()
    last = chaos.attempt(halved | {"WORKERS": workers}, tmp_path)
    assert last.code == 0, last.output
    files = [chaos.comparable(chaos.directory_files(place / "out" / "run")) for place in (tmp_path, tmp_path / "whole")]
    assert files[0] == files[1]


# --- checkpoints ---


def standing(number: int) -> Standing:
    """A state with real tensors, told apart by `number`."""
    epoch = Epoch(number, Score(1.0 / 3, 10.0), Score(float("nan") if number == 0 else 0.1, 20.0), 0.5)
    tensors = {"model": {"weight": torch.full((50, 20), float(number))}, "optimizer": {"state": {0: {"step": 1.0}}}}
    return Standing((Trial(0, 1e-3, (epoch,), "diverged"),), 1, (epoch,), tensors)


def two_states(root: Path) -> LocalStore:
    store = LocalStore(root)
    for sequence in (1, 2):
        store.put(checkpoint.SLOTS[sequence % 2], checkpoint.encode(Saved(IDENTITY, sequence, standing(sequence))))
    return store


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    store = two_states(tmp_path)
    saved = checkpoint.load(store)
    assert saved is not None
    assert (saved.sequence, saved.identity) == (2, IDENTITY)
    back, was = saved.standing, standing(2)
    assert (back.trials, back.part, back.history) == (was.trials, was.part, was.history)
    assert back.learner is not None
    assert torch.equal(back.learner["model"]["weight"], torch.full((50, 20), 2.0))


def test_every_damage_is_detected_and_the_state_before_is_used(tmp_path: Path) -> None:
    """50 truncations and 50 flipped bits of the newest state, all over it."""
    store = two_states(tmp_path)
    newest = tmp_path / checkpoint.SLOTS[0]
    whole = newest.read_bytes()
    rng = random.Random(0)
    damages = [whole[: rng.randrange(len(whole))] for _ in range(50)]
    for _ in range(50):
        position = rng.randrange(len(whole))
        damages.append(whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :])
    for damage in damages:
        newest.write_bytes(damage)
        saved = checkpoint.load(store)
        assert saved is not None
        assert saved.sequence == 1


def test_no_silent_restart_when_both_states_are_damaged(tmp_path: Path) -> None:
    store = two_states(tmp_path)
    for slot in checkpoint.SLOTS:
        (tmp_path / slot).write_bytes(b"damaged")
    with pytest.raises(Fault, match=r"the saved state is damaged.*checkpoint/0") as caught:
        checkpoint.load(store)
    assert caught.value.exit_code == 78
    assert "FRESH=1" in str(caught.value)


def test_a_state_of_another_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = two_states(tmp_path)
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(Fault, match="has format 3, this version reads 99"):
        checkpoint.load(store)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(IDENTITY, settings={"MODEL": "cnn", "SEED": 2}), "SEED was 1 and is 2"),
        (replace(IDENTITY, data_sha256="b" * 64), "the data set has changed"),
        (replace(IDENTITY, arithmetic={**IDENTITY.arithmetic, "device": "cuda"}), "device was cpu and is cuda"),
        (replace(IDENTITY, arithmetic={**IDENTITY.arithmetic, "precision": "bf16"}), "precision was fp32 and is bf16"),
    ],
)
def test_states_are_not_mixed(now: Identity, told: str) -> None:
    checkpoint.check(Saved(IDENTITY, 1, Standing()), IDENTITY, "here")
    with pytest.raises(Fault, match=told) as caught:
        checkpoint.check(Saved(IDENTITY, 1, Standing()), now, "here")
    assert "FRESH=1" in str(caught.value)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_a_learner_continues_bit_by_bit(name: str) -> None:
    """Through bytes and back, in fp32 and with channels-last weights: the next epoch gives the very same weights."""
    from tests.engine.test_engine import ignore, images

    compute = engine.Compute(torch.device("cpu"), "fp32", "", "")

    def fresh() -> Learner:
        return new_learner(lambda: models.find(name).build(10), 1e-3, compute, 1, ("final",))

    straight = fresh()
    engine.train_epoch(straight, images(20), 1, 8, ignore)
    state = Standing((), "final", (), snapshot(straight))
    resumed = fresh()
    back = checkpoint.decode(checkpoint.encode(Saved(IDENTITY, 1, state))).standing.learner
    assert back is not None
    restore(resumed, back)
    for learner in (straight, resumed):
        engine.train_epoch(learner, images(20), 2, 8, ignore)
    for mine, theirs in zip(straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert mine.stride() == theirs.stride()
        assert torch.equal(mine, theirs)


class SlowStore(LocalStore):
    """A store that takes its time, and may fail."""

    def __init__(self, root: Path, seconds: float, error: Exception | None = None) -> None:
        super().__init__(root)
        self.seconds, self.error = seconds, error
        self.puts: list[str] = []

    def put(self, name: str, content: bytes) -> None:
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        self.puts.append(name)
        super().put(name, content)


def test_training_does_not_wait_for_the_store(tmp_path: Path) -> None:
    store = SlowStore(tmp_path, 0.5)
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None) as keeper:
        started = time.monotonic()
        for number in range(1, 6):
            keeper.hand_over(standing(number))
        assert time.monotonic() - started < 0.2
        keeper.offer(pytest.fail)  # while one is being written
        keeper.flush()
        keeper.offer(pytest.fail)  # half a second of writing allows one in five seconds
    assert len(store.puts) <= 2, "the first one, perhaps, and the newest of those that waited"
    saved = checkpoint.load(store)
    assert saved is not None
    assert saved.standing.history[0].number == 5


def test_leaving_writes_what_was_handed_over(tmp_path: Path) -> None:
    store = SlowStore(tmp_path, 0.1)
    keeper = Keeper(store, Saved(IDENTITY, 0, START), lambda _: None)
    with suppress(Interrupted), keeper:
        keeper.hand_over(standing(1))
        raise Interrupted(signal.SIGTERM)
    assert checkpoint.load(store) is not None


def test_the_slots_take_turns(tmp_path: Path) -> None:
    """A state never goes over the one before it, also in the attempt that goes on from there."""
    store, last = SlowStore(tmp_path, 0.0), Saved(IDENTITY, 0, START)
    for attempt in range(2):
        with Keeper(store, last, lambda _: None) as keeper:
            for number in range(1, 4):
                keeper.hand_over(standing(number))
                keeper.flush()
        saved = checkpoint.load(store)
        assert saved is not None
        assert saved.sequence == 3 * (attempt + 1)
        last = saved
    assert set(store.puts) == set(checkpoint.SLOTS)
    assert all(one != two for one, two in pairwise(store.puts)), store.puts


HASTY = Patience(give_up=1.0, pause=0.05)


def test_a_store_that_refuses_for_a_while_costs_nothing(tmp_path: Path) -> None:
    """The next state is tried, and the newest is durable in the end; the slot of the last durable one stays its own."""
    store = SlowStore(tmp_path, 0.0)
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None, patience=Patience(60, 0.05)) as keeper:
        keeper.hand_over(standing(1))
        keeper.flush()
        store.error = TemporaryFault("S3 bucket x: cannot store: SlowDown.")
        for number in range(2, 6):
            keeper.hand_over(standing(number))
            time.sleep(0.1)
            keeper.check()
            saved = checkpoint.load(store)
            assert saved is not None
            assert saved.sequence == 1
        store.error = None
        keeper.flush()
    saved = checkpoint.load(store)
    assert saved is not None
    assert (saved.sequence, saved.standing.history[0].number) == (2, 5)


def test_states_are_offered_while_the_store_refuses(tmp_path: Path) -> None:
    """Not the one that was refused first is tried for ever: what would be lost grows otherwise."""
    store = SlowStore(tmp_path, 0.0, TemporaryFault("ill"))
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None, patience=Patience(60, 0.05)) as keeper:
        taken = 0
        for number in range(1, 30):
            before = taken

            def take(number: int = number) -> Standing:
                nonlocal taken
                taken = number
                return standing(number)

            keeper.offer(take)
            time.sleep(0.05)
            if taken != before and number > 20:
                break
        store.error = None
        keeper.flush()
    saved = checkpoint.load(store)
    assert saved is not None
    assert saved.standing.history[0].number == taken > 20


def test_without_a_durable_state_for_long_the_job_gives_up(tmp_path: Path) -> None:
    store = SlowStore(tmp_path, 0.0, TemporaryFault("S3 bucket x: cannot store: SlowDown."))
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None, patience=HASTY) as keeper:
        keeper.hand_over(standing(1))
        keeper.check()
        with pytest.raises(TemporaryFault, match="SlowDown") as caught:
            keeper.flush()
        assert caught.value.exit_code == 75
        with pytest.raises(TemporaryFault, match="SlowDown"):
            keeper.hand_over(standing(2))
        with pytest.raises(TemporaryFault, match="SlowDown"):
            keeper.check()


@pytest.mark.parametrize("fault", [TakenOver("another job has taken over"), Fault("not permitted")])
def test_what_cannot_pass_ends_the_job_at_once(tmp_path: Path, fault: Fault) -> None:
    store = SlowStore(tmp_path, 0.0, fault)
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None) as keeper:
        keeper.hand_over(standing(1))
        started = time.monotonic()
        with pytest.raises(type(fault), match=fault.what):
            keeper.flush()
        assert time.monotonic() - started < 30


def test_a_full_disk_is_told_at_the_end_at_once(tmp_path: Path) -> None:
    """Before that somebody may make room; at the end nothing but a later start is left."""
    store = SlowStore(tmp_path, 0.0, NoRoom("cannot write here: No space left on device."))
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None, patience=Patience(600, 0.05)) as keeper:
        keeper.hand_over(standing(1))
        time.sleep(0.2)
        keeper.check()
        started = time.monotonic()
        with pytest.raises(NoRoom, match="No space left"):
            keeper.flush()
        assert time.monotonic() - started < 30


def test_a_stop_sets_the_time_for_the_last_state(tmp_path: Path) -> None:
    """A store that hangs keeps nobody for longer than is left; flushing hears the stop."""
    store, stop = SlowStore(tmp_path, 60.0), Stop()
    with Keeper(store, Saved(IDENTITY, 0, START), lambda _: None, stop) as keeper:
        keeper.hand_over(standing(1))
        threading.Timer(0.2, lambda: stop.request(signal.SIGTERM)).start()
        with pytest.raises(Interrupted):
            keeper.flush()
        asked = time.monotonic()
    assert GRACE - 2 < time.monotonic() - asked < GRACE + 5


# --- the lock ---

QUICK = Timing(beat=0.1, patience=0.6)


def test_a_second_job_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), QUICK):
        told = rf"another job is at work.*process {os.getpid()}"
        with pytest.raises(TemporaryFault, match=told) as caught, lock.held(store, Stop(), QUICK):
            pytest.fail("two at once")
        assert caught.value.exit_code == 75
        assert store.get(lock.NAME) is not None
    assert store.get(lock.NAME) is None


def other_owner(**changes: Any) -> bytes:
    there = Owner("someone", "elsewhere", "another machine", 1, "1")
    return content(replace(there, **changes))


def test_a_dead_owner_elsewhere_is_waited_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(lock.NAME, other_owner())
    started = time.monotonic()
    with lock.held(store, Stop(), QUICK):
        assert 0.5 < time.monotonic() - started < 3


def test_a_dead_owner_here_is_replaced_at_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    gone = subprocess.Popen(["true"])
    started = start_time(gone.pid) or "0"
    gone.wait()
    store.put(lock.NAME, other_owner(machine=this_machine(), process=gone.pid, started=started))
    began = time.monotonic()
    with lock.held(store, Stop(), Timing(beat=5, patience=20)):
        assert time.monotonic() - began < 2


def test_a_lock_file_that_is_no_lock_is_waited_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(lock.NAME, b"\x00 half a fi")
    with lock.held(store, Stop(), QUICK):
        assert owner(store.get(lock.NAME) or b"").process == os.getpid()


def test_a_frozen_owner_notices_that_it_was_replaced(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), QUICK) as held:
        held.check()
        store.put(lock.NAME, other_owner())
        deadline = time.monotonic() + 10
        while held.lost is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(TemporaryFault, match="taken over"):
            held.check()
    assert owner(store.get(lock.NAME) or b"").job == "someone", "the other one's lock stays"


def test_of_many_one_gets_the_lock(tmp_path: Path) -> None:
    got: list[int] = []
    refused: list[int] = []

    def try_it(number: int) -> None:
        try:
            with lock.held(LocalStore(tmp_path), Stop(), QUICK):
                got.append(number)
                time.sleep(1.5)
        except TemporaryFault:
            refused.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)


# --- the whole job ---


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job with a long final training, a state of which is on disk."""
    process = start_job(tmp_path, TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "100000", "RUN_ID": "run"})
    while not list(tmp_path.glob("outputs/run/checkpoint/[01]")):
        time.sleep(0.05)
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()


def test_a_second_job_and_other_settings(running: subprocess.Popen[str], tiny: Job, tmp_path: Path) -> None:
    """While the first is at work, and when it was killed."""
    second = tiny(LEARNING_RATE="0.001", EPOCHS="100000", RUN_ID="run")
    assert second.returncode == 75
    assert f"another job is at work on this run: {os.uname().nodename}, process {running.pid}" in second.stdout
    assert running.poll() is None, "the first one goes on"

    running.kill()
    running.wait()
    status = json.loads((tmp_path / "outputs/run/status.json").read_text())
    assert (status["phase"], status["attempt"]) == ("train", 1)
    other = tiny(LEARNING_RATE="0.001", EPOCHS="2", RUN_ID="run", PROGRESS="off")
    assert other.returncode == 78
    assert "EPOCHS was 100000 and is 2" in other.stdout
    assert "FRESH=1" in other.stdout
    status = json.loads((tmp_path / "outputs/run/status.json").read_text())
    assert (status["phase"], status["attempt"], status["last_error"]["exit_code"]) == ("failed", 2, 78)
    assert "EPOCHS was 100000" in status["last_error"]["what"]
    again = tiny(LEARNING_RATE="0.001", EPOCHS="2", RUN_ID="run", FRESH="1")
    assert again.returncode == 0
    status = json.loads((tmp_path / "outputs/run/status.json").read_text())
    assert status["phase"] == "finished"
    assert not list(tmp_path.glob("outputs/run/checkpoint/*"))


def test_a_second_signal_ends_at_once(running: subprocess.Popen[str]) -> None:
    os.kill(running.pid, signal.SIGSTOP)  # so that both are there before it looks
    running.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    os.kill(running.pid, signal.SIGCONT)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


# --- full disks ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"SKIPPED: no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def attempt_while_it_fills(variables: dict[str, str], home: Path, place: Path, moment: str) -> tuple[int, str]:
    """A job whose disk has no more than 64 kB left as soon as it tells the event `moment`: its exit code and output."""
    process = start_job(home, chaos.SMALL | variables, subprocess.STDOUT)
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if tells(line, moment):
            resize(place, f"{shutil.disk_usage(place).used // 1024 + 64}k")
    return process.wait(60), output


@pytest.mark.slow
def test_full_disks(small_disk: Path, twin: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    """The disk fills up before the first state, and after the search; with room again the job goes on."""
    variables = {"OUTPUT": str(small_disk)}
    for moment in ("tune", "train"):
        resize(small_disk, "200m")
        code, output = attempt_while_it_fills(variables, tmp_path, small_disk, moment)
        assert code == 75, output
        fault = json.loads([line for line in output.splitlines() if '"event": "fault"' in line][-1])
        assert "No space left on device" in fault["what"]
        assert str(small_disk) in fault["what"]
        assert "Traceback" not in output
    told = chaos.attempt(variables, tmp_path)
    assert told.code == 75, "and where it is full already, that is told before anything is computed"
    assert "are needed" in told.output
    resize(small_disk, "200m")
    assert chaos.attempt(variables, tmp_path).code == 0
    files = chaos.directory_files(small_disk / "run")
    assert chaos.comparable(files) == chaos.comparable(twin[0])
    assert not [name for name in files if name.endswith(".part")]


def test_the_termination_log(tmp_path: Path) -> None:
    write_termination_log("what happened", tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "there").touch()
    write_termination_log("what happened", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "what happened\n"
