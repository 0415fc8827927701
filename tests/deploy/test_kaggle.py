"""The Kaggle folder: what `kaggle kernels push` reads, and the script, run in a tree laid out like Kaggle's."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deploy.kaggle import render, script
from deploy.variables import WrongSetting
from job import device
from job.errors import Fault
from tests.conftest import ROOT, TINY, bare_environment

ME = {"KAGGLE_USERNAME": "someone"}


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """A stand-in for /: data sets are read-only, results are wanted in /kaggle/working, where scripts start."""
    for folder in ("kaggle/input/cifar10-python", "kaggle/working", "kaggle/src"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_the_metadata_is_explicit(tmp_path: Path) -> None:
    assert render.write(tmp_path, {"MODEL": "resnet18_pretrained"}, ME) == (
        "someone/image-classification-resnet18-pretrained"
    )
    about = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert about["title"].lower().replace(" ", "-") == about["id"].split("/")[1]
    assert (tmp_path / about["code_file"]).is_file()
    assert about["kernel_type"] == "script"
    assert about["enable_gpu"] is True
    assert about["enable_internet"] is True
    assert about["machine_shape"] == "NvidiaTeslaT4"
    assert about["dataset_sources"] == ["pankrzysiu/cifar10-python"]


def test_a_run_is_finished_before_the_session_ends(tmp_path: Path) -> None:
    render.write(tmp_path, {}, ME)
    assert '"MAX_HOURS": "11.5"' in (tmp_path / "train.py").read_text()
    render.write(tmp_path, {"MAX_HOURS": "8.5"}, ME)
    assert '"MAX_HOURS": "8.5"' in (tmp_path / "train.py").read_text()


def test_what_is_explicit_can_be_changed(tmp_path: Path) -> None:
    wanted = {"KAGGLE_INTERNET": "0", "MACHINE_SHAPE": "NvidiaTeslaP100", "KAGGLE_DATASETS": "me/images, me/weights"}
    render.write(tmp_path, {"DATASET": "folder", "DATA_DIR": "/kaggle/input/images"}, ME | wanted)
    assert '"DATA_DIR": "/kaggle/input/images"' in (tmp_path / "train.py").read_text()
    about = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert about["enable_internet"] is False
    assert about["machine_shape"] == "NvidiaTeslaP100"
    assert about["dataset_sources"] == ["me/images", "me/weights"]


def test_the_same_code_makes_the_same_script(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        render.write(tmp_path / folder, {}, ME)
    assert (tmp_path / "one" / "train.py").read_bytes() == (tmp_path / "two" / "train.py").read_bytes()


def test_a_kernel_needs_an_owner_and_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WrongSetting):
        render.write(tmp_path, {}, {})
    assert "KAGGLE_USERNAME" in capsys.readouterr().err
    with pytest.raises(WrongSetting):
        render.write(tmp_path, {"MODEL": "resnet"}, ME)
    assert "did you mean resnet18?" in capsys.readouterr().err


def test_the_script_runs_the_job_and_leaves_nothing_but_results(kaggle: Path) -> None:
    settings = {**TINY, "LEARNING_RATE": "0.001", "EPOCHS": "1", "OUTPUT": "outputs"}  # a folder of this machine
    render.write(kaggle / "kaggle/src", settings, ME)
    done = subprocess.run(
        [sys.executable, kaggle / "kaggle/src/train.py"],
        cwd=kaggle / "kaggle/working",
        env={**bare_environment(), "PYTHONPATH": "", "ENTRYPOINT_ROOT": str(kaggle), "TMPDIR": str(kaggle)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"platform: Kaggle, OUTPUT={kaggle}/kaggle/working; ")
    (run,) = (kaggle / "kaggle/working").iterdir()
    assert (run / "manifest.json").is_file()
    provenance = json.loads((run / "results.json").read_text())["provenance"]
    assert provenance["git_commit"] == (render.commit().strip() or None)


def test_the_script_says_what_to_do_where_it_cannot_install(kaggle: Path) -> None:
    render.write(kaggle / "kaggle/src", {}, ME)
    written = kaggle / "kaggle/src/train.py"
    text = written.read_text().replace('"hyperopt": "hyperopt==', '"no_such_module": "no-such-package-anywhere==')
    written.write_text(text)
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(kaggle)}
    done = subprocess.run([sys.executable, written], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "Switch the kernel's internet on" in done.stderr


CLIENT = """
class UserSecretsClient:
    def get_secret(self, label):
        secrets = {"MLFLOW_TRACKING_TOKEN": "canary", "DATA_URL": "from the secrets", "MODEL": "asked by nobody"}
        if label not in secrets:
            raise RuntimeError(f"No user secrets exist for kernel id 1 and label {label}")
        return secrets[label]
