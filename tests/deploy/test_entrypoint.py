"""entrypoint.sh, run with a stand-in for python that prints what it was started with, below a stand-in for /."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, bare_environment

ENTRYPOINT = ROOT / "entrypoint.sh"
SHOWN = ("OMP_NUM_THREADS", "OUTPUT", "DATA_DIR", "MODEL", "TORCH_HOME", "SM_MODEL_DIR", "PYTHONPATH")
PYTHON = "#!/bin/sh\n" + "".join(f'echo "{name}=${{{name}-unset}}"\n' for name in SHOWN) + 'echo "arguments=$*"\n'


@dataclass(frozen=True)
class Started:
    code: int
    said: str
    job: dict[str, str]


@dataclass(frozen=True)
class Machine:
    root: Path

    def file(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def start(self, *arguments: str, **variables: str) -> Started:
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "ENTRYPOINT_ROOT": str(self.root), **variables}
        done = subprocess.run([ENTRYPOINT, *arguments], env=environment, capture_output=True, text=True)
        assert not done.stderr
        said, *rest = done.stdout.splitlines() or [""]
        return Started(done.returncode, said, dict(line.split("=", 1) for line in rest if "=" in line))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Eight processors, no quota, no platform."""
    machine = Machine(tmp_path)
    machine.file("bin/python3", PYTHON)
    machine.file("bin/nproc", "#!/bin/sh\necho 8\n")
    for program in ("python3", "nproc"):
        (tmp_path / "bin" / program).chmod(0o755)
    return machine


def test_starts_the_job_of_its_own_folder_with_the_arguments(machine: Machine) -> None:
    started = machine.start("--help")
    assert started.code == 0
    assert started.job["arguments"].startswith("-c import sys; ")
    assert started.job["PYTHONPATH"] == str(ENTRYPOINT.parent)
    assert started.said == "platform: none, OUTPUT=./outputs; threads: as torch chooses"


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("400000 100000", "4"),
        ("250000 100000", "2"),
        ("50000 100000", "1"),
        ("max 100000", "unset"),
        ("800000 100000", "unset"),  # as many as there are: torch's own choice is better
    ],
)
def test_threads_follow_the_quota_of_cgroup_v2(machine: Machine, quota: str, threads: str) -> None:
    machine.file("sys/fs/cgroup/cpu.max", quota + "\n")
    assert machine.start().job["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(("quota", "threads"), [("300000", "3"), ("10000", "1"), ("-1", "unset")])
def test_threads_follow_the_quota_of_cgroup_v1(machine: Machine, quota: str, threads: str) -> None:
    machine.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota + "\n")
    machine.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    started = machine.start()
    assert started.job["OMP_NUM_THREADS"] == threads
    assert ("threads: 3 (CPU quota)" in started.said) == (threads == "3")


def test_the_users_thread_count_stays(machine: Machine) -> None:
    machine.file("sys/fs/cgroup/cpu.max", "200000 100000\n")
    started = machine.start(OMP_NUM_THREADS="5")
    assert started.job["OMP_NUM_THREADS"] == "5"
    assert "threads: 5 (OMP_NUM_THREADS)" in started.said


@pytest.mark.parametrize("value", ["0", "two", "0.5", "-1", ",2"])
def test_a_thread_count_that_is_none_gives_way_to_the_quota(machine: Machine, value: str) -> None:
    """OpenMP would take every core of the host."""
    machine.file("sys/fs/cgroup/cpu.max", "200000 100000\n")
    started = machine.start(OMP_NUM_THREADS=value)
    assert started.said == f"warning: OMP_NUM_THREADS={value} is no whole number from 1 on: left out"
    assert started.job["OMP_NUM_THREADS"] == "2"


MOUNTS = """\
22 1 0:20 / / rw,relatime - overlay overlay rw
25 22 0:23 / {point} rw,relatime shared:1 - ext4 /dev/sda1 rw
"""
MOUNTED = {"OUTPUT": "/outputs", "DATA_DIR": "/data"}


@pytest.mark.parametrize(
    "given", [{}, {"OUTPUT": "", "DATA_DIR": ""}, {"OUTPUT": "./outputs", "DATA_DIR": "./data"}, MOUNTED]
)
@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", ""])
def test_in_a_container_the_defaults_are_the_mounted_folders(
    machine: Machine, given: dict[str, str], mark: str
) -> None:
    """Also as `--print-env=all` and env.example write them: relative, they would vanish with the container."""
    if mark:
        machine.file(mark, "")
    started = machine.start(**given, **({} if mark else {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}))
    assert {name: started.job[name] for name in MOUNTED} == MOUNTED


