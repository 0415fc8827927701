"""What a container may use: the limits of its control group (cgroups(7)), version 2 or 1.

A process may stand some groups below the one with the limit, so that all groups above it are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NO_LIMIT = 1 << 60  # version 1 says "none" with a number near 2**63


def cores() -> int:
    """How many this process may use (sched_getaffinity(2)), whatever its quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpus(root: Path = Path("/")) -> float | None:
    """The CPUs that the quota allows; None where there is no quota."""
    quotas = []
    for text in contents(root, "", "cpu.max"):
        allowed, _, period = text.partition(" ")
        if allowed != "max":
            quotas.append(int(allowed) / int(period or 100_000))
    for allowed, period in zip(
        contents(root, "cpu", "cpu.cfs_quota_us"), contents(root, "cpu", "cpu.cfs_period_us"), strict=False
    ):
        if int(allowed) > 0:
            quotas.append(int(allowed) / int(period))
    return min(quotas, default=None)


def memory(root: Path = Path("/")) -> int | None:
    """The bytes of memory that the group may use; None where there is no limit."""
    limits = [*contents(root, "", "memory.max"), *contents(root, "memory", "memory.limit_in_bytes")]
    numbers = [int(text) for text in limits if text != "max"]
    return min((number for number in numbers if number < NO_LIMIT), default=None)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that the group may still take: its limit less what it has, where files kept in memory count as free, since
    the kernel gives them up first (cgroup-v2, memory.stat). None where there is no limit.
    """
    free = []
    for controller, limit, usage, prefix in (
        ("", "memory.max", "memory.current", ""),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        files = zip(*(contents(root, controller, name) for name in (limit, usage, "memory.stat")), strict=False)
        for most, used, said in files:
            told = dict(line.split()[:2] for line in said.splitlines() if " " in line)
            kept = sum(int(told.get(f"{prefix}{name}_file", 0)) for name in ("active", "inactive"))
            if most != "max" and int(most) < NO_LIMIT:
                free.append(max(0, int(most) - int(used) + kept))
    return min(free, default=None)


def contents(root: Path, controller: str, file: str) -> Iterator[str]:
    """What `file` holds in the process's own group and all above it, up to what is mounted here.

    `controller` is empty for version 2, else version 1's.
    """
    base = root / "sys/fs/cgroup" / controller
    group = base / own_group(root, controller).strip("/")
    for place in dict.fromkeys((group, *group.parents, base)):
        if place.is_relative_to(base):
            try:
                yield (place / file).read_text().strip()
            except OSError:
                continue  # no such group in this mount, or no such limit in it


def own_group(root: Path, controller: str) -> str:
    """The group's path as /proc/self/cgroup has it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return ""
