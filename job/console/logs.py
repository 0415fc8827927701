"""What the job says: one line an event, for people (`text`) or for machines (`json`)."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

from tqdm import tqdm

LOGGER = logging.getLogger("job")


class BarFriendlyHandler(logging.Handler):
    """Writes whole lines; a progress bar that stands on the terminal makes room for them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)
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
        message = record.getMessage()
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def start(log_format: str) -> None:
    """Sends the job's events to standard output, as `text` or `json`; other libraries' warnings too."""
    handler = BarFriendlyHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [handler]


def event(name: str, message: str, *, level: str = "INFO", **fields: Any) -> None:
    """Says `message`; `fields` go with it where the log is read by machines."""
    LOGGER.log(getattr(logging, level), message, extra={"event": name, "fields": fields})