@pytest.mark.parametrize(("name", "value"), [("OUTPUT", "results"), ("OUTPUT", "~/runs"), ("DATA_DIR", "../data")])
def test_no_place_vanishes_with_the_container(machine: Machine, name: str, value: str) -> None:
    machine.file(".dockerenv", "")
    started = machine.start(**{name: value})
    assert started.code == 78
    assert started.said.startswith(f"error: {name}={value} begins in a folder of the container, ")
    told = json.loads(machine.start(LOG_FORMAT="json", **{name: value}).said)
    assert (told["level"], told["event"]) == ("error", "fault")
    assert f'docker run -v "$PWD{MOUNTED[name]}:{MOUNTED[name]}"' in told["message"]


def test_places_that_last_are_left_alone(machine: Machine) -> None:
    machine.file(".dockerenv", "")
    given = {"OUTPUT": "s3://bucket/runs", "DATA_DIR": "/mnt/photos"}
    started = machine.start(**given)
    assert {name: started.job[name] for name in given} == given
    assert "nothing is mounted" not in started.said


def test_outside_a_container_a_relative_place_is_one(machine: Machine) -> None:
    assert machine.start(OUTPUT="results").job["OUTPUT"] == "results"


@pytest.mark.parametrize(("point", "lost"), [("/outputs", False), ("/outputs/runs", True), ("/data", True)])
def test_results_that_would_be_lost_are_told(machine: Machine, point: str, lost: bool) -> None:
    machine.file(".dockerenv", "")
    machine.file("proc/self/mountinfo", MOUNTS.format(point=point))
    told = machine.start().said
    assert told.startswith("warning: nothing is mounted at /outputs: the results are gone") == lost
    assert "nothing is mounted" not in machine.start(OUTPUT="s3://bucket/runs").said
    assert "nothing is mounted" not in machine.start("--help").said


def other_programs(folder: Path, *names: str) -> None:
    """Modules of such names, that say so when they are taken."""
    for name in names:
        (folder / f"{name}.py").write_text("raise SystemExit('another program')\n")


