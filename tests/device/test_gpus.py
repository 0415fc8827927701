"""What the job decides by the GPUs that it finds, asked with GPUs that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from job import device
from job.device import Compute
from job.device.memory import is_out_of_memory, memory_faults
from job.errors import Fault

T4S_AND_A_V100 = ("Tesla T4", "Tesla V100", "Tesla T4")


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> Compute:
    """A run on the first of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(T4S_AND_A_V100))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: T4S_AND_A_V100[torch.device(which).index])
    return Compute(torch.device("cuda", 0), "fp16", "", "Tesla T4", step="graph")


def test_trials_use_gpus_of_one_kind(three_gpus: Compute) -> None:
    """Which worker runs which trial is a matter of chance: on another kind of GPU its bits would be, too."""
    for name in ("auto", "cuda"):
        assert device.for_trials(name, three_gpus) == ("cuda:0", "cuda:2")
        assert device.left_out(name, three_gpus) == "cuda:1 (Tesla V100)"
    assert device.for_trials("cuda:0", three_gpus) == ("cuda:0",), "one was named"
    assert device.left_out("cuda:0", three_gpus) == ""
    other = replace(three_gpus, device=torch.device("cuda", 1), hardware="Tesla V100")
    assert device.for_trials("auto", other) == ("cuda:1",)
    assert device.left_out("auto", device.choose("cpu", "fp32")) == ""


def test_a_worker_without_the_precision_is_told_of_both_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's GPU chose bf16 by itself: nobody set a PRECISION that could be called wrong."""
    run = Compute(torch.device("cpu"), "bf16", "", "NVIDIA A100")
    monkeypatch.setattr(device, "native_precisions", lambda where: ("fp32", "fp16"))
    monkeypatch.setattr(device, "hardware", lambda where: "Tesla T4")
    with pytest.raises(Fault, match=r"Tesla T4, does not compute bf16, which this run does on NVIDIA A100") as caught:
        device.choose_as(run, "cpu", run.arithmetic())
    assert "PRECISION=bf16" not in str(caught.value)
    assert "fp32, fp16" in caught.value.remedy


def test_a_worker_computes_as_the_run_does() -> None:
    run = device.choose("cpu", "fp32")
    assert device.choose_as(run, "cpu", run.arithmetic()).arithmetic() == run.arithmetic()


@pytest.mark.parametrize(
    ("capability", "precision", "layout"),
    [((6, 0), "fp32", "contiguous"), ((7, 0), "fp32", "channels-last"), ((6, 0), "fp16", "channels-last")],
)
def test_the_layout_is_the_one_that_pays(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str, layout: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    assert device.choose_layout(torch.device("cuda"), precision) == layout
    assert device.choose_layout(torch.device("cpu"), precision) == "channels-last"


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_images_and_weights_lie_in_the_layout(layout: str) -> None:
    compute = replace(device.choose("cpu", "fp32"), layout=layout)
    wanted = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    images = torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2)  # as `normalise` makes them
    conv = nn.Conv2d(3, 4, 3)
    weight, laid = compute.place(nn.Sequential(conv))[0].weight, compute.lay_out(images)
    assert laid.is_contiguous(memory_format=wanted)
    assert weight.is_contiguous(memory_format=wanted)
    assert torch.equal(laid, images)
    assert compute.arithmetic()["layout"] == layout


def test_a_run_keeps_the_layout_that_it_began_with() -> None:
    kept = {**device.choose("cpu", "fp32").arithmetic(), "layout": "contiguous"}
    assert device.choose("cpu", "fp32", kept).layout == "contiguous"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUBLAS_STATUS_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
        "[enforce fail at alloc_cpu.cpp:66] . DefaultCPUAllocator: can't allocate memory: 8 bytes",
    ],
)
def test_memory_that_is_not_enough_is_known_by_its_words(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_memory_that_is_not_enough_is_known_below_another_error() -> None:
    """As the end of an invalid capture is raised; by hand as well, with and without a cause."""

    def over(cause: Exception, *, explicit: bool) -> RuntimeError:
        try:
            try:
                raise cause
            except Exception as error:
                raise RuntimeError("operation failed due to a previous error during capture") from (
                    error if explicit else None
                )
        except RuntimeError as error:
            return error

    for explicit in (True, False):
        assert is_out_of_memory(over(torch.OutOfMemoryError("CUDA out of memory"), explicit=explicit))
        assert not is_out_of_memory(over(ValueError("x"), explicit=explicit))
    with pytest.raises(Fault, match="GPU's memory"), memory_faults():
        raise over(torch.OutOfMemoryError("CUDA out of memory"), explicit=False)
    with pytest.raises(RuntimeError, match="during capture"), memory_faults():
        raise over(RuntimeError("DefaultCPUAllocator: can't allocate memory"), explicit=False)