"""


def test_secrets_reach_the_job_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.secrets() == {}, "elsewhere there is no such client"
    (tmp_path / "kaggle_secrets.py").write_text(CLIENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert script.secrets() == {"MLFLOW_TRACKING_TOKEN": "canary", "DATA_URL": "from the secrets"}
    assert capsys.readouterr().out == "from Kaggle's secrets: MLFLOW_TRACKING_TOKEN DATA_URL\n"
    given: dict[str, str] = {}
    monkeypatch.setattr(script, "SETTINGS", {"DATA_URL": "set in the script"})
    monkeypatch.setattr(script, "CODE", base64.encodebytes(render.packed()).decode())
    monkeypatch.setattr(script, "install_missing", lambda folder: None)
    monkeypatch.setattr(script, "run", lambda command, cwd, env: given.update(env) or 0)
    assert script.main() == 0
    assert (given["MLFLOW_TRACKING_TOKEN"], given["DATA_URL"]) == ("canary", "set in the script")


def test_a_data_set_is_found_where_kaggle_mounts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "INPUT", tmp_path)
    (tmp_path / "old").mkdir()
    new = tmp_path / "datasets/someone/new/images"
    new.mkdir(parents=True)
    assert script.mounted(f"{tmp_path}/old") == f"{tmp_path}/old"
    assert script.mounted(f"{tmp_path}/new/images") == str(new)
    for elsewhere in (f"{tmp_path}/nowhere", "/kaggle/working/x", "https://example.com/weights.pth", ""):
        assert script.mounted(elsewhere) == elsewhere


P100 = """
import torch

def no_kernel(*size, **options):
    raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")

torch.ones = no_kernel
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.get_device_capability = lambda device=None: (6, 0)
torch.cuda.get_device_name = lambda device=None: "Tesla P100-PCIE-16GB"
torch.cuda.get_arch_list = lambda: ["sm_75", "sm_80"]
"""


@pytest.mark.slow
def test_the_script_on_a_p100_says_which_accelerator_to_choose(kaggle: Path) -> None:
    """The whole way: script, entrypoint and job, with a torch that finds a P100 and has nothing that runs on it."""
    render.write(kaggle / "kaggle/src", {**TINY, "DEVICE": "auto"}, ME)
    (kaggle / "sitecustomize.py").write_text(P100)
    places = {"PYTHONPATH": str(kaggle), "ENTRYPOINT_ROOT": str(kaggle), "TMPDIR": str(kaggle)}
    done = subprocess.run(
        [sys.executable, kaggle / "kaggle/src/train.py"],
        cwd=kaggle / "kaggle/working",
        env={**bare_environment(), **places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 78, done.stdout + done.stderr
    assert "error: Tesla P100-PCIE-16GB (compute capability 6.0) cannot run this build of torch" in done.stdout
    assert "MACHINE_SHAPE=NvidiaTeslaT4" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_gpu_without_kernels_is_told_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Kaggle's P100: torch finds the GPU, and has nothing that runs on it."""

    def no_kernel(*size: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch, "ones", no_kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    with pytest.raises(Fault) as raised:
        device.run_one_kernel(torch.device("cuda", 0))
    assert raised.value.exit_code == 78
    assert "Tesla P100-PCIE-16GB (compute capability 6.0) cannot run this build" in raised.value.what
    assert "MACHINE_SHAPE=NvidiaTeslaT4" in raised.value.remedy
