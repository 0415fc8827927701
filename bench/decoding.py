"""`python -m bench.decoding FOLDER`: the job's decoding beside a plain Pillow loop and beside Pillow's work alone.

- **job**: `decoding.decode` of every file, with all cores, into nothing that is kept.
- **plain**: `Image.open(file).convert("RGB")` cut and resized, one after the other, as data sets do.
- **limit**: what decoding costs by itself: the bytes are in memory already, as many threads, no checks, no bar,
  nothing looked at but pixels (`draft` as the job does it, decode, cut and resize).

With `--run FOLDER`, a finished run's, also what `MODE=predict` does from files to rows of its table: **predict**; all
images are then brought to the size of its model's.

They take turns; medians of images a second, and of images a second of processor time, which is a core's rate and hardly
depends on who else is at work. `python -m tests.helpers.photographs
FOLDER COUNT` draws photographs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import PIL
from PIL import Image, ImageOps, features

from job.console.progress import Progress
from job.data import decoding, inputs
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


def predict(run: Path, root: Path, most: int) -> tuple[Callable[[], None], Shape]:
    """All of `MODE=predict` but its parts' way into the store, and the size of the model's images."""
    from job import device
    from job.engine import classifier
    from job.modes.predict_answers import Reader, batches, shape_of
    from job.modes.predict_rows import Columns, rows

    about = json.loads((run / "model.json").read_text())
    model, compute = classifier.load(about, (run / "weights.pt").read_bytes()), device.choose("auto", "auto")
    compute.place(model)
    found = inputs.found(str(root))
    reader = Reader(replace(found, keys=found.keys[:most]), shape_of(about), lambda: None)

    def work() -> None:
        for batch in batches(model, reader, [range(len(reader.images))], compute):
            rows(batch.answers, Columns(about["classes"]))

    return work, reader.shape


def rates(contenders: dict[str, Callable[[], None]], count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Images a second by the clock and of processor time, medians over rounds in turns."""
    taken: dict[str, list[tuple[float, float]]] = {title: [] for title in contenders}
    for _ in range(rounds):
        for title, run in contenders.items():
            started, used = time.perf_counter(), time.process_time()
            run()
            taken[title].append((count / (time.perf_counter() - started), count / (time.process_time() - used)))
    return {
        title: (median(rate for rate, _ in all_), median(core for _, core in all_)) for title, all_ in taken.items()
    }


def measure(root: Path, most: int, side: int, rounds: int, run: Path | None) -> None:
    files = sorted(file for file in root.rglob("*") if file.is_file() and not file.name.startswith("."))[:most]
    contents, cores = [file.read_bytes() for file in files], len(os.sched_getaffinity(0))
    answers, shape = predict(run, root, most) if run else (None, Shape(side))
    contenders: dict[str, Callable[[], None]] = {
        "job": partial(job, files, root, shape),
        "plain": partial(plain, files, shape),
        "limit": partial(limit, contents, shape, cores),
    }
    if answers is not None:
        contenders["predict"] = answers
    found = rates(contenders, len(files), rounds)
    print(f"{len(files):,} images of {root.name} to {shape.side} pixels, {rounds} rounds, {cores} cores")
    for title, (rate, core) in found.items():
        print(f"  {title:<7} {rate:8.1f} images/s, {core:8.1f} a core")
    for title, of in (("job", "plain"), ("job", "limit"), *((("predict", "limit"),) if run else ())):
        rate, core = (here / there for here, there in zip(found[title], found[of], strict=True))
        print(f"  {title} over {of} {rate:.3f}, by processor time {core:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="any folder of images")
    parser.add_argument("--most", type=int, default=1000, help="files that are decoded")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a finished run's folder: measure MODE=predict with its model too")
    given = parser.parse_args()
    turbo = features.check_feature("libjpeg_turbo")
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}, libjpeg-turbo {turbo}")
    print(f"load {os.getloadavg()[0]:.1f}")
    measure(given.folder, given.most, given.side, given.rounds, given.run)


if __name__ == "__main__":
    main()
