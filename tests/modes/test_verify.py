"""`MODE=verify` over a real run, and over copies that hold something else than they report."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from job import report, settings
from job.console.progress import Progress
from job.device import Compute
from job.errors import Fault
from job.interrupt import Stop
from job.modes import verify, verify_figures, verify_files, verify_results, verify_rows
from job.report.answers import Answers
from job.results import Epoch, Score, Trial
from job.search import tune
from tests.conftest import Job, replace_file
from tests.helpers.s3_server import Server


@pytest.fixture
def copy(one_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, as `outputs/mine` in an empty directory."""
    target = tmp_path / "outputs" / "mine"
    shutil.copytree(one_run, target)
    return target


@pytest.fixture
def refused(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a person reads where the copy does not hold what it reports."""

    def told(**variables: str) -> str:
        monkeypatch.chdir(tmp_path)
        for name, value in ({"MODE": "verify", "RUN_ID": "mine", "DEVICE": "cpu"} | variables).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Fault) as caught:
            verify.run(settings.load(), Progress("off"), Stop())
        assert caught.value.exit_code == 78
        return str(caught.value)

    return told


def test_a_run_gives_what_it_reports_to_the_last_bit(copy: Path, main: Job) -> None:
    """Its name is enough: which images, how many and from which seed, the run knows itself."""
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    done = main(MODE="verify", RUN_ID="mine", LOG_FORMAT="json", DEVICE="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    verified = next(event for event in told if event["event"] == "verified")
    assert verified["exactly"] is True
    compared = {what: verdict for what, verdict, _ in next(e for e in told if e["event"] == "compared")["rows"]}
    files = json.loads(before["manifest.json"])["files"]
    assert set(compared) >= {*files, "loss, accuracy", "data set", "manifest.json"} - {"weights.pt"}
    untold = {"learning rates tried", "epochs of trials and training", "times, cost, machine, versions"}
    assert {what for what, verdict in compared.items() if verdict != "equal"} == untold
    assert verified["loss"] == json.loads(before["results.json"])["test"]["loss"]
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before, "nothing is written"


def test_every_damaged_file_is_named(copy: Path, refused: Any) -> None:
    weights = bytearray((copy / "weights.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "weights.pt").write_bytes(weights)
    (copy / "history.csv").unlink()
    said = refused()
    assert "weights.pt is not the file that its manifest names" in said
    assert "history.csv is missing" in said
    assert "report.html" not in said


def test_other_weights_are_found_out(copy: Path, refused: Any) -> None:
    """Even where the manifest vouches for them."""
    weights = torch.load(copy / "weights.pt", weights_only=True)
    weights["1.bias"] += 0.05
    out = io.BytesIO()
    torch.save(weights, out)
    replace_file(copy, "weights.pt", out.getvalue())
    assert "does not give what it reports: loss, accuracy: test loss" in refused()


def test_retouched_figures_are_found_out(copy: Path, refused: Any) -> None:
    results, about = (json.loads((copy / name).read_text()) for name in ("results.json", "model.json"))
    results["test"]["accuracy_percent"] += 100 / 40  # one image of forty
    replace_file(copy, "results.json", json.dumps(results).encode())
    assert "model.json: test.accuracy_percent is" in refused()
    about["test"] = results["test"]
    replace_file(copy, "model.json", json.dumps(about).encode())
    assert "does not give what it reports" in refused()


def in_json(*path: Any, value: Any) -> Callable[[bytes], bytes]:
    """An edit of one value; None removes it."""

    def edit(content: bytes) -> bytes:
        whole = part = json.loads(content)
        for key in path[:-1]:
            part = part[key]
        if value is None:
            del part[path[-1]]
        else:
            part[path[-1]] = value
        return json.dumps(whole).encode()

    return edit


def swapped(old: str, new: str) -> Callable[[bytes], bytes]:
    """An edit of the first place where the pattern `old` is found."""

    def edit(content: bytes) -> bytes:
        changed, count = re.subn(old.encode(), new.encode(), content, count=1)
        assert (count, changed == content) == (1, False)
        return changed

    return edit


def other_picture(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        picture.putpixel((0, 0), (255, 0, 0))
        out = io.BytesIO()
        picture.save(out, format="png")
    return out.getvalue()


@pytest.fixture(scope="module")
def facts(one_run: Path, tmp_path_factory: pytest.TempPathFactory) -> verify_rows.Facts:
    """What verify knows of a whole run."""
    home = tmp_path_factory.mktemp("facts")
    shutil.copytree(one_run, home / "mine")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RUN_ID": "mine", "DEVICE": "cpu", "OUTPUT": str(home)}.items():
            patch.setenv(name, value)
        wanted = settings.load()
        return verify.gather(verify.whole(wanted, Stop()), wanted, Progress("off"), Stop())


FIGURES: dict[str, tuple[tuple[str | int, ...], Any]] = {  # what the message names → where it stands, another value
    "evaluation.classes[0].recall": (("evaluation", "classes", 0, "recall"), 0.99),
    "evaluation.confusion_matrix[3][4]": (("evaluation", "confusion_matrix", 3, 4), 17),
    "evaluation.calibration_error_percent": (("evaluation", "calibration_error_percent"), 0.5),
    "evaluation.accuracy_interval_percent[0]": (("evaluation", "accuracy_interval_percent", 0), 9.0),
    "most_confident_mistakes[0].image": (("evaluation", "most_confident_mistakes", 0, "image"), "7000"),
    "recipe.learning_rate": (("recipe", "learning_rate"), 0.002),
    "recipe.chosen_by": (("recipe", "chosen_by"), "trial 3"),
    "model.parameters": (("model", "parameters"), 1000),
    "model.structure": (("model", "structure"), "Sequential()"),
    "data.train_images": (("data", "train_images"), 50_000),
    "data.classes[0]": (("data", "classes", 0), "cat"),
    "training.seconds": (("training", "seconds"), 1.0),
    "test.loss": (("training", "epochs", 1, "test_loss"), 1.0),
    "settings.SEED": (("settings", "SEED", "value"), 1),
}


@pytest.mark.parametrize("named", FIGURES)
def test_a_changed_figure_is_found_out(facts: verify_rows.Facts, named: str) -> None:
    def rows(facts: verify_rows.Facts) -> list[verify_rows.Row]:
        return [*verify_results.results(facts), *verify_results.others(facts)]

    assert {row.verdict for row in rows(facts)} == {"equal"}
    path, value = FIGURES[named]
    edited = json.loads(in_json(*path, value=value)(json.dumps(facts.results).encode()))
    wrong = [row for row in rows(replace(facts, results=edited)) if row.verdict != "equal"]
    assert {row.verdict for row in wrong} == {"differs"}
    assert f"{named} is " in " ".join(row.told for row in wrong)


def test_a_changed_answer_is_found_out(facts: verify_rows.Facts) -> None:
    """To the last bit on the same machine; elsewhere one image of forty may differ, and two may not."""
    kept = facts.kept
    assert kept is not None
    elsewhere = replace(facts, wanted=verify_rows.SAME_PRECISION)

    def verdict(which: verify_rows.Facts, answers: Answers) -> str:
        return next(iter(verify_figures.answers(which, answers))).verdict

    assert (verdict(facts, kept), verdict(elsewhere, kept)) == ("equal", "near")
    for images, far in ((1, "near"), (2, "differs")):
        other = kept.predicted.copy()
        other[:images] = (other[:images] + 1) % 10
        assert verdict(facts, replace(kept, predicted=other)) == "differs"
        assert verdict(elsewhere, replace(kept, predicted=other)) == far
    assert verdict(facts, replace(kept, confidence=kept.confidence * (1 + 1e-12))) == "differs"
    assert verdict(facts, replace(kept, true=kept.true[::-1])) == "differs"
    ranks = np.arange(len(kept)) % 9 + 1
    ranked = replace(facts, answers=replace(facts.answers, ranks=ranks))
    near = replace(ranked, wanted=verify_rows.SAME_PRECISION)
    others = np.where(ranks < 4, 4 - ranks, ranks), np.where(ranks < 4, 6, ranks)
    same, moved, fallen = (replace(kept, ranks=each) for each in (ranks, *others))
    assert (verdict(ranked, same), verdict(ranked, moved), verdict(ranked, kept)) == ("equal", "differs", "equal")
    assert (verdict(near, moved), verdict(near, fallen)) == ("near", "differs"), "elsewhere the five likeliest count"


def test_every_changed_file_is_found_out(copy: Path, refused: Any) -> None:
    """At once, each with a manifest that vouches for it."""
    changes = {
        "results.txt": swapped(r"Test accuracy: \d", "Test accuracy: 9"),
        "report.html": swapped(r"<td>\d+</td>", "<td>41</td>"),
        "history.csv": swapped(r"\n1,\d", "\n1,7"),
        "per_class.csv": swapped(r'degrees",\d\.\d+', 'degrees",0.123'),
        "confusion_matrix.png": other_picture,
        "model.json": in_json("classes", 0, value="18 degrees"),
    }
    for name, edit in changes.items():
        replace_file(copy, name, edit((copy / name).read_bytes()))
    said = refused()
    assert "does not give what it reports: " in said
    assert [name for name in changes if f"{name}: " not in said] == []
    assert "results.json: " not in said
    assert "mistakes.png: " not in said


def test_a_changed_drawing_is_found_out(facts: verify_rows.Facts) -> None:
    """On the same machine with the same matplotlib; elsewhere it is told that it was not compared."""
    page = report.files(verify_results.rebuilt(facts))["report.html"].decode()
    drawn = page.replace('<path d="M ', '<path d="M 1', 1)
    assert verify_files.text(facts, "report.html", drawn, page).verdict == "differs"
    assert (
        verify_files.text(replace(facts, wanted=verify_rows.SAME_PRECISION), "report.html", drawn, page).verdict
        == "near"
    )
    silent = page.replace(f"{facts.said.accuracy:.2f}", "99.99")
    old = replace(facts, same_code=False)
    assert verify_files.text(old, "report.html", silent, page).told == f"it does not show {facts.said.accuracy:.2f}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("results.json", ("provenance",)),
        ("results.json", ("training", "epochs", 0, "seconds")),
        ("results.json", ("tuning", "trials")),
        ("model.json", ("classes",)),
        ("manifest.json", ("data_sha256",)),
        ("manifest.json", ("files",)),
        ("manifest.json", ("run",)),
    ],
)
def test_a_missing_key_is_told(copy: Path, refused: Any, name: str, path: tuple[Any, ...]) -> None:
    content = in_json(*path, value=None)((copy / name).read_bytes())
    if name == "manifest.json":
        (copy / name).write_bytes(content)
    else:
        replace_file(copy, name, content)
    said = refused()
    assert str(path[-1]) in said or "does not tell which model" in said


def test_a_file_that_nobody_vouches_for_is_named(copy: Path, main: Job) -> None:
    (copy / "notes.txt").write_text("mine")
    done = main(MODE="verify", RUN_ID="mine", DEVICE="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^other files +not compared +the manifest does not name notes\.txt$", done.stdout, re.M)


def test_a_run_of_another_version(copy: Path, main: Job) -> None:
    """It kept no answers, its page was laid out otherwise: that is told, and the rest still holds."""
    edit = in_json("provenance", "git_commit", value="0" * 40)
    replace_file(copy, "results.json", edit((copy / "results.json").read_bytes()))
    page = (copy / "report.html").read_bytes()
    replace_file(copy, "report.html", page.replace(b"<h2>Classes</h2>", b"<h2>Each class</h2>"))
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["test_predictions.csv"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "test_predictions.csv").unlink()
    done = main(MODE="verify", RUN_ID="mine", DEVICE="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        r"test_predictions\.csv +not compared +the run kept no answers",
        r"report\.html +not compared +another version of the job laid it out",
        r"results\.json +equal +every figure of the evaluation",
    ):
        assert re.search(f"^{said}", done.stdout, re.M), said


def test_learning_rates_are_drawn_again() -> None:
    """Four from the seed and two from the trials before them; a changed one is named, and a missing trial."""
    wanted = settings.Settings(max_evals=6, tune_startup_trials=4)
    trials: list[Trial] = []
    for number in range(6):
        rate = tune.suggest(wanted, number, trials)
        loss = Score(abs(math.log(rate / 0.001)), 50.0)
        trials.append(Trial(number, rate, (Epoch(1, loss, loss, 1.0),)))
    row = verify_results.rates(trials, wanted, 1, exact=True)
    assert (row.verdict, row.told) == ("equal", "4 from the seed, 2 from the trials before")
    row = verify_results.rates(trials, wanted, 1, exact=False)
    assert row.told == "4 from the seed; 2 more were suggested on another machine"
    for place in (1, 5):
        changed = [replace(t, learning_rate=0.003) if t.number == place else t for t in trials]
        row = verify_results.rates(changed, wanted, 1, exact=True)
        assert row.verdict == "differs"
        assert row.told.startswith(f"trial {place + 1} is 0.003 and must be")
    assert verify_results.rates(trials[:5], wanted, 1, exact=True).verdict == "differs"


def test_other_images_are_found_out(copy: Path, refused: Any) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["settings"]["DATA_LIMIT"] = 300
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "is not the data set of" in refused()


def test_variables_that_say_something_else_than_the_run(copy: Path, refused: Any) -> None:
    said = refused(MODEL="cnn", SEED="1")
    assert "MODEL is set to cnn, but the run has mlp" in said
    assert "SEED is set to 1, but the run has 3407" in said


def test_a_run_that_is_not_there(copy: Path, refused: Any) -> None:
    said = refused(RUN_ID="other")
    assert "other holds no finished run" in said
    assert "finished runs below OUTPUT: mine" in said
    assert "Run the job first" in refused(OUTPUT="nowhere")


def test_a_bucket(
    one_run: Path, main: Job, swift: Server, owner: Any, bucket: str, s3_environment: dict[str, str]
) -> None:
    for file in one_run.iterdir():
        owner.put_object(Bucket=bucket, Key=f"runs/mine/{file.name}", Body=file.read_bytes())
    variables = {"MODE": "verify", "RUN_ID": "mine", "OUTPUT": f"s3://{bucket}/runs", "DEVICE": "cpu"}
    done = main(**variables, **s3_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to the last bit" in done.stdout


def test_how_far_figures_may_be_off() -> None:
    """Not at all with the same arithmetic; else by precision, and never by less than one image."""
    here = Compute(torch.device("cpu"), "fp32", "", "this processor")
    was = {
        "device": "cpu",
        "hardware": "this processor",
        "precision": "fp32",
        "arithmetic": here.arithmetic(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
    }
    assert verify.tolerance(here, was) == verify_rows.EXACT
    threads = here.arithmetic() | {"threads": 99}
    for other in ({"hardware": "another"}, {"arithmetic": threads}, {"versions": {"torch": "1.0"}}):
        assert verify.tolerance(here, was | other) == verify_rows.SAME_PRECISION
    bf16 = replace(here, precision="bf16")
    assert verify.tolerance(bf16, was) == verify_rows.OTHER_PRECISION
    assert (
        verify.tolerance(here, was | {"precision": "bf16", "arithmetic": bf16.arithmetic()})
        == verify_rows.OTHER_PRECISION
    )
