"""Steps for the proof of a GPU that do as they are told: `python -m tests.helpers.odd_steps KIND --notes FILE`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu.steps import Notes


def main() -> None:
    kind, _, file = sys.argv[1:4]
    notes = Notes(Path(file))
    notes.add("finds", {"kind": kind, "process": os.getpid()}, True)
    if kind == "raises":
        raise RuntimeError("this went wrong")
    if kind == "wrong":
        notes.add("finds", {"kind": "two runs differ"}, False)
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        notes.add("children", {"process": child.pid})
        time.sleep(600)


if __name__ == "__main__":
    main()
