"""What the machine is: the card as driver and torch tell it, what it reaches, and the versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from bench.gpu.page import CHOICE
from bench.gpu.work import Wanted
from job import device
from job.device import Compute
from job.device.hardware import proc_cpuinfo
from job.device.precision import DTYPES, native_precisions

OLDEST = {"torch": (2, 11), "torchvision": (0, 26)}
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "triton",
    "hyperopt",
    "pydantic-settings",
    "boto3",
    "matplotlib",
    "lightning",
)
OF_A_CARD = (
    "index,name,driver_version,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw,power.limit,"
    "clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current,mig.mode.current"
)


def collect(wanted: Wanted) -> None:
    notes = wanted.notes
    versions(wanted)
    for name, value in machine().items():
        notes.add("machine", {"what": name, "is": value})
    cards(wanted)
    compute = device.choose(wanted.device, "auto")
    notes.add("machine", {"what": CHOICE, "is": compute.describe()}, True)
    notes.add("machine", {"what": "precision", "is": f"{compute.precision}: {compute.reason}"})
    if compute.on_gpu:
        of = torch.cuda.get_device_properties(compute.device)
        found = f"{of.name}, sm_{of.major}{of.minor}, {of.multi_processor_count} multiprocessors, "
        notes.add("machine", {"what": "torch's card", "is": found + f"{of.total_memory / 2**30:.1f} GiB"})
        notes.add("machine", {"what": "built for", "is": " ".join(torch.cuda.get_arch_list())})
    for name, rate in rates(compute, small=wanted.rehearse).items():
        notes.add("rates", {"what": name, "is": rate})


def versions(wanted: Wanted) -> None:
    """torch and torchvision are checked; of the rest it is told what is there."""
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            wanted.notes.add("versions", {"package": name, "version": "not installed"})
            continue
        oldest = OLDEST.get(name)
        numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
        wanted.notes.add("versions", {"package": name, "version": found}, None if oldest is None else numbers >= oldest)
    wanted.notes.add(
        "versions",
        {"package": "Python, CUDA, cuDNN", "version": f"{platform.python_version()}, {torch.version.cuda}, {cudnn()}"},
    )


def cudnn() -> Any:
    return torch.backends.cudnn.version()  # type: ignore[no-untyped-call]


def machine() -> dict[str, str]:
    return {
        "platform": platform.platform(),
        "processor": f"{proc_cpuinfo('model name')}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads of torch",
        "load": f"{os.getloadavg()[0]:.1f}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
    }


def cards(wanted: Wanted) -> None:
    """What nvidia-smi tells of every card."""
    program = shutil.which("nvidia-smi")
    if program is None:
        wanted.notes.skip("nvidia-smi", "the program is not there")
        return
    asked = [program, f"--query-gpu={OF_A_CARD}", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        wanted.notes.skip("nvidia-smi", type(error).__name__)
        return
    if done.returncode:
        wanted.notes.skip("nvidia-smi", f"exit code {done.returncode}: {done.stderr.strip()[:200]}")
    for line in done.stdout.strip().splitlines():
        values = (value.strip() for value in line.split(","))
        wanted.notes.add("cards", dict(zip(OF_A_CARD.split(","), values, strict=False)))


def rates(compute: Compute, *, small: bool) -> dict[str, str]:
    """What the card reaches: copies, products, launches. Random values: zeros would run faster."""
    side, cells = (256, 2**20) if small else (8192, 2**30)
    found = {}
    source = torch.randint(0, 255, (cells,), dtype=torch.uint8, device=compute.device)
    goal = torch.empty_like(source)
    taken = seconds_of(lambda: goal.copy_(source), compute, 5)
    found["copy within its memory"] = f"{2 * cells / taken / 1e9:,.0f} GB/s, read and written"
    for precision in native_precisions(compute.device):
        a = torch.randn(side, side, device=compute.device).to(DTYPES[precision])
        rate = 2 * side**3 / seconds_of(lambda a=a: a @ a, compute, 5)  # type: ignore[misc]
        found[f"product {side} x {side}, {precision}"] = f"{rate / 1e12:,.1f} TFLOP/s"
    one = torch.ones(1, device=compute.device)

    def thousand() -> None:
        for _ in range(1000):
            one.add_(1)

    found["one small kernel, eager"] = f"{seconds_of(thousand, compute, 3) * 1e3:.2f} µs"
    return found


def seconds_of(work: Callable[[], object], compute: Compute, rounds: int) -> float:
    """Median over `rounds`, each until the device is done; the first is a rehearsal."""
    taken = []
    for _ in range(rounds + 1):
        wait(compute)
        started = time.perf_counter()
        work()
        wait(compute)
        taken.append(time.perf_counter() - started)
    return median(taken[1:])


def wait(compute: Compute) -> None:
    if compute.on_gpu:
        torch.cuda.synchronize(compute.device)
