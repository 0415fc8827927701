"""The upper part of a page as a small picture for the README: `make screenshot REPORT=outputs/RUN/report.html`."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.helpers import browser

WIDTH, HEIGHT = 1200, 1100  # CSS pixels of the page that are shown
COLOURS = 128  # a page has few, and the picture travels with every clone


def take(page: Path, target: Path) -> None:
    """Writes the page's head to `target` as PNG. Ends the program where there is no browser."""
    executable = browser.found()
    if executable is None:
        sys.exit(f"no browser: install one of {', '.join(browser.NAMES)}")
    with tempfile.TemporaryDirectory() as profile, browser.browser(executable, Path(profile)) as chromium:
        seen = chromium.look(page.resolve(), WIDTH, "light", "({})")
    with Image.open(io.BytesIO(seen.picture)) as whole:
        head = whole.convert("RGB").crop((0, 0, whole.width, min(whole.height, HEIGHT)))
        head.quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
