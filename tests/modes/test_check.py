"""MODE=check on machines and settings with faults: every one is found, none hides the next, nothing is left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from job import settings
from job.console import logs
from job.console.progress import Progress
from job.data import cifar10
from job.device import cgroup
from job.errors import Fault
from job.interrupt import Stop
from job.modes import check as preflight
from job.preflight import data, disk, limit, machine, timing
from job.preflight.data import Counts
from job.preflight.timing import Speed
from job.settings import Settings
from tests.conftest import TINY, Job, on_a_terminal
from tests.helpers.mirror import mirror
from tests.helpers.s3_fixtures import set_aws
from tests.helpers.s3_server import OWNER, Key, Server

Check = Callable[..., "dict[str, list[dict[str, Any]]]"]
GIVEN = {"LEARNING_RATE": "0.001", "EPOCHS": "1"}


def as_found(lines: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Check → its findings, from a JSON log."""
    names: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        event = json.loads(line)
        if event["event"] == "check":
            names.setdefault(event["check"], []).append(event)
    assert len(names) >= 12, "no fault keeps another check from its turn"
    return names


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, short_measurements: None
) -> Check:
    """Runs the preflight in this process, in an empty directory, with these variables and short measurements."""

    def run(code: int, **variables: str) -> dict[str, list[dict[str, Any]]]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name, value in (TINY | {"MODE": "check", "LOG_FORMAT": "json"} | variables).items():
                patch.setenv(name, value)
            patch.setattr(logs.LOGGER, "handlers", [caplog.handler])
            patch.setattr(logs.LOGGER, "propagate", False)
            caplog.clear()
            caplog.set_level("INFO", logs.LOGGER.name)
            ended = 0
            try:
                preflight.run(settings.load(), Progress("off"), Stop())
            except Fault as fault:
                ended = fault.exit_code
        lines = [logs.JsonFormatter().format(record) for record in caplog.records]
        assert ended == code, lines
        return as_found(lines)

    return run


