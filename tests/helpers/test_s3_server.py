"""The tests' own store: it never outlives the tests, and it says why it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers import s3_server


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from tests.helpers import s3_server
print(s3_server.start(Path(sys.argv[1])).process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout
    server = int(parent.stdout.readline())
    os.kill(server, 0)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    end = time.monotonic() + 10
    while is_running(server):
        assert time.monotonic() < end, "the server outlived its parent"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that nobody in this container collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError, match="Address already in use"):
        s3_server.start(tmp_path, taken.getsockname()[1])
