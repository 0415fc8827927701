"""The machine: its device, processors and memory."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import threading
from pathlib import Path

import torch

from job import data, device
from job.data import places
from job.device import Compute, cgroup
from job.device.memory import available
from job.errors import as_fault, not_installed
from job.preflight.data import Counts
from job.preflight.findings import Finding, failed, ok, warn
from job.settings import Settings, temporary
from job.storage.room import size

OWN_THREADS = 16  # for signals, heartbeat, states, status, calls of a store, and reading images
BASE_MEMORY = 1 << 30  # Python, torch and its libraries: about 640 MiB on a CPU, more with CUDA (docs/scale-out.md)
COPIES = 3  # of the images: as loaded, as tensors, and the tuning subset with room to spare


def compute(settings: Settings) -> tuple[Compute, list[Finding]]:
    """The device and precision that a run would use, after one real kernel on every GPU that trials would use.

    Raises Fault and TemporaryFault as `device.choose` does.
    """
    chosen = device.choose(settings.device, settings.precision)
    if not chosen.on_gpu:
        detail = f"{chosen.device}: {chosen.hardware}"
        if settings.device == "auto":
            return chosen, [
                warn(
                    "device",
                    f"no NVIDIA GPU: {detail}",
                    "Where a GPU was meant: docker run --gpus all, nvidia-smi; DEVICE=cpu says that none was.",
                )
            ]
        return chosen, [ok("device", detail)]
    findings = []
    for name in device.for_trials(settings.device, chosen):
        one = device.choose(name, settings.precision)
        major, minor = torch.cuda.get_device_capability(one.device)
        findings.append(
            ok(
                "device",
                f"{name}: {one.hardware}, compute capability {major}.{minor}; torch {torch.__version__} ran a kernel "
                f"there (made for {' '.join(torch.cuda.get_arch_list())})",
            )
        )
    others = device.left_out(settings.device, chosen)
    if others:
        findings.append(warn("device", f"no trials on {others}: only on a GPU of the same kind are they the same"))
    device.choose(settings.device, settings.precision)  # the current device is the run's own again
    return chosen, findings


def temporary_folder() -> list[Finding]:
    """Where libraries put what they need for a while; the system's own folder, or one that had to be made instead."""
    folder = Path(tempfile.gettempdir())
    if folder.name.startswith(temporary.NAME):
        remedy = "Set TMPDIR, or docker run --tmpfs /tmp."
        return [warn("temporary", f"the system has no folder for it: {folder}", remedy)]
    return [ok("temporary", f"{folder}, {size(shutil.disk_usage(folder).free)} free")]


def precision(chosen: Compute) -> list[Finding]:
    return [ok("precision", f"{chosen.precision}: {chosen.reason}")]


def processors(threads: int, root: Path = Path("/")) -> list[Finding]:
    """The CPU quota against the threads that torch starts."""
    quota = cgroup.cpus(root)
    cores = cgroup.cores()
    if quota is None:
        return [ok("cpu", f"{cores} cores, no quota; torch uses {threads} threads")]
    detail = f"a quota of {quota:g} CPUs on {cores} cores; torch uses {threads} threads"
    if threads > max(1, quota):
        whole = max(1, int(quota))
        return [
            warn("cpu", f"{detail}, which wait for each other", f"Set OMP_NUM_THREADS={whole}, or raise the quota.")
        ]
    return [ok("cpu", detail)]


def threads(count: int) -> list[Finding]:
    """Whether as many threads may be started as a run has: torch's, and the job's own beside them."""
    wanted, over = count + OWN_THREADS, threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        fault = as_fault(error)
        if fault is None:
            raise
        raise type(fault)(f"{len(started)} of {wanted} threads could be started: {fault.what}", fault.remedy) from None
    finally:
        over.set()
        for thread in started:
            thread.join()
    return [ok("threads", f"{wanted} may be started")]


def place(settings: Settings, chosen: Compute | None, counts: Counts | None) -> tuple[int, list[Finding]]:
    """Where a run's images would lie, and how many bytes of them must be in memory: those of a folder are mapped, and
    but for the search's part of them the system can give them up; what is fed takes no more than a few batches.
    """
    if chosen is None or counts is None:
        return 0, []
    images = 3 * settings.image_size**2 * counts.images
    kept = data.is_kept(settings.dataset, settings.image_size, settings.data_limit)
    found = places.choose(images, chosen.device, kept=kept)
    copied = 0 if settings.learning_rate is not None else int(images * settings.tune_percent / 100)
    if settings.dataset != "folder":
        needed = 0 if found.name == places.DISK else COPIES * images
    else:
        needed = copied if found.name == places.DEVICE and not chosen.on_gpu else 0
    return needed, [ok("place", found.words())]


def memory(bytes_of_images: int, parameters: int, workers: int, root: Path = Path("/")) -> list[Finding]:
    """The memory limit, or what is free, against an estimate of what a run takes; `bytes_of_images` of it are those."""
    needed = BASE_MEMORY * max(1, workers) + bytes_of_images + 16 * parameters * max(1, workers)
    limit = cgroup.memory(root)
    room = min(value for value in (limit, available(root)) if value is not None)
    what = f"a limit of {size(limit)}" if limit is not None and limit == room else f"{size(room)} available"
    detail = f"{what}; a run takes about {size(needed)}"
    if room < needed:
        return [warn("memory", detail, "Raise the memory limit, lower WORKERS, or take less data with DATA_LIMIT.")]
    return [ok("memory", detail)]


def shared_memory(settings: Settings, place: Path = Path("/dev/shm")) -> list[Finding]:
    """Only Ray puts anything there (its object store); the job's own workers share images without it."""
    if not place.is_dir():
        return [ok("shared memory", f"no {place}; the job itself does not use it")]
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if settings.ray_address is not None and free < 1 << 30:
        return [
            warn(
                "shared memory",
                f"{size(free)} free in {place}; Ray's object store falls back to the disk",
                "Start the container with a larger --shm-size.",
            )
        ]
    return [ok("shared memory", f"{size(free)} free in {place}; the job itself needs none")]


def extras(settings: Settings) -> list[Finding]:
    """Whether the optional packages that the settings ask for are installed."""
    wanted = {
        "ray": ("RAY_ADDRESS", settings.ray_address, "make install-ray"),
        "tensorboard": ("TENSORBOARD_DIR", settings.tensorboard_dir, "make install"),
        "mlflow": ("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri, "make install"),
    }
    findings = []
    for package, (variable, value, command) in wanted.items():
        if value is None:
            continue
        if importlib.util.find_spec(package) is None:
            findings.append(failed("extras", not_installed(variable, package, command)))
        else:
            findings.append(ok("extras", f"{package} is installed, for {variable}"))
    return findings or [ok("extras", "none asked for")]
