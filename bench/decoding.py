"""`python -m bench.decoding FOLDER`: the job's decoding beside a plain Pillow loop and beside Pillow's work alone.

- **job**: `decoding.decode` of every file, with all cores, into nothing that is kept.
- **plain**: `Image.open(file).convert("RGB")` cut and resized, one after the other, as data sets do.
- **limit**: what decoding costs by itself: the bytes are in memory already, as many threads, no checks, no bar,
  nothing looked at but pixels (`draft` as the job does it, decode, cut and resize).

They take turns; medians of images a second, and of images a second of processor time, which is a core's rate and hardly
depends on who else is at work. `python -m tests.helpers.photographs
FOLDER COUNT` draws photographs.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import PIL
from PIL import Image, ImageOps, features

from job.console.progress import Progress
from job.data import decoding
from job.data.picture import FORMATS, Shape, draft


def job(files: list[Path], root: Path, shape: Shape) -> None:
    decoding.decode(files, root, shape, Progress("off").bar, lambda pixels: None)


def plain(files: list[Path], shape: Shape) -> None:
    for file in files:
        with Image.open(file) as image:
            ImageOps.fit(image.convert("RGB"), (shape.side, shape.side), Image.Resampling.BILINEAR)


def limit(contents: list[bytes], shape: Shape, cores: int) -> None:
    def one(content: bytes) -> None:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            draft(image, shape)
            ImageOps.fit(image.convert("RGB"), (shape.side, shape.side), Image.Resampling.BILINEAR)

    with ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(one, contents):
            pass


def rates(contenders: dict[str, Callable[[], None]], count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Images a second by the clock and of processor time, medians over rounds in turns."""
    taken: dict[str, list[tuple[float, float]]] = {title: [] for title in contenders}
    for _ in range(rounds):
        for title, run in contenders.items():
            started, used = time.perf_counter(), time.process_time()
            run()
            taken[title].append((count / (time.perf_counter() - started), count / (time.process_time() - used)))
    return {
        title: (median(each[0] for each in all_), median(each[1] for each in all_)) for title, all_ in taken.items()
    }


def measure(root: Path, most: int, shape: Shape, rounds: int) -> None:
    files = sorted(file for file in root.rglob("*") if file.is_file() and not file.name.startswith("."))[:most]
    contents, cores = [file.read_bytes() for file in files], len(os.sched_getaffinity(0))
    contenders = {
        "job": partial(job, files, root, shape),
        "plain": partial(plain, files, shape),
        "limit": partial(limit, contents, shape, cores),
    }
    found = rates(contenders, len(files), rounds)
    print(f"{len(files):,} images of {root.name} to {shape.side} pixels, {rounds} rounds, {cores} cores")
    for title, (rate, each) in found.items():
        print(f"  {title:<6} {rate:8.1f} images/s, {each:8.1f} a core")
    for how, what in enumerate(("by the clock", "a core")):
        mine, loop, most = (found[title][how] for title in ("job", "plain", "limit"))
        print(f"  {what}: job over plain {mine / loop:.2f}, job over limit {mine / most:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="any folder of images")
    parser.add_argument("--most", type=int, default=1000, help="files that are decoded")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    turbo = features.check_feature("libjpeg_turbo")
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}, libjpeg-turbo {turbo}")
    print(f"load {os.getloadavg()[0]:.1f}")
    measure(given.folder, given.most, Shape(given.side), given.rounds)


if __name__ == "__main__":
    main()
