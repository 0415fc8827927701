"""Independent random seeds for every part of a run: any part can be run again alone and gives the same numbers."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *path: str | int) -> int:
    """A 63-bit seed for the part of the run named by `path`, e.g. `("trial", 3, "epoch", 7, "order")`.

    Hashing (rather than adding) keeps neighbouring seeds, trials and epochs independent of each other.
    """
    name = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
