"""Both pages in a real browser: two themes, a telephone and a desk. Skipped, loudly, where there is no Chromium."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from job.report import files, metrics
from job.report.answers import answers_of
from job.report.page import html
from job.report.summary import files as summary_files
from job.report.templating import address
from tests.helpers import browser, records
from tests.helpers.browser import Browser, Seen

WIDTHS = (360, 1280)
THEMES = ("light", "dark")

# The lowest contrast of any text with what lies behind it, by https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio.
LOOK = """(() => {
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parts(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = 'h1,h2,h3,p,dt,dd,th,td,figcaption,caption,a,summary,code,footer,text';
  const contrasts = [...document.querySelectorAll(texts)]
    .filter(e => e.textContent.trim() && e.getClientRects().length).map(element => {
      const style = getComputedStyle(element);
      const a = light(parts(element.tagName === 'text' ? style.fill : style.color)), b = light(behind(element));
      return {what: element.tagName + ' ' + element.textContent.slice(0, 30),
        ratio: (Math.max(a, b) + .05) / (Math.min(a, b) + .05)};
    });
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  return {
    scrollWidth: document.documentElement.scrollWidth,
    width: document.documentElement.clientWidth,
    broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length,
    images: document.images.length,
    withoutAlt: document.querySelectorAll('img:not([alt]),img[alt=""],[role=img]:not([aria-label])').length,
    drawings: [...document.querySelectorAll('.plot svg')].filter(s => s.getBoundingClientRect().width > 200).length,
    plots: document.querySelectorAll('.plot').length,
    withoutScope: document.querySelectorAll('th:not([scope])').length,
    withoutCaption: document.querySelectorAll('table:not(:has(caption))').length,
    sameIds: ids.filter((id, i) => ids.indexOf(id) !== i),
    deadReferences: [...document.querySelectorAll('use')].filter(
      u => !document.getElementById((u.getAttribute('href') || u.getAttribute('xlink:href')).slice(1))).length,
    worst: contrasts.sort((a, b) => a.ratio - b.ratio)[0],
    italics: document.querySelectorAll('i').length,
  };
})()"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = browser.found()
    if executable is None:
        warnings.warn("NO CHROMIUM: report.html and summary.html were not looked at (Debian: chromium)", stacklevel=1)
        pytest.skip("no Chromium here: report.html and summary.html were NOT looked at (Debian's package: chromium)")
    with browser.browser(executable, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    content = {
        "report": files(records.run_report())["report.html"],
        "summary": summary_files(records.ALL_MODELS, ["gone: results.json is missing"], 2.5)["summary.html"],
    }
    for name, page in content.items():
        (folder / f"{name}.html").write_bytes(page)
    return {name: folder / f"{name}.html" for name in content}


@pytest.fixture(scope="module")
def seen(chromium: Browser, pages: dict[str, Path]) -> dict[tuple[str, int, str], Seen]:
    return {
        (name, width, theme): chromium.look(page, width, theme, LOOK)
        for name, page in pages.items()
        for width in WIDTHS
        for theme in THEMES
    }


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "summary"])
def test_a_page_as_a_person_sees_it(
    seen: dict[tuple[str, int, str], Seen], pages: dict[str, Path], name: str, width: int, theme: str
) -> None:
    page = seen[name, width, theme]
    facts = page.facts
    assert page.console == []
    assert [url for url in page.requests if not url.startswith("data:")] == [pages[name].as_uri()], "nothing is fetched"
    assert facts["width"] == facts["scrollWidth"] == width, "no sideways scrolling"
    assert facts["broken"] == facts["withoutAlt"] == facts["withoutScope"] == facts["withoutCaption"] == 0
    assert facts["images"] == (24 if name == "report" else 0)
    assert facts["drawings"] == facts["plots"] == (6 if name == "report" else 3)
    assert facts["sameIds"] == []
    assert facts["deadReferences"] == 0
    assert facts["italics"] == 0, "a class that is called <i> is text"
    assert facts["worst"]["ratio"] >= 4.5, facts["worst"]
    with Image.open(io.BytesIO(page.picture)) as picture:
        pixels = np.asarray(picture.convert("L"), dtype=float)
    assert pixels.shape[1] == width
    ground = np.median(pixels)
    assert ground > 200 if theme == "light" else ground < 60
    assert pixels.std() > 10, "something is drawn"


def test_a_page_needs_no_other_place(pages: dict[str, Path]) -> None:
    """As its text stands, without a browser: no address is loaded from, no script runs."""
    for page in pages.values():
        text = page.read_text()
        loaded = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', text)
        assert all(one.startswith(("#", "data:")) or two.startswith("#") for one, two in loaded)
        assert "<script" not in text
        assert "@import" not in text


def test_three_hundred_classes_stay_readable() -> None:
    """The worst pairs and classes, not 90,000 cells; one class that nobody tested has dashes."""
    names = tuple(f"class {number:03}" for number in range(300))
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(299), rng.integers(0, 299, 700)])
    logits = rng.normal(size=(len(labels), 300)) + 3 * np.eye(300)[labels]
    answers = answers_of(logits.astype(np.float32), labels, [str(number) for number in range(len(labels))])
    evaluation = metrics.evaluate(answers, names)
    assert evaluation.per_class[299].recall is None
    report = replace(
        records.run_report(), answers=answers, evaluation=evaluation, thumbnails=records.run_report().thumbnails[:0]
    )
    report = replace(report, evaluation=replace(evaluation, mistakes=()))
    shown = html(report)
    assert "further classes, by F1" in shown
    assert "class 299" in shown
    assert "A matrix of so many classes" in shown
    assert len(shown) < 600_000


def test_photographs_make_no_page_of_megabytes() -> None:
    """Small images keep every pixel; of photographs a page has what it shows, also side by side."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 64, 3), np.uint8)
    assert np.array_equal(shown_of(address(small)), small)
    colours = rng.integers(0, 256, (4, 4, 3), np.uint8)
    photograph = np.asarray(Image.fromarray(colours).resize((224, 224), Image.Resampling.BICUBIC))
    for pixels, side in (
        (photograph, 0),
        (np.concatenate([photograph] * 3, axis=1), 0),
        (np.tile(photograph, (2, 2, 1)), 224),
    ):
        seen = shown_of(address(pixels, side))
        assert seen.shape == (pixels.shape[0] // 2, pixels.shape[1] // 2, 3)
        assert np.abs(seen - pixels[::2, ::2].astype(float)).mean() < 4
        assert len(address(pixels, side)) < 0.2 * pixels.nbytes


def shown_of(address: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return np.asarray(picture)
