"""Warnings of libraries: one line that names what it is about, no line of source code."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

from job.console import logs
from job.data import decoding
from job.data.picture import SMALL


@pytest.fixture(autouse=True)
def as_it_was() -> object:
    show = warnings.showwarning
    yield
    warnings.showwarning = show
    logs.LOGGER.handlers = []


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("text")
    with logs.concerning("photos/a.png"):
        warnings.warn("first\n  second", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().out == "warning: photos/a.png: first second (test_logs)\n"


def test_a_file_that_pillow_warns_of_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cut EXIF block, as editors leave it: Pillow warns, and decodes the image all the same."""
    file = tmp_path / "photo.jpg"
    cut = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x05\0\0\0\xff\xff\0\0"
    Image.new("RGB", (8, 8)).save(file, exif=cut)
    logs.start("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs.tell_warning
        decoding.read_image(file, SMALL)
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["level"] == "warning"
    assert said["library"] == "PIL"
    assert said["message"].startswith(f"{file}: ")
