"""Tries every call with every errno, in a process into which `errno_shim.c` is preloaded, and prints what came of it.

LD_PRELOAD=shim.so python -m tests.helpers.errno_table FOLDER
"""

from __future__ import annotations

import ctypes
import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path

from job.errors import Fault
from job.storage.local import LocalStore

CALLS = (
    "create",
    "write",
    "fsync",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "open",
    "read",
    "fchmod",
    "fsync of a directory",
)
NAMES = sorted(
    [
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOTDIR",
        "EISDIR",
        "ENAMETOOLONG",
        "ELOOP",
        "EINVAL",
        "ENODEV",
        "EFBIG",
        "ENOSYS",
        "EOPNOTSUPP",
        "ENOSPC",
        "EDQUOT",
        "EIO",
        "ENOMEM",
        "EMFILE",
        "ENOTCONN",
        "ETIMEDOUT",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EREMOTEIO",
        "EBUSY",
        "ECONNRESET",
        "ESTALE",
        "ETXTBSY",
        "EAGAIN",
        "ENXIO",
    ]
)


def used_by(call: str, store: LocalStore) -> Callable[[], object]:
    """Something a store does that needs this call."""
    if call == "link":
        return lambda: store.put_if("lock", b"1", None)
    if call == "unlink":
        return lambda: store.delete("there")
    if call == "mkdir":
        return lambda: store.put("folder/new", b"1")
    if call in ("open", "read"):
        return lambda: store.get("there")
    return lambda: store.put("there", b"2")


def main(folder: Path) -> None:
    shim = ctypes.CDLL(None)
    for call in CALLS:
        for name in NAMES:
            place = folder / f"{call.replace(' ', '-')}-{name}"
            store = LocalStore(place)
            store.put("there", b"1")
            shim.shim_set(call.encode(), getattr(errno, name), str(place).encode(), -1)
            try:
                used_by(call, store)()
                outcome = {"exit_code": 0, "remedy": "", "what": ""}
            except Fault as fault:
                outcome = {"exit_code": fault.exit_code, "remedy": fault.remedy, "what": fault.what}
            except BaseException as error:
                outcome = {"exit_code": 1, "remedy": repr(error), "what": ""}
            shim.shim_set(b"", 0, b"", 0)
            kept = store.get("there")
            print(json.dumps({"call": call, "errno": name, "kept": (kept or b"").decode(), **outcome}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
