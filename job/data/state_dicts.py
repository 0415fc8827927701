"""A state_dict in a file, in the layouts in which the world publishes them; brought to the names that a model has."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from job.data.sniff import HEAD, mistaken_for

FIT = "Give a state_dict of the model that the weights are for."
ALONE = "Save its state_dict alone: torch.save(model.state_dict(), FILE)."
AGAIN = "Fetch it again."
FOLDED = ("state_dict", "model", "model_state_dict", "net", "network", "weights")  # where to look first, in this order
DEPTH = 3
COUNTER = "num_batches_tracked"  # of batch norm; files written before torch 0.4.1 lack it, and a new one starts at 0
TOLD = 5  # differences that a message lists

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
ARCHIVES = {b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive", b"BZh": "a bzip2 archive"}
ARCHIVES |= {b"(\xb5/\xfd": "a zstandard archive", b"\xfd7zXZ": "an xz archive", b"\x89HDF": "an HDF5 file"}


class Unusable(ValueError):
    """Why a file does not serve, to be read after its name, and what to do about it."""

    def __init__(self, what: str, remedy: str = FIT) -> None:
        super().__init__(what)
        self.remedy = remedy


def read(file: Path, expected: Mapping[str, Tensor]) -> object:
    """What `torch.save` wrote into `file`, read without running code from it, or the tensors of a safetensors file.

    `expected` tells how large a whole file is. Raises Unusable where it holds no weights, and OSError.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    mistaken = mistaken_for(head)
    for magic, name in ARCHIVES.items():
        mistaken = mistaken or ((name, "Unpack it first.") if head.startswith(magic) else None)
    if mistaken is not None:
        raise Unusable(f"is {mistaken[0]}", mistaken[1])
    size = file.stat().st_size
    if head[8:9] == b"{":
        return load_file(whole_safetensors(file, size))
    if not head.startswith((ZIP, PICKLE)):
        raise Unusable("cannot be read as weights: neither torch.save nor safetensors wrote it")
    cut = cut_off(size, sum(tensor.nbytes for tensor in expected.values()), "about ")
    if head.startswith(ZIP):
        if not zipfile.is_zipfile(file):  # its directory stands at the end
            raise cut
        with zipfile.ZipFile(file) as archive:
            names = {Path(name).name for name in archive.namelist()}
        if "constants.pkl" in names:
            raise Unusable("is a TorchScript model", ALONE)
        if "data.pkl" not in names:
            raise Unusable("is a zip archive, but not one that torch.save wrote")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise explained(error, cut) from error


def cut_off(size: int, whole: int, about: str = "") -> Unusable:
    return Unusable(f"is cut off after {size / 1e6:.1f} of {about}{whole / 1e6:.0f} MB", AGAIN)


def explained(error: Exception, cut: Unusable) -> Unusable:
    """What `torch.load` met, in words; its own advice to load the file with its code is not passed on."""
    said = str(error)
    if isinstance(error, EOFError) or re.search(r"unexpected EOF|truncated|Ran out of input", said):
        return cut
    found = re.search(r"GLOBAL ([\w.]+) was not an allowed", said)
    if found is None:
        return Unusable("cannot be read as weights: it is damaged, or of a kind that torch.load does not take", FIT)
    name = found[1]
    if re.search(r"(^|\.)(nn|models?|modules?|__main__)\.", name) and not name.startswith(("numpy", "builtins")):
        return Unusable(f"is a whole pickled model ({name})", ALONE)
    return Unusable(f"holds more than weights: {name}, which is code", ALONE)


def whole_safetensors(file: Path, size: int) -> Path:
    """The same file. Raises Unusable where its header is no such header or names bytes that are not there.

    Eight bytes with the length of a JSON header, which tells each tensor's place in what follows
    (https://github.com/huggingface/safetensors#format).
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(min(length, size))
    if len(header) < length:
        raise Unusable("is cut off within its header", AGAIN)
    try:
        places = [tensor["data_offsets"][1] for name, tensor in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max(places, default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise Unusable("cannot be read as weights: neither torch.save nor safetensors wrote it") from None
    if size < whole:
        raise cut_off(size, whole)
    return file


def fitted(
    content: object, expected: Mapping[str, Tensor], replaced: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names of `expected`, in its order, and what had to be undone for that, in words.

    What lies under `state_dict` or `model` is found, and what stands in front of all names (`module.`, `_orig_mod.`) is
    left out. `replaced` are beginnings of names that the model does not take: a head of another size is no fault.
    Raises Unusable, naming keys and shapes, where something is missing, unknown or of another shape.
    """
    mark = [name for name in expected if not name.endswith(COUNTER)][-1]
    state, notes = unfolded(content, mark)
    starts = [name.removesuffix(mark) for name in state if name.endswith(mark)]
    if len(starts) > 1:
        raise Unusable(f"holds {len(starts)} such networks, under {', '.join(map(repr, starts))}", ALONE)
    start = starts[0] if starts else ""
    if start:
        notes.append(f"'{start}' in front of the names is left out")
        outside = [name for name in state if not name.startswith(start)]
        notes += [f"not used: {listed(outside)}"] if outside else []
        state = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    taken = {name: value for name, value in state.items() if not name.startswith(tuple(replaced))}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(COUNTER)}
    if not taken.keys() & expected.keys():
        raise Unusable(f"is of another model: its names are {listed(list(state))}")
    taken = {**counters, **taken}
    faults = list(differences(taken, expected))
    if faults:
        more = f" and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise Unusable(f"does not fit the model: {'; '.join(faults[:TOLD])}{more}")
    return {name: taken[name].detach() for name in expected}, notes


def unfolded(content: object, mark: str) -> tuple[dict[str, Any], list[str]]:
    """The mapping with a name that ends with `mark`, wherever it lies; what lies beside it is named."""
    found = list(networks(content, mark, ()))
    if found:
        path, state = found[0]
        others = [".".join(other) for other, _ in found[1:]]
        beside = f" ({listed(others)} is another one, not used)" if others else ""
        return state, [f"taken from its '{'.'.join(path)}'{beside}"] if path else []
    if not isinstance(content, Mapping):
        raise Unusable(f"holds a {type(content).__name__}, not a state_dict")
    state = {str(name): value for name, value in content.items()}
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise Unusable(f"holds no state_dict: what it has is {listed(list(state)) or 'nothing'}")
    return state, []


def networks(content: object, mark: str, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Where in `content` such a mapping lies, the usual places first."""
    if not isinstance(content, Mapping) or len(path) > DEPTH:
        return
    names = {name: value for name, value in content.items() if isinstance(name, str)}
    if any(name.endswith(mark) for name in names):
        yield path, names
        return
    for name in sorted(names, key=lambda name: FOLDED.index(name) if name in FOLDED else len(FOLDED)):
        yield from networks(names[name], mark, (*path, name))


def differences(state: Mapping[str, object], expected: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"missing: {name}" for name in expected if name not in state)
    yield from (f"unknown: {name}" for name in state if name not in expected)
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized or value.is_meta:
            yield f"{name}: not a tensor" if not isinstance(value, Tensor) else f"{name}: not a plain tensor"
        elif name in expected and value.shape != expected[name].shape:
            yield f"{name}: shape {list(value.shape)} where {list(expected[name].shape)} is needed"


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def sha256_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{list(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
