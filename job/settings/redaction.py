"""No secret in a message: addresses without user, password and query."""

from __future__ import annotations

import re
from typing import Any

SECRET_IN_URL = re.compile(r"(?<=://)[^/\s,]*@|(?<=\?)[^\s,]+")  # user and password; a signed query
SECRET_IN_SLIP = re.compile(r"(?<=[:/])[^/\s,]*@|(?<=\?)[^\s,]+")  # the same where the address itself is miswritten


def without_secrets(value: Any) -> Any:
    """Text or list with `***` for the user, the password and the query of an address (https://user:password@host?key)."""
    if isinstance(value, str):
        return SECRET_IN_URL.sub("***", value) if "://" in value else value
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def told(value: str) -> str:
    """A wrong value for a message: without what may be secret, and signs that no terminal shows spelled out."""
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)
    return SECRET_IN_SLIP.sub("***", shown)
