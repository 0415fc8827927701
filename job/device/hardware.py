"""What the machine is: the GPU's or the processor's name, and what its instruction sets say that it computes."""

from __future__ import annotations

import math
import platform
from pathlib import Path

import torch

UNLIMITED = 1 << 20


def hardware(device: torch.device) -> str:
    """What the device is, for people: the GPU's name, or the processor's and the threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = proc_cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def cpus_granted(root: Path = Path("/sys/fs/cgroup")) -> int:
    """How many CPUs' time the container may use, rounded up; a large number where nothing limits it.

    More threads than that would wait for each other. Reads `cpu.max` (cgroup v2) or `cpu.cfs_quota_us` (v1); see
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files.
    """
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        granted = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup here, or "max"
        return UNLIMITED
    return granted if granted > 0 else UNLIMITED


def cpu_flags() -> set[str]:
    """The instruction sets that the kernel reports; empty where /proc is not there."""
    return set(proc_cpuinfo("flags").split())


def proc_cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, or an empty text."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
