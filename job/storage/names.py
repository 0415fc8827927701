"""What a stored content may be called, on a disk and in a bucket alike."""

from __future__ import annotations


def checked(name: str) -> str:
    """`name` itself. Raises ValueError, a bug of the caller, for one that not every store can hold or list."""
    parts = name.split("/")
    if any(not part or part.startswith(".") for part in parts):  # a leading dot marks a store's own temporary files
        raise ValueError(f"not a name for stored content: {name!r}")
    return name
