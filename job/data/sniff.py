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


OTHERS = {  # how files begin: formats of images that are not read here
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF",
    b"%!PS": "PostScript",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\1\0": "an icon (ICO)",
    b"DDS ": "a texture (DDS)",
    b"PK\x03\x04": "a zip archive",
}


def other_format(head: bytes) -> str:
    """The format of an image that is none of those that are read, by how its file begins; nothing where unknown.

    Telephones' HEIC and AVIF are ISO base media files, which tell their brand behind `ftyp` (ISO/IEC 23008-12).
    """
    if head[4:8] == b"ftyp":
        return "AVIF" if head[8:12] in (b"avif", b"avis") else "HEIC, or a film"
    return next((said for magic, said in OTHERS.items() if head.startswith(magic)), "")
