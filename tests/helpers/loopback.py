"""Runs a command where nothing but the loopback interface exists: Ray's servers listen on every interface there is.

python -m tests.helpers.loopback COMMAND...   (Linux with user namespaces)
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40  # linux/sockios.h, linux/if.h
INSIDE = "--inside"


def isolated() -> bool:
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def main() -> None:
    if sys.argv[1] != INSIDE:
        unshare = ["unshare", "--user", "--map-root-user", "--net"]
        os.execvp(unshare[0], [*unshare, sys.executable, "-m", "tests.helpers.loopback", INSIDE, *sys.argv[1:]])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
