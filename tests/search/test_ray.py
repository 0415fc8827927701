"""A real Ray cluster of two nodes, one of which is killed in the middle of a search. `make test-ray` runs this."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from job.results import CUT, STOPPED, Trial
from job.search import tune
from job.search.cluster import connected, tasks
from tests.conftest import TINY, Job, bare_environment, start_job, tells
from tests.helpers.chaos import comparable, directory_files
from tests.helpers.loopback import isolated
from tests.search.test_runners import quiet, setup

here = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not isolated(),
    reason="SKIPPED: NO RAY CLUSTER IS TESTED HERE; make test-ray installs Ray and runs this on loopback alone",
)
HEAD = "127.0.0.2:26380"
SEARCH = TINY | {
    "MAX_EVALS": "20",
    "TUNE_MAX_EPOCHS": "12",
    "PATIENCE": "12",
    "DATA_LIMIT": "2000",
    "LOG_FORMAT": "json",
    "RUN_ID": "run",
}


@dataclass
class Cluster:
    head: subprocess.Popen[bytes]
    node: subprocess.Popen[bytes]


def ray_start(*arguments: str) -> subprocess.Popen[bytes]:
    """A node with one CPU, in a process group of its own, so that all of it can be killed at once."""
    ray = str(Path(sys.executable).with_name("ray"))
    return subprocess.Popen(
        [ray, "start", *arguments, "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats", "--block"],
        env=bare_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def nodes_alive() -> int:
    code = f"import ray; ray.init('{HEAD}', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    done = subprocess.run([sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def join() -> subprocess.Popen[bytes]:
    """The second node, once it is there."""
    node = ray_start(f"--address={HEAD}", "--node-ip-address=127.0.0.3")
    deadline = time.monotonic() + 60
    while nodes_alive() != 2:
        assert time.monotonic() < deadline, "the cluster did not come up"
    return node


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        host, port = HEAD.split(":")
        place = (f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={scratch}")
        head = ray_start("--head", *place, "--include-dashboard=false")
        time.sleep(4)
        running = Cluster(head, join())
        yield running
        end(running.node)
        end(head)


def start(directory: Path, **variables: str) -> subprocess.Popen[str]:
    return start_job(directory, SEARCH | variables, subprocess.STDOUT)


def events(process: subprocess.Popen[str], name: str, log: list[str]) -> Iterator[dict[str, object]]:
    assert process.stdout is not None
    for line in process.stdout:
        log.append(line)
        if tells(line, name):
            yield json.loads(line)


def files(place: Path) -> dict[str, object]:
    return comparable(directory_files(place / "run"))


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    place = tmp_path_factory.mktemp("inline")
    process = start(place)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return files(place / "outputs")


@here
@pytest.mark.timeout(900)
def test_a_node_killed_in_the_search_changes_nothing(cluster: Cluster, inline: object, tmp_path: Path) -> None:
    """SIGTERM first (143 within ten seconds), the driver killed next, then a node killed; 20 trials, byte-equal."""
    log: list[str] = []
    process = start(tmp_path, RAY_ADDRESS=HEAD)
    trials = events(process, "trial", log)
    next(trials), next(trials)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    log += process.communicate()
    assert process.returncode == 143, log
    assert time.monotonic() - sent < 10

    process = start(tmp_path, RAY_ADDRESS=HEAD)
    trials = events(process, "trial", log)
    next(trials), next(trials)
    process.kill()
    process.communicate()

    process = start(tmp_path, RAY_ADDRESS=HEAD)
    trials = events(process, "trial", log)
    ended = [next(trials)["trial"] for _ in range(3)]
    end(cluster.node)
    ended += [trial["trial"] for trial in trials]
    assert process.wait() == 0, log
    assert len(set(ended)) == len(ended) < 20, "no trial that had ended was run again, not even after the kill"
    assert files(tmp_path / "outputs") == inline
    cluster.node = join()  # for the tests that follow


@here
@pytest.mark.timeout(900)
def test_a_halved_search_is_that_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    """The driver killed at two moments, then a node: at a rung some trials wait in the driver, which is gone."""
    whole, halved = tmp_path / "inline", tmp_path / "ray"
    whole.mkdir(), halved.mkdir()
    process = start(whole, SEARCH="halving")
    said = process.communicate()[0]
    assert process.returncode == 0, said

    log: list[str] = []
    for _ in range(2):
        process = start(halved, SEARCH="halving", RAY_ADDRESS=HEAD)
        next(events(process, "trial", log))  # the first one that is stopped at a rung
        process.kill()
        process.communicate()
    process = start(halved, SEARCH="halving", RAY_ADDRESS=HEAD)
    trials = events(process, "trial", log)
    next(trials)
    end(cluster.node)
    list(trials)
    assert process.wait() == 0, log
    assert files(halved / "outputs") == files(whole / "outputs")
    cluster.node = join()


@here
def test_out_of_time_what_is_under_way_is_called_back(cluster: Cluster) -> None:
    """In the second rung; the trials after the start-up, a round of their own, do not wait for what was called back."""
    common = setup(search="halving", max_evals=8, tune_startup_trials=6, tune_max_epochs=4, patience=4)
    known: list[Trial] = []
    looks: list[int] = []  # of the runner, since two trials went on from the first rung

    def on_batch(images: int) -> None:
        looks.extend([images] if len(known) >= 6 + 4 else [])

    callbacks = replace(quiet(), on_batch=on_batch, starts=lambda order: not looks, in_time=lambda: not looks)
    with connected(HEAD, lambda: None), tasks(common, callbacks, 2) as runner:
        trials = tune.search(common.settings, runner, 1, known.append)
    assert len(looks) > 1, "asked again after the end"
    assert [each.ending for each in trials].count(STOPPED) == 4
    assert [each.ending for each in trials].count(CUT) == 2
    assert not any(each.failure for each in trials), "what was called back has not failed"


@here
def test_a_limited_search_on_a_cluster_is_published(cluster: Cluster, tmp_path: Path) -> None:
    many = {"MAX_EVALS": "3000", "TUNE_STARTUP_TRIALS": "3000", "MAX_HOURS": "0.03"}
    process = start(tmp_path, RAY_ADDRESS=HEAD, **many)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    results = json.loads((tmp_path / "outputs" / "run" / "results.json").read_text())
    assert 1 <= len(results["tuning"]["trials"]) < 3000
    assert "of 3000 trials" in said
    assert "fitted into 0.03 hours" in said


@here
def test_all_models_at_once(cluster: Cluster, tmp_path: Path) -> None:
    given = TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "1", "RAY_ADDRESS": HEAD, "OUTPUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.run_all", "--runner", "ray", "mlp", "cnn"],
        env=bare_environment() | given,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {place.parent.name[:3] for place in tmp_path.glob("*/manifest.json")} == {"mlp", "cnn"}
    assert "== 2 models at once" in done.stdout
    assert done.stdout.count("finished (exit 0)") == 2


@here
def test_a_cluster_that_is_not_there_is_told_within_a_bounded_time(job: Job) -> None:
    started = time.monotonic()
    done = job(**SEARCH | {"LOG_FORMAT": "text", "RAY_ADDRESS": "127.0.0.2:9"})
    assert done.returncode == 75, done.stdout + done.stderr
    assert "RAY_ADDRESS=127.0.0.2:9: the cluster cannot be reached: Connection refused" in done.stdout
    assert time.monotonic() - started < 30


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_ray_that_is_not_installed_is_told_with_its_remedy(tiny: Job) -> None:
    done = tiny(RAY_ADDRESS="auto")
    assert done.returncode == 78
    assert "ray is not installed" in done.stdout
    assert "make install-ray" in done.stdout
