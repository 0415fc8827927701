"""Every message of the job's faults, as it stands in the code, with `…` for what is put in when it is told."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

JOB = Path(__file__).parent.parent.parent / "job"
FAULTS = {"Fault", "TemporaryFault", "NoRoom", "TakenOver", "AtWork", "NotGoodEnough", "NotPermitted", "Unreadable"}
PLACEHOLDER = "…"


def messages() -> dict[str, str]:
    """Message → where it is made. What a message is put together from is followed within its own function."""
    found = {}
    for file in sorted(JOB.rglob("*.py")):
        tree = ast.parse(file.read_text())
        rules = {"ValueError"} if file.is_relative_to(JOB / "settings") else set()
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            known = assigned(function)
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and call.args and makes_fault(call.func, rules, known):
                    for text in texts(call.args[0], known):
                        first = re.sub(f"{PLACEHOLDER}+", PLACEHOLDER, text.split("\n")[0]).strip()
                        if re.search(r"[A-Za-z]{2}", first):
                            found[first] = f"{file.relative_to(JOB)}:{call.lineno}"
    return found


def makes_fault(function: ast.expr, rules: set[str], known: dict[str, ast.expr]) -> bool:
    if isinstance(function, ast.IfExp):
        return makes_fault(function.body, rules, known)
    if not isinstance(function, ast.Name):
        return False
    if function.id in FAULTS | rules:
        return True
    return (
        function.id in known
        and isinstance(known[function.id], ast.IfExp)
        and makes_fault(known[function.id], rules, {})
    )


def assigned(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Name → what it is set to, for names that the function sets once."""
    names: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in names.items() if len(values) == 1}


def texts(node: ast.expr, known: dict[str, ast.expr]) -> Iterator[str]:
    """What an expression may say: each branch of a condition by itself."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield from ("".join(parts) for parts in product(*(list(texts(part, {})) for part in node.values)))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from (left + right for left, right in product(texts(node.left, known), list(texts(node.right, known))))
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, known)
        yield from texts(node.orelse, known)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rstrip":
        yield from texts(node.func.value, known)
    elif isinstance(node, ast.Name) and node.id in known and isinstance(known[node.id], ast.JoinedStr):
        yield from texts(known[node.id], {})
    else:
        yield PLACEHOLDER
