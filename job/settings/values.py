"""Values as they arrive: what env files and templates leave in them, and numbers as Helm and YAML write them.

An env file of docker's knows no quotes, comments or Windows line ends: all of it is part of the value
(https://github.com/moby/moby/issues/46773), and no shell puts in what `$HOME` stands for.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

from job.settings.places import Takes, place
from job.settings.redaction import told

QUOTES = "\"'`“”‘’"
COMMENT = re.compile(r"(^|\s+)#([\sA-Za-z].*)?$")
NOTHING = {"none", "null", "undefined", "<no value>"}  # the last one is what Helm puts in for what is not there
UNRESOLVED = re.compile(r"(^|[/:])\$\w+|\$\{[^}]*\}?|\$\([^)]*\)?|\{\{.*?\}\}")
EXPORT_FORMATS = ("onnx", "onnx-int8", "pt2", "safetensors")
MOST_DIGITS = 40  # of a whole number in scientific notation


def read(name: str, value: str, annotation: Any, takes: Takes | None) -> Any:
    """What `value` of the variable `name` means, for pydantic to convert and to check against its bounds.

    Raises ValueError that says what was probably meant.
    """
    choice, number = has_choices(annotation), is_number(annotation)
    if not choice and value.strip().lower() in NOTHING:
        raise ValueError(f"a word for nothing is a value, too: leave {name} empty, or unset it")
    if number or (takes and takes.many):
        value = value.strip()  # which cannot be meant
    check_leftovers(name, value)
    found = UNRESOLVED.search(value.partition("?")[0])
    if found:
        raise ValueError(f"nothing puts a value in the place of {found[0].lstrip('/:')} here: write it out")
    if takes and takes.many:
        items = [item for item in re.split(r"[\s,]+", value) if item]
        return tuple(one_of(items, item, name, takes) for item in items)
    if not value.isprintable():
        raise ValueError("it holds a control character")
    if takes:
        return place(value, takes)
    return whole(value) if int in kinds(annotation) else value


def one_of(items: list[str], item: str, name: str, takes: Takes) -> str:
    """One place of a list; a fault says which of them it is about."""
    try:
        check_leftovers(name, item)
        return place(item, takes)
    except ValueError as error:
        raise ValueError(f"{told(item)}: {error}" if len(items) > 1 else str(error)) from None


def kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that are allowed, without None."""
    found = tuple(kind for kind in get_args(annotation) if kind is not type(None)) or (annotation,)
    return get_args(found[0]) if get_origin(found[0]) is Literal else found


def has_choices(annotation: Any) -> bool:
    return any(get_origin(each) is Literal for each in (annotation, *get_args(annotation)))


def is_number(annotation: Any) -> bool:
    return bool({int, float, bool} & set(kinds(annotation)))


def check_leftovers(name: str, value: str) -> None:
    """Raises ValueError where quotes, a comment, blanks or a line end have come along with the value."""
    meant = COMMENT.sub("", value).strip()
    found = [
        word
        for word, there in (
            ("a Windows line end", value.endswith("\r")),
            ("a blank or line end", value != value.strip() and not value.endswith("\r")),
            ("a comment", COMMENT.search(value) is not None),
            ("quotes", meant != meant.strip(QUOTES)),
        )
        if there
    ]
    if found:
        wanted = f"{name}={told(meant.strip(QUOTES).strip())}"
        raise ValueError(f"{' and '.join(found)} came along, which env files keep: write {wanted}")


def whole(value: str) -> str:
    """`1e4` and `2.0240101e+07` as whole numbers are written; anything else as it is."""
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    if number.is_finite() and number == number.to_integral_value() and abs(number.adjusted()) < MOST_DIGITS:
        return str(int(number))
    return value