def python_3_10() -> str:
    """The program, by whatever name; empty where there is none that works."""
    ask = ["-c", "import sys; print(sys.executable if sys.version_info[:2] == (3, 10) else '')"]
    for found in (*Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"), shutil.which("python3.10")):
        said = subprocess.run([found, *ask], capture_output=True, text=True).stdout.strip() if found else ""
        if said:
            return said
    return ""


def test_the_job_is_the_job_on_python_3_10(tmp_path: Path) -> None:
    """Without the packages it comes as far as to say so, and it is this job that does."""
    program = python_3_10()
    if not program:
        pytest.skip("NOT TESTED: there is no Python 3.10 here, which has no PYTHONSAFEPATH")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(program)
    other_programs(tmp_path, "job", "random", "runpy", "tempfile", "json", "logging", "pydantic")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run([ENTRYPOINT], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert "another program" not in said
    assert done.returncode == 78, said
    assert re.search(r"this Python \(\S+\) lacks the package \w+\.", said), said


SPAWN = """
import sys
sys.path[:] = [place for place in sys.path if place]
from job.search.spawned import SPAWN, no_working_folder
with no_working_folder():
    process = SPAWN.Process(target=print, args=("a worker",))
    process.start()
process.join()
"""


def test_the_jobs_workers_are_its_own_on_python_3_10(tmp_path: Path) -> None:
    """What a new process imports first is Python's, and so it is in the process that tracks its resources."""
    program = python_3_10()
    if not program:
        pytest.skip("NOT TESTED: there is no Python 3.10 here, which has no PYTHONSAFEPATH")
    other_programs(tmp_path, "job", "random", "runpy", "tempfile", "signal", "threading", "pickle")
    done = subprocess.run(
        [program, "-c", SPAWN], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("a worker\n", "", 0)


@pytest.mark.slow
def test_the_job_is_the_job(tmp_path: Path) -> None:
    """In a folder that holds modules of the same names, by entrypoint.sh and with workers of its own."""
    other_programs(tmp_path, "job", "random", "runpy", "torch", "tempfile")
    environment = (
        bare_environment()
        | TINY
        | {"WORKERS": "2", "OUTPUT": str(tmp_path / "outputs")}
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    )
    done = subprocess.run([ENTRYPOINT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "another program" not in done.stdout + done.stderr
    assert len(list((tmp_path / "outputs").glob("*/manifest.json"))) == 1, done.stdout


def test_vertex_writes_to_the_mounted_bucket(machine: Machine) -> None:
    started = machine.start(AIP_MODEL_DIR="gs://bucket/some/model/", OUTPUT="/outputs")
    assert started.job["OUTPUT"] == f"{machine.root}/gcs/bucket/some/model"
    assert started.said.startswith("platform: Vertex AI, OUTPUT=")


def test_kaggle_writes_to_its_working_folder(machine: Machine) -> None:
    assert machine.start(KAGGLE_KERNEL_RUN_TYPE="Batch").job["OUTPUT"] == f"{machine.root}/kaggle/working"


def test_the_users_output_stays_on_every_platform(machine: Machine) -> None:
    platforms = {"AIP_MODEL_DIR": "gs://b/m", "KAGGLE_KERNEL_RUN_TYPE": "Batch", "SM_MODEL_DIR": "/opt/ml/model"}
    for name, value in platforms.items():
        assert machine.start(OUTPUT="s3://mine/runs", **{name: value}).job["OUTPUT"] == "s3://mine/runs"


def test_sagemaker_drops_its_argument_and_keeps_the_failure_reason(machine: Machine) -> None:
    started = machine.start("train", TRAINING_JOB_ARN="arn", OUTPUT="/outputs")
    failure = machine.root / "opt/ml/output/failure"
    assert started.job["arguments"] == f"{ENTRYPOINT.parent}/deploy/sagemaker/train.py {failure}"
    assert started.job["OUTPUT"] == f"{machine.root}/opt/ml/output/data"
    assert started.job["SM_MODEL_DIR"] == f"{machine.root}/opt/ml/model"


def test_sagemaker_with_checkpoints_works_in_the_folder_that_is_brought_back(machine: Machine) -> None:
    (machine.root / "opt/ml/checkpoints").mkdir(parents=True)
    assert machine.start(SM_MODEL_DIR="/opt/ml/model").job["OUTPUT"] == f"{machine.root}/opt/ml/checkpoints"


@pytest.mark.parametrize("models", ["mlp,cnn,vit", "mlp cnn vit", "mlp, cnn, vit"])
def test_the_index_picks_the_model(machine: Machine, models: str) -> None:
    started = machine.start(JOB_COMPLETION_INDEX="1", MODELS=models, KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert started.job["MODEL"] == "cnn"
    assert started.said.startswith("platform: Kubernetes indexed job, JOB_COMPLETION_INDEX=1, MODEL=cnn; ")
    batch = machine.start(AWS_BATCH_JOB_ID="x", AWS_BATCH_JOB_ARRAY_INDEX="2", MODELS=models)
    assert batch.job["MODEL"] == "vit"


def test_an_index_past_the_list_cannot_be_mended_by_a_retry(machine: Machine) -> None:
    started = machine.start(JOB_COMPLETION_INDEX="3", MODELS="mlp,cnn,vit")
    assert started.code == 78
    assert started.said.startswith("error: JOB_COMPLETION_INDEX=3, but MODELS names 3 model(s)")
    assert not started.job


def test_an_index_without_a_list_leaves_the_model_alone(machine: Machine) -> None:
    assert machine.start(JOB_COMPLETION_INDEX="3", MODEL="vit").job["MODEL"] == "vit"


def test_json_lines_stay_json(machine: Machine) -> None:
    started = machine.start(LOG_FORMAT="json", KAGGLE_KERNEL_RUN_TYPE="Batch", OUTPUT='a "b" \\ c\td')
    line = json.loads(started.said)
    assert line["event"] == "platform"
    assert line["level"] == "info"
    assert 'OUTPUT=a "b" \\ c d' in line["message"]
    assert json.loads(machine.start(LOG_FORMAT="json", JOB_COMPLETION_INDEX="9", MODELS="cnn").said)["event"] == "fault"


def test_weights_go_to_tmp_where_data_cannot_be_written(machine: Machine) -> None:
    expected = "/data/torch" if os.access("/data", os.W_OK) else "/tmp/torch"
    assert machine.start(TORCH_HOME="/data/torch").job["TORCH_HOME"] == expected
    assert machine.start(TORCH_HOME="/mine").job["TORCH_HOME"] == "/mine"
