"""Everything about speed: which device, which precision, how tensors lie in memory, how Adam runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from job.errors import Fault, TemporaryFault

OUT_OF_MEMORY = "the device's memory was not enough"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Where and how the arithmetic is done; `reason` says why this precision."""

    device: torch.device
    precision: str
    reason: str
    hardware: str

    def autocast(self) -> AbstractContextManager[None]:
        """Matrix products and convolutions in the chosen precision; weights, losses and Adam stay in fp32."""
        return torch.autocast(
            self.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32", cache_enabled=True
        )

    def place(self, model: nn.Module) -> nn.Module:
        """The model on the device; convolution weights channels-last, which is how the images lie."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def adam(self, model: nn.Module, learning_rate: float) -> torch.optim.Adam:
        """Adam (Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980), one fused kernel for all weights."""
        return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which fp16's narrow range needs; it does nothing in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def fetch(self, *values: Tensor) -> list[float]:
        """Numbers from the device: the one synchronisation of an epoch."""
        return torch.stack([value.double() for value in values]).tolist()

    def arithmetic(self) -> dict[str, Any]:
        """What the bits of a result depend on beside settings and data."""
        return {"device": self.device.type, "precision": self.precision, "threads": self.threads}

    @property
    def threads(self) -> int:
        """The CPU threads of this process's arithmetic."""
        return torch.get_num_threads()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def describe(self) -> str:
        return f"{self.device} ({self.hardware}, {self.precision})"


def choose(device: str, precision: str, kept: Mapping[str, Any] | None = None) -> Compute:
    """The device and precision for `DEVICE` and `PRECISION`.

    `kept` is the arithmetic that an earlier attempt of the run chose (see `Compute.arithmetic`): it is chosen again as
    far as this machine has it. Raises Fault where the device is not there, cannot run the installed torch, or does not
    do the precision.
    """
    where = choose_device(device)
    if where.type == "cuda":
        run_one_kernel(where)
        torch.backends.cudnn.benchmark = False  # the same algorithm every time: the same bytes every time
        torch.backends.cudnn.deterministic = True
    else:
        torch.set_flush_denormal(True)  # weights that fade out would otherwise slow every product down
    if kept is not None and kept["device"] == where.type:
        torch.set_num_threads(kept["threads"])  # sums are split by thread: another number would change the last bits
    what, reason = choose_precision(where, precision)
    if kept is not None and kept["precision"] != what and kept["precision"] in native_precisions(where):
        what, reason = kept["precision"], "as this run began"
    return Compute(where, what, reason, hardware(where))


def for_trials(name: str, compute: Compute) -> tuple[str, ...]:
    """The devices that trials may use side by side, as DEVICE would name them: every GPU unless one was named."""
    if compute.device.type == "cuda" and name in ("auto", "cuda"):
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return (str(compute.device),)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was not enough, on a GPU or on a CPU (where torch has no exception of its own for it)."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def free_memory(device: torch.device) -> int:
    """Bytes that the device, or this machine for a CPU, has free at this moment."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def release_memory() -> None:
    """Gives what torch keeps for reuse back to the GPU; nothing happens without one."""
    torch.cuda.empty_cache()


@contextmanager
def memory_faults() -> Iterator[None]:
    """Tells a GPU that is too small as a fault of the settings."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Fault("the GPU's memory is not enough.", "Lower BATCH_SIZE, or choose a larger GPU.") from error


def choose_device(name: str) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Fault(
            f"DEVICE={name}, but torch {torch.__version__} finds no usable NVIDIA GPU.",
            "Start the container with --gpus all, check nvidia-smi, or set DEVICE=cpu.",
        )
    index = 0 if name in ("auto", "cuda") else int(name.removeprefix("cuda:"))
    if index >= torch.cuda.device_count():
        raise Fault(
            f"DEVICE={name}, but there are {torch.cuda.device_count()} GPU(s), numbered from 0.",
            "Name one that is there, or set DEVICE=auto.",
        )
    return torch.device("cuda", index)


def run_one_kernel(device: torch.device) -> None:
    """Multiplies two small matrices: the only proof that the installed build has kernels for this GPU."""
    try:
        torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()
    except torch.OutOfMemoryError as error:
        raise TemporaryFault(
            f"{device} has no free memory.", "Wait for the other program, or choose another DEVICE."
        ) from error
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(device)
        raise Fault(
            f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor}) cannot run this build of torch "
            f"{torch.__version__}, made for {' '.join(torch.cuda.get_arch_list()) or 'other GPUs'}.",
            "Install the CUDA 12.6 build (TORCH=cu126), which has kernels from Maxwell on, or set DEVICE=cpu. "
            "On Kaggle choose the accelerator T4 x2 (MACHINE_SHAPE=NvidiaTeslaT4) in the place of the P100.",
        ) from error


def choose_precision(device: torch.device, wanted: str) -> tuple[str, str]:
    """The precision and the reason for it, by what the chip does rather than by what it can emulate.

    Raises Fault for a precision that this device does not have or only imitates.
    """
    native = native_precisions(device)
    if wanted == "auto":
        fast = [name for name in ("bf16", "fp16") if name in native]
        return (fast[0], f"{hardware(device)} computes it natively") if fast else ("fp32", "no faster precision here")
    if wanted not in native:
        raise Fault(
            f"PRECISION={wanted} is not native on {hardware(device)}: it would be emulated, slower than fp32.",
            f"Choose from: auto, {', '.join(native)}.",
        )
    return wanted, "set by PRECISION"


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """bf16 from compute capability 8.0 (Ampere), fp16 from 5.3 with tensor cores from 7.0
    (CUDA C++ Programming Guide, arithmetic instructions); on a CPU bf16 with AVX-512 BF16 or AMX.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return ("fp32", *(("bf16",) if capability >= (8, 0) else ()), *(("fp16",) if capability >= (7, 0) else ()))
    return ("fp32", "bf16") if cpu_flags() & {"avx512_bf16", "amx_bf16"} else ("fp32",)


def cpu_flags() -> set[str]:
    """The instruction sets that the kernel reports; empty where /proc is not there."""
    return set(proc_cpuinfo("flags").split())


def hardware(device: torch.device) -> str:
    """What the device is, for people: the GPU's name, or the processor's and the threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = proc_cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def proc_cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, or an empty text."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