def failures(names: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {name for name, events in names.items() if any(event["result"] == "fail" for event in events)}


def test_all_is_well_and_nothing_is_left(main: Job, tmp_path: Path) -> None:
    enough = TINY | {"DATA_LIMIT": "2000"}
    done = main(**enough, MODE="check", LOG_FORMAT="json", PRICE_PER_HOUR="2", OUTPUT="some/where")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert json.loads(lines[-1])["event"] == "checked"
    names = as_found(lines)
    assert failures(names) == set()
    assert {event["result"] for events in names.values() for event in events} == {"ok"}
    assert re.match(r"about \d+m\d\ds: search ", names["time"][0]["detail"])
    assert "USD" in names["cost"][0]["detail"]
    assert names["split"][0]["detail"].startswith(
        "2,000 training and 400 test images in 10 classes; the search trains on 800"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_list_for_people(main: Job) -> None:
    done = main(**(TINY | {"MODE": "check", "DEVICE": "cuda"}))
    assert done.returncode == 78
    lines = done.stdout.splitlines()
    assert any(re.match(r"ok    settings  +set: DATASET", line) for line in lines)
    (number,) = (n for n, line in enumerate(lines) if re.match(r"fail  device  +DEVICE=cuda, but torch", line))
    assert lines[number + 1].strip().startswith("Start the container with --gpus all")
    assert any(re.match(r"skip  time  +not checked", line) for line in lines)
    assert any(re.match(r"ok    store  ", line) for line in lines), "what comes after is checked too"
    assert re.search(r"not ready: \d+ checks, 1 failed, .*: device\.", done.stdout)
    assert "\033[" not in done.stdout


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_on_a_terminal_alone(tmp_path: Path, no_color: str) -> None:
    variables = {"MODE": "check", "DEVICE": "cuda", "NO_COLOR": no_color, "TERM": "xterm", "COLUMNS": "80"}
    code, shown = on_a_terminal(tmp_path, **TINY | variables)
    assert code == 78
    assert (b"\033[31mfail\033[0m  device" in shown) == (b"\033[32mok  \033[0m  store" in shown) == (not no_color)
    plain = re.sub(r"\033\[\d+m", "", shown.decode())
    assert max(len(line) for line in plain.splitlines() if re.match("ok|warn|fail|skip", line)) <= 80


def test_wrong_and_misspelled_variables_are_all_shown(check: Check) -> None:
    names = check(78, MODEL="mpl", MAX_EVALS="ten", PATIENC="3", LEARNING_RATE="0.1", LR_MIN="0.5")
    told = [event["detail"] for event in names["settings"]]
    assert len(told) == 5
    for part in ("MODEL=mpl", "MAX_EVALS=ten", "did you mean PATIENCE?", "EPOCHS: LEARNING_RATE is set", "LR_MAX"):
        assert sum(part in line for line in told) == 1
    for name in ("disk", "weights", "run", "time"):
        assert names[name][0]["result"] == "skip", "what depends on them is not looked at"
    assert names["store"][0]["result"] == names["device"][0]["result"] == "ok"


def test_a_bucket_that_is_not_there(check: Check, swift: Server, s3_environment: dict[str, str]) -> None:
    names = check(78, **s3_environment, OUTPUT="s3://nothing-there/runs")
    assert failures(names) == {"store"}
    assert "S3 bucket nothing-there does not exist" in names["store"][0]["detail"]
    assert names["run"][0]["result"] == "skip"


def test_a_wrong_key(check: Check, swift: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (Key(OWNER.id, "not-the-secret"), Key("nobody:here", "x")):
        names = check(78, **set_aws(monkeypatch, swift.endpoint, key), OUTPUT=f"s3://{bucket}/runs")
        assert failures(names) == {"store"}
        assert "key" in names["store"][0]["detail"] + names["store"][0]["remedy"]
        assert key.secret not in json.dumps(names) or key.secret == "x"


def test_a_store_that_does_not_answer_is_told_soon(check: Check, s3_environment: dict[str, str]) -> None:
    names = check(75, **(s3_environment | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}), OUTPUT="s3://bucket/x")
    assert "127.0.0.1:9 cannot be reached" in names["store"][0]["detail"]


def test_a_bucket_that_serves_keeps_nothing(
    check: Check, bucket: str, owner: Any, s3_environment: dict[str, str]
) -> None:
    names = check(0, **s3_environment, **GIVEN, OUTPUT=f"s3://{bucket}/runs")
    assert f"s3://{bucket}/runs/mlp-" in names["store"][0]["detail"]
    assert owner.list_objects_v2(Bucket=bucket).get("Contents") is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; 1.7 million parameters need about 80."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"SKIPPED: NO FULL DISK IS TESTED HERE, mounting is not permitted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_with_too_little_room(main: Job, check: Check, small_disk: Path) -> None:
    names = check(75, OUTPUT=str(small_disk / "out"))
    assert failures(names) == {"disk"}
    assert re.search(r"OUTPUT: .*small has 2.1 MB free, about 76 MB are needed", names["disk"][0]["detail"])

    run = main(**TINY, OUTPUT=str(small_disk / "out"))
    assert run.returncode == 75, "a run says so before it trains"
    assert "2.1 MB free" in run.stdout
    assert "epoch=" not in run.stdout


def test_a_disk_that_is_full_to_the_brim(check: Check, small_disk: Path) -> None:
    (small_disk / "rest").write_bytes(b"x" * (2 << 20))
    assert failures(check(75, OUTPUT=str(small_disk / "out"))) == {"disk", "store"}


def test_a_resumed_run_needs_less_room(tmp_path: Path) -> None:
    wanted = Settings(output=str(tmp_path), run_id="run")
    need = disk.BYTES_PER_PARAMETER * 1_000_000 + disk.REPORT_BYTES
    assert f"about {need / 1e6:.0f} MB needed" in disk.room_for_output(wanted, 1_000_000)[0].detail
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "0").write_bytes(b"x" * 12_000_000)
    assert f"about {(need - 12e6) / 1e6:.0f} MB needed" in disk.room_for_output(wanted, 1_000_000)[0].detail


def test_a_mirror_that_is_not_reached(check: Check) -> None:
    names = check(75, DATASET="cifar10", DATA_URL="http://127.0.0.1:9/a.tar.gz")
    assert failures(names) == {"data"}
    assert "http://127.0.0.1:9/a.tar.gz: Connection refused" in names["data"][0]["detail"]


def test_mirrors_are_asked_and_nothing_is_kept(check: Check, tmp_path: Path) -> None:
    with mirror(os.urandom(300_000)) as (address, requests):
        missing, good = f"{address}/missing/a", f"{address}/good/a"
        names = check(0, DATASET="cifar10", DATA_URL=f"{missing},{good}")
        assert [event["result"] for event in names["data"]] == ["warn", "ok"]
        assert requests == ["/missing/a", "/good/a"]
        assert failures(check(78, DATASET="cifar10", DATA_URL=missing)) == {"data"}
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_archive(check: Check, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / cifar10.ARCHIVE).write_bytes(b"not an archive")
    names = check(75, DATASET="cifar10", DATA_URL="http://127.0.0.1:9/a")
    assert [event["result"] for event in names["data"]] == ["warn", "fail"]
    assert f"{cifar10.ARCHIVE}: wrong MD5" in names["data"][0]["detail"]


def images(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    for part in ("train", "test"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (number, 0, 0)).save(root / part / name / f"{number}.png")
    return root


def test_unreadable_images_are_named(check: Check, tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    (root / "train" / "cat" / "0.png").write_bytes(b"broken")
    (root / "test" / "dog" / "3.png").write_bytes(b"")
    names = check(78, DATASET="folder", DATA_DIR=str(root), DATA_LIMIT="")
    assert names["data"][0]["detail"].endswith(
        "2 classes, 12 training and 12 test images; smallest class cat (6); "
        "all 24 images were decoded, 2 cannot be read"
    )
    told = " ".join(event["detail"] for event in names["data"][1:])
    assert "train/cat/0.png (not a readable image: a text file)" in told
    assert "test/dog/3.png (an empty file)" in told
    assert names["time"][0]["result"] == "ok"


def test_a_folder_of_another_layout(check: Check, tmp_path: Path) -> None:
    names = check(78, DATASET="folder", DATA_DIR=str(images(tmp_path / "one", classes=("cat",))), DATA_LIMIT="")
    assert "a classifier needs two" in names["data"][0]["detail"]
    assert names["split"][0]["result"] == names["time"][0]["result"] == "skip"


def test_a_search_without_images_and_a_limit_below_the_classes(check: Check) -> None:
    assert failures(check(78, TUNE_PERCENT="1")) == {"split", "time"}


def test_weights_that_are_not_there(check: Check, tmp_path: Path) -> None:
    pretrained = {"MODEL": "resnet18_pretrained", **GIVEN, "BATCH_SIZE": "2"}
    names = check(78, **pretrained, PRETRAINED_WEIGHTS="nowhere.pth")
    assert failures(names) == {"weights"}
    assert names["time"][0]["result"] == "ok", "a step takes as long with other weights"
    (tmp_path / "broken.pth").write_bytes(b"x")
    assert "is a text file" in check(78, **pretrained, PRETRAINED_WEIGHTS="broken.pth")["weights"][0]["detail"]


def test_packages_that_are_asked_for(check: Check) -> None:
    wanted = {"TENSORBOARD_DIR": "tensorboard", "MLFLOW_TRACKING_URI": "mlflow", "RAY_ADDRESS": "ray"}
    missing = {name for name, package in wanted.items() if importlib.util.find_spec(package) is None}
    names = check(78 if missing else 0, **dict.fromkeys(wanted, "auto"))
    assert {event["detail"].split()[0] for event in names["extras"] if event["result"] == "fail"} == missing
    assert len(names["extras"]) == 3


def test_where_the_run_stands(main: Job, check: Check, tmp_path: Path) -> None:
    assert main(**TINY, **GIVEN, RUN_ID="mine").returncode == 0
    before = {file: file.read_bytes() for file in (tmp_path / "outputs").rglob("*") if file.is_file()}
    assert "is finished" in check(0, **GIVEN, RUN_ID="mine")["run"][0]["detail"]
    other = check(78, RUN_ID="mine")
    assert failures(other) == {"run"}
    assert "holds a finished run that differs" in other["run"][0]["detail"]
    assert before == {file: file.read_bytes() for file in (tmp_path / "outputs").rglob("*") if file.is_file()}


def test_what_cannot_be_mended_by_a_retry_comes_first(check: Check) -> None:
    names = check(78, DATASET="cifar10", DATA_URL="http://127.0.0.1:9/a", DEVICE="cuda")
    assert {name: names[name][0]["exit_code"] for name in failures(names)} == {"data": 75, "device": 78}
    assert [names[name][0]["level"] for name in ("device", "data", "store")] == ["error", "error", "info"]


# --- what a container allows, from files as the kernel has them ---


def put(root: Path, **files: str) -> None:
    for name, content in files.items():
        place = root / name.replace("__", "/").replace("_DOT_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content + "\n")


def test_the_quota_of_a_control_group(tmp_path: Path) -> None:
    assert (cgroup.cpus(tmp_path), cgroup.memory(tmp_path)) == (None, None)
    two = tmp_path / "two"
    put(two, proc__self__cgroup="0::/pod/box")
    put(two / "sys/fs/cgroup/pod", cpu_DOT_max="150000 100000", memory_DOT_max="2000000000")
    put(two / "sys/fs/cgroup/pod/box", cpu_DOT_max="max 100000", memory_DOT_max="max")
    assert (cgroup.cpus(two), cgroup.memory(two)) == (1.5, 2_000_000_000), "the group above has the limit"
    one = tmp_path / "one"
    put(one, proc__self__cgroup="4:memory:/box\n3:cpu,cpuacct:/box\n0::/")
    put(one / "sys/fs/cgroup/cpu", cpu_DOT_cfs_quota_us="200000", cpu_DOT_cfs_period_us="100000")
    put(one / "sys/fs/cgroup/memory", memory_DOT_limit_in_bytes="9223372036854771712")
    assert (cgroup.cpus(one), cgroup.memory(one)) == (2.0, None)
    put(one / "sys/fs/cgroup/memory", memory_DOT_limit_in_bytes="500000000")
    assert cgroup.memory(one) == 500_000_000


def test_a_limit_on_threads_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.threads(2)[0].result == "ok"
    start, left = threading.Thread.start, [5]

    def limited(thread: threading.Thread) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(Fault, match=r"5 of 18 threads could be started.*no more threads") as caught:
        machine.threads(2)
    assert caught.value.exit_code == 75
    assert "pids-limit" in caught.value.remedy


def test_more_threads_than_the_quota_and_too_little_memory_are_warned_of(tmp_path: Path) -> None:
    put(tmp_path, sys__fs__cgroup__cpu_DOT_max="150000 100000", sys__fs__cgroup__memory_DOT_max="300000000")
    put(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemAvailable: 8000000 kB")
    (quota,) = machine.processors(8, tmp_path)
    assert (quota.result, quota.remedy) == ("warn", "Set OMP_NUM_THREADS=1, or raise the quota.")
    assert machine.processors(1, tmp_path)[0].result == "ok"
    (memory,) = machine.memory(60_000 * 3072, 1_000_000, 1, tmp_path)
    assert memory.result == "warn"
    assert memory.detail.startswith("a limit of 300 MB; a run takes about 1.6 GB")


def test_a_memory_limit_below_the_images_alone_is_told_before_they_are_made(tmp_path: Path) -> None:
    """A fault of its own, for a data set in memory; where the limit is above, or the images are mapped, nothing."""
    put(tmp_path, sys__fs__cgroup__memory_DOT_max="300000000")
    large = data.bytes_in_memory(Settings(dataset="synthetic", image_size=256, data_limit=4000))
    assert large == 3 * 256**2 * 4800
    (found,) = machine.images_fit(large, tmp_path)
    assert (found.result, found.exit_code) == ("fail", 75)
    assert found.detail.startswith("a memory limit of 300 MB, but the images alone take 944 MB")
    assert machine.images_fit(data.bytes_in_memory(Settings()), tmp_path) == []
    assert machine.images_fit(data.bytes_in_memory(Settings(dataset="folder", image_size=512)), tmp_path) == []
    assert machine.images_fit(large, tmp_path / "no limit") == []


# --- the prediction, from known speeds ---


def test_the_prediction_is_arithmetic() -> None:
    """10,000 images: 20 % of them split 1,600 to 400; a millisecond for a trained image, half for an evaluated one."""
    speed, counts = Speed(train=1e-3, evaluate=5e-4, build=0.5), Counts(10_000, 2_000, 10)
    predicted = timing.predict(Settings(max_evals=4), counts, speed, workers=2)
    trial, final = 1.6 + 0.2, 10 + 1
    assert predicted.tuning == pytest.approx(4 * (15 * trial + 0.5) / 2)
    assert predicted.training == pytest.approx(10 * final + 0.5)
    assert predicted.most_tuning == pytest.approx(4 * (50 * trial + 0.5) / 2)
    given = timing.predict(Settings(learning_rate=0.1, epochs=3), counts, speed, workers=1)
    assert (given.tuning, given.training) == (0, pytest.approx(3 * final + 0.5))
    (said,) = (f for f in timing.findings(Settings(price_per_hour=720), given, speed) if f.name == "cost")
    assert said.detail.startswith("about 6.70 USD, at most 6.70")


def test_what_fits_is_arithmetic() -> None:
    """The same speeds. Without model and evaluation a trial takes 1.8 s an epoch, the training 11, the end 22."""
    speed, counts = Speed(train=1e-3, evaluate=5e-4, build=0.0), Counts(10_000, 2_000, 10)

    def told(**values: Any) -> list[tuple[str, str]]:
        found = limit.findings(Settings(**values), counts, speed, workers=1)
        return [(finding.result, finding.detail) for finding in found]

    assert told() == []
    with pytest.raises(Fault, match=r"MAX_HOURS=0\.009 is too little: one epoch of a trial, one of the final training"):
        told(max_hours=0.009)  # 32.4 s of 34.8
    assert told(max_hours=0.0097) == [
        ("warn", "about 1 of 20 trials, 1 of 10 epochs of the final training fit into 0.0097 hours")
    ]
    seconds = 110 + 22 + 5 * 15 * 1.8  # the last of five trials leaves the training and the end
    hours = (seconds + 0.06 * seconds) / 3600
    assert told(max_hours=hours)[0][1].startswith("about 5 of 20 trials, 10 of 10 epochs")
    assert told(max_hours=1.0) == [
        ("ok", "about 20 of 20 trials, 10 of 10 epochs of the final training fit into 1 hours")
    ]
    assert told(max_hours=0.02, learning_rate=1e-3, epochs=9)[0][1].startswith("about 4 of 9 epochs")
    halved = told(max_hours=1.0, search="halving")
    assert halved == told(max_hours=1.0)
    predicted = timing.predict(Settings(search="halving"), counts, speed, workers=1)
    assert predicted.tuning == pytest.approx(58 * 1.8)
