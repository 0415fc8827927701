"""A headless Chromium, driven by the DevTools protocol over a pipe: no port, no further package.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def found() -> str | None:
    """Where the browser is, if there is one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@dataclass
class Seen:
    """What happened while a page was loaded: addresses that were asked for, what the console said, and the width."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    picture: bytes = b""


class Browser:
    def __init__(self, to: int, answers: int) -> None:
        self.to, self.answers = to, os.fdopen(answers, "rb")
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        raw = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser has gone"
            raw += byte
        message: dict[str, Any] = json.loads(raw)
        return message

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive())

    def look(self, page: Path, width: int, theme: str, script: str) -> Seen:
        """Loads a file at `width` pixels in the `light` or `dark` theme and evaluates `script` there, an object."""
        self.events.clear()
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.ask("Page.navigate", url=page.as_uri())
        self.wait_for("Page.loadEventFired")
        facts = self.ask("Runtime.evaluate", expression=f"({script})", returnByValue=True)["result"]["value"]
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        seen = Seen(facts=facts, picture=base64.b64decode(picture))
        for event in self.events:
            details = event.get("params", {})
            if event.get("method") == "Network.requestWillBeSent":
                seen.requests.append(details["request"]["url"])
            elif event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                seen.console.append(json.dumps(details))
        return seen


@contextmanager
def browser(executable: str, profile: Path) -> Iterator[Browser]:
    """A running browser; `profile` is an empty directory of its own."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    # The browser reads from descriptor 3 and writes to 4; ours may have these very numbers, so they move up first.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 50) for descriptor in (theirs_in, theirs_out)]
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
    more = (f"--user-data-dir={profile}", "--disable-dev-shm-usage", "--no-first-run")
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", executable, *options, *more],
        pass_fds=high,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for descriptor in (theirs_in, theirs_out, *high):
        os.close(descriptor)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.close(ours_out)
        process.terminate()
        process.wait(10)
