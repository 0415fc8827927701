"""Names are data: of files and classes, which strangers may choose."""

from __future__ import annotations

import csv
import io
import json
import logging

import numpy as np
import pytest

from job.console import logs
from job.console.logs import JsonFormatter, TextFormatter, printable
from job.modes.predict_rows import Answer, Columns, rows, tell
from job.report.tables import for_sheets

FORGED = "cat.png\nfinished: all is well\x1b[1A\x1b[2K\r\u2028\udc80"


def shown(message: str, formatter: logging.Formatter) -> str:
    return formatter.format(logging.LogRecord("job", logging.INFO, "", 0, message, None, None))


def test_no_line_moves_the_cursor_or_hides_another() -> None:
    line = shown("before\x1b[1A\x1b[2K\rafter\x07\u202e", TextFormatter())
    assert line == r"before\x1b[1A\x1b[2K\rafter\x07\u202e"
    coloured = "\x1b[32mok\x1b[0m  two\nlines"
    assert shown(coloured, TextFormatter()) == coloured, "the job's own colours and line ends stay"
    assert json.loads(shown(FORGED.encode(errors="ignore").decode(), JsonFormatter()))["message"].startswith("cat.png")


def test_a_name_makes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    logs.LOGGER.addHandler(caplog.handler)
    try:
        tell(Answer(FORGED, None, FORGED), ["a"])
        tell(Answer(FORGED, np.array([0.9, 0.1])), ["a\nb", "c"])
    finally:
        logs.LOGGER.removeHandler(caplog.handler)
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        assert "\n" not in message
        assert "\x1b" not in message
        message.encode()
    assert printable("größe 日本 plain.png") == "größe 日本 plain.png"


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)"])
def test_no_name_is_a_formula_in_a_sheet(name: str) -> None:
    assert for_sheets(name) == f"'{name}"
    assert for_sheets("cat") == "cat"
    assert for_sheets("\t=1") == r"\t=1"
    answers = [Answer(name, np.array([1.0])), Answer(f"\r{name}", None, name)]
    text = rows(answers, Columns([name])) + rows(answers, Columns([name, name], top=2))
    for row in list(csv.reader(io.StringIO(text, newline=""))):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_name_of_other_bytes_is_stored_all_the_same() -> None:
    assert rows([Answer(FORGED, None, "x")], Columns(["a"])).encode(errors="backslashreplace")
