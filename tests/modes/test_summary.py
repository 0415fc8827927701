"""`MODE=summary` over one real run and copies of it that are made to differ."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.report import comparison, differences, summary
from job.report.plots import summary as plots
from tests.conftest import Job, replace_file
from tests.helpers import records
from tests.helpers.s3_server import Server


def change(run: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Edits a finished run's results and manifest, which then vouches for them again."""
    results = json.loads((run / "results.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    edit(results, manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))
    replace_file(run, "results.json", json.dumps(results).encode())


def test_runs_side_by_side(one_run: Path, main: Job, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"

    def better(results: dict[str, Any], manifest: dict[str, Any]) -> None:
        results["model"]["name"], results["test"]["accuracy_percent"] = "cnn", 97.5
        manifest["files"].pop("test_predictions.csv")  # as a run of an older version

    def other_data(results: dict[str, Any], manifest: dict[str, Any]) -> None:
        manifest["data_sha256"] = "f" * 64

    for name, edit in (("better", better), ("other", other_data), ("nested/old", lambda r, m: r.pop("evaluation"))):
        shutil.copytree(one_run, outputs / name)
        change(outputs / name, edit)
    shutil.copytree(one_run, outputs / "tampered")
    (outputs / "tampered" / "results.json").write_text('{"test": {"accuracy_percent": 100}}')
    shutil.copytree(one_run, outputs / "unfinished")
    (outputs / "unfinished" / "manifest.json").unlink()

    done = main(MODE="summary", PRICE_PER_HOUR="3600")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tampered is left out: results.json is not the file that its manifest names" in done.stdout
    text = (outputs / "summary.txt").read_text()
    assert text.strip() in done.stdout
    assert "2 different data sets" in text
    with (outputs / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["better", "nested/old", "other"], "one data set after the other"
    assert rows[2]["data_sha256"] == "f" * 64
    assert float(rows[0]["accuracy_percent"]) == pytest.approx(97.5)
    low, high = float(rows[0]["accuracy_low_percent"]), float(rows[0]["accuracy_high_percent"])
    assert low < 97.5 < high
    seconds = float(rows[0]["tuning_seconds"]) + float(rows[0]["training_seconds"])
    assert float(rows[0]["cost_usd"]) == pytest.approx(seconds), "3600 USD an hour is one a second"
    page = (outputs / "summary.html").read_text()
    for said in ("97.50 %", "2 different data sets", "tampered: results.json is not", "at 3600 USD an hour"):
        assert said in page
    assert "unfinished" not in page

    assert main(MODE="summary").returncode == 0, "its own files are no run"
    assert "cost_usd" in (outputs / "summary.csv").read_text()
    assert "USD" not in (outputs / "summary.txt").read_text(), "no price, no cost"


def test_two_runs_on_the_same_images(one_run: Path, main: Job, tmp_path: Path) -> None:
    """Their own answers decide; a run whose answers are not those that its manifest names is left out."""
    outputs = tmp_path / "outputs"
    for name in ("one", "two", "tampered"):
        shutil.copytree(one_run, outputs / name)
    rows = (one_run / "test_predictions.csv").read_bytes().splitlines(keepends=True)
    (outputs / "tampered" / "test_predictions.csv").write_bytes(b"".join(rows[:-1]))
    done = main(MODE="summary")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (outputs / "summary.txt").read_text()
    assert "one and two: 0.00 points apart, may be chance (p = 1)" in text
    assert "judged at the 95 % level by McNemar's exact test on the images both answered\n" in text
    assert "tampered: test_predictions.csv is not the file that its manifest names" in text


def test_a_bucket(
    one_run: Path, main: Job, swift: Server, owner: Any, bucket: str, s3_environment: dict[str, str]
) -> None:
    for name in ("manifest.json", "results.json", "test_predictions.csv"):
        owner.put_object(Bucket=bucket, Key=f"runs/here/{name}", Body=(one_run / name).read_bytes())
    done = main(MODE="summary", OUTPUT=f"s3://{bucket}/runs", **s3_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = owner.get_object(Bucket=bucket, Key="runs/summary.csv")["Body"].read().decode()
    assert [row["run"] for row in csv.DictReader(stored.splitlines())] == ["here"]


def test_nothing_to_put_side_by_side(main: Job) -> None:
    done = main(MODE="summary", OUTPUT="nowhere")
    assert done.returncode == 78
    assert "no finished run below nowhere" in done.stdout


def test_groups_and_names() -> None:
    first, second = comparison.grouped(records.ALL_MODELS)
    assert [run.model for run in first] == ["resnet18_pretrained", "resnet18", "cnn", "vit", "mlp"]
    assert [run.name for run in second] == ["tiny"]
    twice = [records.run("cnn", 50, 100, name="one"), records.run("cnn", 40, 100, name="two")]
    assert comparison.labels([*twice, records.run("mlp", 5, 100)]) == ["one", "two", "mlp"]


def test_which_differences_count() -> None:
    """88.5 and 89.06 % of 10,000: z is 1.25; with ten times the images it would be 3.97."""
    text = summary.files(records.ALL_MODELS, [], None)["summary.txt"].decode()
    assert "resnet18_pretrained and resnet18: 0.56 points apart, may be chance (p = 0.21" in text
    assert text.count("may be chance") == 1
    assert "all other pairs differ" in text
    assert "the z-test of two proportions (runs that kept no answers); corrected for 10 pairs (Holm)" in text
    (pair,) = differences.pairs([records.run("a", 89_060, 100_000), records.run("b", 88_500, 100_000)])
    assert pair.differ


def test_the_classes_that_differ_are_told() -> None:
    group = comparison.grouped(records.ALL_MODELS)[0]
    rows, comparisons = differences.class_by_class(group)
    assert len(rows) == 10
    assert comparisons == 100, "ten pairs in ten classes"
    assert all(row.differ for row in rows), "0.89 and 0.54 of 1,000 images each"
    rows, _ = differences.class_by_class([run for run in group if run.model.startswith("resnet")])
    assert not any(row.differ for row in rows)


def test_names_in_a_plot_keep_apart() -> None:
    """Five models in a bunch, two of them on the same spot: no two boxes of names meet, and none leaves the picture."""
    names = ["resnet18_pretrained", "resnet18", "cnn", "vit", "mlp"]
    points = [(150.0, 100.0), (150.0, 100.0), (160.0, 104.0), (20.0, 90.0), (210.0, 8.0)]
    width, height = 214.0, 177.0
    boxes = []
    for name, (x, y), (dx, dy) in zip(names, points, plots.places(names, points, width, height), strict=True):
        half, line = plots.LETTER * len(name) / 2, 0.6 * plots.FONT
        boxes.append((x + dx - half, y + dy - line, x + dx + half, y + dy + line))
    for number, (left, low, right, high) in enumerate(boxes):
        assert 0 <= left < right <= width
        for other in boxes[:number]:
            assert right <= other[0] or other[2] <= left or high <= other[1] or other[3] <= low


def test_a_run_with_a_limit_is_told_apart() -> None:
    """In the names of the runs and in a column; nothing of it stands there without one."""
    free, limited = (
        records.run("cnn", 700, 1000),
        replace(records.run("cnn", 690, 1000, name="cnn-limited"), max_hours=0.5),
    )
    assert comparison.labels([free, replace(limited, model="mlp")]) == ["cnn", "mlp in 0.5 h"]
    assert comparison.labels([free, limited]) == ["cnn", "cnn in 0.5 h"], "never the same kind of run"
    assert comparison.labels([limited, replace(limited, name="other")]) == ["cnn-limited in 0.5 h", "other in 0.5 h"]
    rows = summary.csv([[free, limited]], None).splitlines()
    assert rows[0].endswith(',"max_hours"')
    assert [row.rpartition(",")[2] for row in rows[1:]] == ['""', "0.5"]
    assert "max_hours" not in summary.csv([[free]], None)
