"""A stop is heard everywhere, and its clock runs: its parts in this process, its end in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from job import interrupt
from job.errors import Interrupted, TemporaryFault
from job.interrupt import GRACE, LAST_WORDS, Stop
from tests.conftest import ROOT, bare_environment

PATIENT = 60.0


def stopped(after: float) -> Stop:
    stop = Stop()
    threading.Timer(after, lambda: stop.request(signal.SIGTERM)).start()
    return stop


def test_whoever_waits_hears_the_stop() -> None:
    waits: list[Callable[[Stop], object]] = [
        lambda stop: stop.heard(lambda: time.sleep(60)),
        lambda stop: stop.wait(60),
    ]
    for wait in waits:
        started = time.monotonic()
        with pytest.raises(Interrupted) as caught:
            wait(stopped(0.1))
        assert caught.value.exit_code == 143
        assert time.monotonic() - started < 20


def test_what_is_called_gives_and_raises_as_without() -> None:
    stop = Stop()
    assert stop.heard(lambda: 5) == 5
    for error in (KeyError("x"), TemporaryFault("ill"), SystemExit(3)):
        with pytest.raises(type(error)):
            stop.heard(lambda error=error: (_ for _ in ()).throw(error))  # type: ignore[misc]


def test_after_a_stop_one_clock_runs_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 0.5)
    stop = Stop()
    stop.request(signal.SIGTERM)
    first = stop.deadline
    stop.request(signal.SIGINT)
    assert (stop.signum, stop.deadline) == (signal.SIGTERM, first), "a later signal gives no more time"
    assert stop.heard(lambda: 5) == 5
    with pytest.raises(TemporaryFault, match="no time left"):
        stop.heard(lambda: time.sleep(60))
    started = time.monotonic()
    with pytest.raises(TemporaryFault, match="no time left"):
        stop.heard(lambda: time.sleep(60))
    assert time.monotonic() - started < 10
    assert stop.remaining() == 0
    assert (stop.exit_code(75), Stop().exit_code(75)) == (143, 75)


def test_without_another_thread_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert Stop().heard(lambda: 5) == 5


def process(body: str, *command: str) -> subprocess.Popen[str]:
    """A process in whose main thread `body` runs, within the signals' context; it says `ready` first."""
    code = f"""
import os, signal, sys, time
from job.interrupt import stop_on_signals
with stop_on_signals(late=lambda signum: print("late", flush=True)) as stop:
    print("ready", flush=True)
{textwrap.indent(textwrap.dedent(body), "    ")}
sys.exit(0 if stop.signum is None else 128 + stop.signum)
"""
    started = subprocess.Popen(
        [*command, sys.executable, "-c", code],
        env=bare_environment() | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


# The main thread hangs where no Python runs: a read that never returns, restarted after every signal.
HANGS = "r, w = os.pipe()\nos.read(r, 1)"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_every_signal_asks_for_a_stop(signum: int) -> None:
    waiting = process("while stop.signum is None: time.sleep(0.01)")
    waiting.send_signal(signum)
    assert waiting.wait(PATIENT) == 128 + signum


def test_under_nohup_a_lost_terminal_is_nothing() -> None:
    waiting = process("while stop.signum is None: time.sleep(0.01)", "nohup")
    waiting.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(PATIENT) == 143


def test_a_hanging_main_thread_ends_in_time() -> None:
    """Whatever it hangs in, the process says so and ends within ten seconds with the signal's code."""
    hanging = process(HANGS)
    started = time.monotonic()
    hanging.send_signal(signal.SIGTERM)
    said, _ = hanging.communicate(timeout=PATIENT)
    assert GRACE - 1 < time.monotonic() - started < GRACE + LAST_WORDS + 5  # the last five for a machine under load
    assert GRACE + LAST_WORDS < 10
    assert hanging.returncode == 143
    assert said == "late\n"


def test_a_second_signal_ends_a_hanging_main_thread_at_once() -> None:
    hanging = process(HANGS)
    hanging.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    started = time.monotonic()
    hanging.send_signal(signal.SIGTERM)
    assert hanging.wait(PATIENT) == 143
    assert time.monotonic() - started < GRACE / 2


def test_as_the_first_process_of_a_container_too() -> None:
    """PID 1: the kernel keeps every default action from it, so that no signal ends it by itself."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("SKIPPED: no namespace of processes can be made here")
    body = "assert os.getpid() == 1\nos.kill(1, signal.SIGTERM)\ntime.sleep(0.1)\nos.kill(1, signal.SIGTERM)\n" + HANGS
    started = time.monotonic()
    assert process(body, *unshare).wait(PATIENT) == 143
    assert time.monotonic() - started < GRACE / 2 + 5


def test_the_handlers_of_before_come_back() -> None:
    before = {signum: signal.getsignal(signum) for signum in interrupt.SIGNALS}
    with interrupt.stop_on_signals(end=lambda code: None) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.heard(lambda: 1) if stop.signum is None else None
        assert stop.signum == signal.SIGUSR1
    assert {signum: signal.getsignal(signum) for signum in interrupt.SIGNALS} == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]
