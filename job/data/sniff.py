"""What the first bytes of a file tell, where it is not what was asked for."""

from __future__ import annotations

HEAD = 512  # bytes that are enough to tell


def mistaken_for(head: bytes) -> tuple[str, str] | None:
    """What a file that begins so is, and what to do about it; None where it may be binary content, as is wanted."""
    if not head:
        return "an empty file", "Fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, which only names the file", "Run git lfs pull where it comes from."
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page", "Open the address in a browser: it may want a log-in, or show the file's real address."
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "a text file", "Open it to see what it says."
    return None
