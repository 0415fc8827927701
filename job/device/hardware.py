"""What the machine is: the GPU's or the processor's name, and what its instruction sets say that it computes."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """What the device is, for people: the GPU's name, or the processor's and the threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = proc_cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


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
