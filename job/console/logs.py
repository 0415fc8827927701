"""What the job says: one line an event, for people (`text`) or for machines (`json`)."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

# What moves a terminal's cursor or hides what stands there; lines end where the job ends them, and colours are its own.
CONTROLS = re.compile(
    r"\x1b(?!\[\d{1,2}m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
LOGGER = logging.getLogger("job")
CONCERNED: ContextVar[str] = ContextVar("concerned", default="")  # what is being worked on, in this thread


class BarFriendlyHandler(logging.Handler):
    """Writes whole lines; a progress bar that stands on the terminal makes room for them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(text, file=self.stream)
        else:  # no bar can stand there yet
            self.stream.write(text + "\n")
        self.stream.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC, ISO 8601), `level`, `event`, `message` and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(content, default=str)


class TextFormatter(logging.Formatter):
    """The message alone; warnings and errors say so first."""

    def format(self, record: logging.LogRecord) -> str:
        message = CONTROLS.sub(spelled_out, record.getMessage())
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def printable(name: str) -> str:
    """A name as a line may show it: a file or class can be called anything, and a line end or an escape sequence in it
    would forge the lines after it.
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)


def spelled_out(found: re.Match[str]) -> str:
    return printable(found.group())


def start(log_format: str) -> None:
    """Sends the job's events to standard output, as `text` or `json`; other libraries' warnings too."""
    handler = BarFriendlyHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    warnings.showwarning = tell_warning


def event(name: str, message: str, *, level: str = "INFO", **fields: Any) -> None:
    """Says `message`; `fields` go with it where the log is read by machines."""
    LOGGER.log(getattr(logging, level), message, extra={"event": name, "fields": fields})


@contextmanager
def concerning(what: object) -> Iterator[None]:
    """Warnings of libraries in here and in this thread are told with `what` they are about, such as a file."""
    token = CONCERNED.set(str(what))
    try:
        yield
    finally:
        CONCERNED.reset(token)


def tell_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    """A library's warning as one line: what it is about, what it says and who says it; no line of source code."""
    parts = Path(filename).parts
    library = parts[parts.index("site-packages") + 1] if "site-packages" in parts[:-1] else Path(filename).stem
    about = f"{CONCERNED.get()}: " if CONCERNED.get() else ""
    text = " ".join(str(message).split())
    event("warning", f"{about}{text} ({library})", level="WARNING", category=category.__name__, library=library)
