"""Memory: keeping what was freed for the next step, and telling where there is not enough."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from job.device import cgroup
from job.errors import Fault

# Of errors that are RuntimeErrors like any other: torch's on a CPU, and CUDA's libraries' beside torch's allocator.
# A library that finds no room for its own workspace says that it could not be initialised.
ON_CPU = "DefaultCPUAllocator"
SIGNS = (
    ON_CPU,
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
OUT_OF_MEMORY = "the device's memory was not enough"

# mallopt(3): names of the parameters in malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for the next allocation; true where that could be set (glibc).

    By default glibc gives large blocks back to the kernel when they are freed. Every step allocates the same ones
    again, and the kernel then clears each of their pages anew, which costs more than many an operation on them.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, e.g. musl
        return False
    # Older ones refuse thresholds above 32 MiB, less than many an activation: there no block is mapped by itself.
    held = mallopt(M_MMAP_THRESHOLD, 1 << 30) == 1 or mallopt(M_MMAP_MAX, 0) == 1
    wanted = {M_TRIM_THRESHOLD: (1 << 31) - 1, M_TOP_PAD: 64 << 20}
    return all([held, *(mallopt(name, value) == 1 for name, value in wanted.items())])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was not enough, on a GPU or on a CPU (where torch has no exception of its own for it), also where
    another error was raised over that: the end of a capture that memory made invalid says nothing of it.
    """
    return any(
        isinstance(one, (torch.OutOfMemoryError, MemoryError)) or any(sign in str(one) for sign in SIGNS)
        for one in chain(error)
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those over which it was raised."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__ or found.__context__


def has_own(device: torch.device) -> bool:
    """Whether the device has a memory of its own, beside the host's."""
    return device.type == "cuda"


def free_memory(device: torch.device) -> int:
    """Bytes that the device, or this machine for a CPU, has free at this moment."""
    if has_own(device):
        torch.cuda.empty_cache()  # what torch keeps for reuse is free to it
        return int(torch.cuda.mem_get_info(device)[0])
    return free_on_host()


def free_on_host(root: Path = Path("/")) -> int:
    """Bytes that new work can take on this machine without swapping (proc(5), MemAvailable) and, in a container, within
    its limit.
    """
    return min(number for number in (available(root), cgroup.free_memory(root)) if number is not None)


def available(root: Path = Path("/")) -> int:
    """Without a look at limits; the free pages alone where the kernel does not say what it would give up for more."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    told = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return next(told, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def release_memory() -> None:
    """Gives what torch keeps for reuse back to the GPU; nothing happens without one."""
    torch.cuda.empty_cache()


@contextmanager
def memory_faults() -> Iterator[None]:
    """Tells a GPU that is too small as a fault of the settings."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error) or any(ON_CPU in str(one) for one in chain(error)):
            raise
        raise Fault("the GPU's memory is not enough.", "Lower BATCH_SIZE, or choose a larger GPU.") from error
