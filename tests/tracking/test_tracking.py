"""What others see of a run: Katib's regular expression, CI, TensorBoard, MLflow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from job import tracking
from job.errors import Fault, TemporaryFault
from job.results import Epoch, Score
from tests.conftest import ROOT, TINY, Job, bare_environment, run_here, start_job

# The default filter of Katib's collector: kubeflow/katib, pkg/metricscollector/v1beta1/common/const.go
KATIB = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"


def history(run: Path) -> list[dict[str, float]]:
    epochs: list[dict[str, float]] = json.loads((run / "results.json").read_text())["training"]["epochs"]
    return epochs


@pytest.fixture
def tiny(job: Job) -> Job:
    """In a process of its own: what TensorBoard and MLflow keep in one is nobody else's."""

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return job(**(TINY | variables))

    return run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run called `run` and what it said."""
    place = tmp_path_factory.mktemp("recorded")
    (place / "summary.md").write_text("before\n")
    done = run_here(place, **TINY, RUN_ID="run", GITHUB_STEP_SUMMARY="summary.md")
    assert done.returncode == 0, done.stdout + done.stderr
    return place, done.stdout


def test_katib_reads_every_epoch(recorded: tuple[Path, str]) -> None:
    place, said = recorded

    def read(name: str) -> list[dict[str, str]]:
        lines = [line for line in said.splitlines() if re.search(rf"\b{name}\s*=", line)]
        return [{name: value for name, value, *_ in re.findall(KATIB, line)} for line in lines]

    final, measured = history(place / "outputs" / "run"), read("test_accuracy")
    assert len(measured) == len(final) > 0
    for line, epoch in zip(measured, final, strict=True):
        assert int(line["epoch"]) == epoch["epoch"]
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            value = epoch.get(name, epoch.get(f"{name}_percent"))
            assert float(line[name]) == pytest.approx(value, rel=1e-3)
    trials = json.loads((place / "outputs" / "run" / "results.json").read_text())["tuning"]["trials"]
    best = [line for line in read("validation_loss") if "best_epoch" in line]
    expected = [pytest.approx(trial["validation_loss"], rel=1e-3) for trial in trials]
    assert [float(line["validation_loss"]) for line in best] == expected


def test_both_phases_are_foretold_after_the_first_epoch(recorded: tuple[Path, str]) -> None:
    lines = recorded[1].splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("expected: "))
    clock = r"\d+m\d\ds"
    assert re.match(rf"expected: search about {clock} \(if trials take 2 epochs\), then training {clock}", lines[place])
    assert lines[place + 1].startswith("tune trial=1/2")


def test_the_log_begins_and_ends_with_all_that_a_person_needs(recorded: tuple[Path, str]) -> None:
    said = recorded[1]
    head = [word for line in said.splitlines()[:8] if (word := line.split()[0]) != "products"][:7]  # as the probe says
    assert head == ["run", "model", "data", "device", "precision", "images", "output"]
    assert "precision  fp32: set by PRECISION" in said
    end = said[said.index("finished: the files are in outputs/run") :]
    listed = re.findall(r"^  (\S+\.\w+)  +\w", end, flags=re.M)
    assert set(listed) == set(documented_files()) - {"status.json"}


def documented_files() -> list[str]:
    return re.findall(
        r"^\| `([\w.]+)` \|", (ROOT / "docs" / "outputs.md").read_text().split("## Columns")[0], flags=re.M
    )


def test_a_summary_for_continuous_integration(recorded: tuple[Path, str]) -> None:
    place, _ = recorded
    text = (place / "summary.md").read_text()
    results = json.loads((place / "outputs" / "run" / "results.json").read_text())
    assert text.startswith("before\n### Run `run`\n")
    assert f"| test accuracy | **{results['test']['accuracy_percent']:.2f} %** (95 % interval " in text


def test_a_summary_that_cannot_be_written_costs_a_warning(main: Job) -> None:
    done = main(**TINY, LEARNING_RATE="0.001", EPOCHS="1", GITHUB_STEP_SUMMARY="nowhere/summary.md")
    assert done.returncode == 0, "the run is worth more than its summary"
    assert "warning: GITHUB_STEP_SUMMARY: nowhere/summary.md cannot be written" in done.stdout


def test_off_nothing_is_imported() -> None:
    probe = (
        "import sys; from job import storage; from job.modes import beginning; from job.settings import Settings\n"
        "with beginning.trackers(Settings(), storage.open_store('x', 'y')) as trackers: assert trackers == []\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('tensorboard', 'mlflow')]\n"
        "assert 'torch.utils.tensorboard' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=ROOT, env=bare_environment())


def test_what_is_not_installed_is_told() -> None:
    with pytest.raises(Fault) as told:
        tracking.need("no_such_package", "TENSORBOARD_DIR")
    assert str(told.value).startswith("TENSORBOARD_DIR is set, but no_such_package is not installed.")
    assert "make install;" in str(told.value)


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(tiny: Job, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = tiny(TENSORBOARD_DIR="tb", RUN_ID="run", MAX_EVALS="2")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "outputs" / "run" / "results.json").read_text())

    def curve(part: str, name: str) -> list[tuple[int, float]]:
        events = EventAccumulator(str(tmp_path / "tb" / "run" / part))
        events.Reload()
        return [(event.step, event.value) for event in events.Scalars(name)]

    final = [(epoch["epoch"], pytest.approx(epoch["test_loss"])) for epoch in results["training"]["epochs"]]
    assert curve("train", "loss/test") == final
    for trial in results["tuning"]["trials"]:
        expected = [(epoch["epoch"], pytest.approx(epoch["validation_loss"])) for epoch in trial["epochs"]]
        assert curve(f"trial-{trial['trial']}", "loss/validation") == expected
        assert curve(f"trial-{trial['trial']}", "learning_rate") == [(0, pytest.approx(trial["learning_rate"]))]


@pytest.mark.slow  # MLflow makes the tables of its data base: seconds
def test_mlflow_has_the_run_and_a_resumed_one_goes_on_in_it(tiny: Job, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    store = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "RUN_ID": "run",
        "MLFLOW_EXPERIMENT_NAME": "tests",
    }
    endless = TINY | store | {"LEARNING_RATE": "0.001", "EPOCHS": "400"}
    process = start_job(tmp_path, endless)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("train epoch=3 "):
            break
    process.terminate()
    process.communicate()
    assert process.returncode == 143

    client = MlflowClient(tracking_uri=store["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("tests")
    (stopped,) = client.search_runs([experiment.experiment_id])
    assert stopped.info.status == "KILLED"
    assert tiny(**store, LEARNING_RATE="0.001", EPOCHS="400").returncode == 0
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status, run.info.run_name) == (stopped.info.run_id, "FINISHED", "run")
    assert run.data.params["MODEL"] == "mlp"
    assert run.data.params["EPOCHS"] == "400"
    assert run.data.tags["output"] == "outputs/run"
    told = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "test_loss")}
    expected = {epoch["epoch"]: epoch["test_loss"] for epoch in history(tmp_path / "outputs" / "run")}
    assert told == expected
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "results.json"} <= names
    assert "weights.pt" not in names


def test_mlflow_in_a_folder(tmp_path: Path) -> None:
    """Which MLflow itself takes only from who asks twice."""
    from mlflow.tracking import MlflowClient

    wanted = tracking.Wanted(mlflow=f"file://{tmp_path}/mlflow", experiment="tests")
    with tracking.opened("run", wanted, {"MODEL": "mlp"}, {"output": "here"}) as trackers:
        trackers[0].final_epoch(Epoch(1, Score(1.0, 10.0), Score(2.0, 20.0), 0.1))
    client = MlflowClient(tracking_uri=wanted.mlflow)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.data.params == {"MODEL": "mlp"}
    assert (run.info.status, run.data.metrics["test_loss"]) == ("FINISHED", 2.0)


def test_a_tracker_that_fails_on_the_way_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial's folder cannot be made, because a file is in its place: told once, then nothing more is tried."""
    told: list[str] = []
    monkeypatch.setattr(tracking, "event", lambda _name, message, **_: told.append(message))

    epoch = Epoch(1, Score(1.0, 10.0), Score(2.0, 20.0), 0.1)
    place = tmp_path / "tb"
    place.mkdir()
    with tracking.opened("run", tracking.Wanted(place), {}, {}) as trackers:
        (tmp_path / "tb" / "run" / "trial-1").write_text("in the way")
        for _ in range(2):
            trackers[0].trial_epoch(0, 0.1, epoch)
        trackers[0].final_epoch(epoch)
    (message,) = told
    assert message.startswith("TensorBoard failed (")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (tracking.Wanted(Path("/proc/nowhere")), "TENSORBOARD_DIR: /proc/nowhere"),
        (tracking.Wanted(mlflow="nonsense://x"), "MLFLOW_TRACKING_URI: this MLflow cannot use it"),
    ],
)
def test_a_place_that_cannot_be_used(wanted: tracking.Wanted, told: str) -> None:
    with pytest.raises(Fault, match=told) as fault, tracking.opened("run", wanted, {}, {}):
        pass
    assert fault.value.exit_code == 78


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    wanted = tracking.Wanted(mlflow="http://127.0.0.1:9", experiment="tests")
    with pytest.raises(TemporaryFault, match="the server does not answer"), tracking.opened("run", wanted, {}, {}):
        pass
