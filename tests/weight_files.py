"""ResNet-18's weights in the layouts in which they are published: random numbers, since the real file cannot be had in
a test; `published` is laid out as torchvision's resnet18-f37072fd.pth (https://github.com/pytorch/vision/issues/1728).
"""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.mirror import PAGE

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 46830571\n"


def network(seed: int = 0) -> nn.Module:
    """torchvision's own, with batch-norm figures that are not those of a new one."""
    torch.manual_seed(seed)
    net: nn.Module = resnet18(weights=None)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return net.eval()


def published(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """102 names: parameters as Parameters, and batch norm without its counters, as before torch 0.4.1."""
    return OrderedDict(
        (name, tensor if "running" in name else nn.Parameter(tensor))
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )


def in_front(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content: object, **how: bool) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **how)
    return out.getvalue()


def good(folder: Path, state: Mapping[str, Tensor]) -> dict[str, Path]:
    """Layout → file; all hold what `state` holds, but for the head."""
    other_head = {"fc.weight": torch.zeros(37, 512), "fc.bias": torch.zeros(37)}
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    contents = {
        "published": published(state),
        "full": OrderedDict(state),
        "imagenet example": {
            "epoch": 90,
            "arch": "resnet18",
            "state_dict": in_front("module.", state),
            "best_acc1": torch.tensor(69.8),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        },
        "model": {"model": dict(state), "epoch": 3},
        "averaged": {"model": dict(state), "model_ema": in_front("module.", state)},
        "compiled": in_front("_orig_mod.", state),
        "another head": {**state, **other_head},
        "no head": body,
        "head of layers": {**body, "fc.0.weight": torch.zeros(8, 512), "fc.2.bias": torch.zeros(8)},
    }
    files = {name: folder / f"{name.replace(' ', '-')}.pth" for name in contents}
    for name, content in contents.items():
        files[name].write_bytes(saved(content))
    files["before torch 1.6"] = folder / "legacy.pth"
    files["before torch 1.6"].write_bytes(saved(published(state), _use_new_zipfile_serialization=False))
    files["safetensors"] = folder / "model.safetensors"
    save_file(dict(state), files["safetensors"])
    return files


def bad(folder: Path, net: nn.Module) -> dict[str, tuple[Path, str]]:
    """What lies there → file, and what a message must say of it."""
    state = dict(net.state_dict())
    whole, old = saved(published(state)), saved(state, _use_new_zipfile_serialization=False)
    save_file(state, folder / "whole.safetensors")
    tensors = (folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    without = {name: tensor for name, tensor in state.items() if name != "layer3.0.conv1.weight"}
    contents: dict[str, tuple[bytes, str]] = {
        "pointer": (POINTER.encode(), "a Git LFS pointer"),
        "page": (PAGE, "a web page"),
        "empty": (b"", "an empty file"),
        "text": (b"Not Found", "a text file"),
        "cut": (whole[: 1 << 20], "cut off after 1.0 of about 45 MB"),
        "cut old": (old[: 1 << 20], "cut off after 1.0 of about 45 MB"),
        "cut.safetensors": (tensors[: 1 << 20], "cut off after 1.0 of 47 MB"),
        "cut header.safetensors": (tensors[:2000], "cut off within its header"),
        "numbers": (bytes(range(256)) * 8, "neither torch.save nor safetensors wrote it"),
        "pickled": (saved(net), "a whole pickled model (torchvision.models.resnet.ResNet)"),
        "pickled old": (saved(net, _use_new_zipfile_serialization=False), "a whole pickled model"),
        "zip": (zipped({"a.txt": b"text"}), "a zip archive, but not one that torch.save wrote"),
        "gzip": (b"\x1f\x8b" + bytes(99), "a gzip archive"),
        "damaged": (zipped({"weights/data.pkl": b"\x80\x02garbage"}), "it is damaged"),
        "list": (saved(list(state.values())), "holds a list, not a state_dict"),
        "missing": (saved(without), "missing: layer3.0.conv1.weight"),
        "unknown": (saved({**state, "extra": torch.zeros(1)}), "unknown: extra"),
        "shape": (
            saved({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}),
            "shape [64, 3, 3, 3] where [64, 3, 7, 7]",
        ),
        "words": (saved({**state, "conv1.weight": "text"}), "conv1.weight: not a tensor"),
        "sparse": (saved({**state, "bn1.bias": torch.zeros(64).to_sparse()}), "bn1.bias: not a plain tensor"),
        "two": (saved({**in_front("student.", state), **in_front("teacher.", state)}), "'student.', 'teacher.'"),
        "other names": (
            saved({"embedder.weight": torch.zeros(2)}),
            "is of another model: its names are embedder.weight",
        ),
        "header.safetensors": ((9).to_bytes(8, "little") + b'{"a": []}' + bytes(9), "neither torch.save nor"),
        "script": (zipped({"m/data.pkl": b"", "m/constants.pkl": b""}), "a TorchScript model"),
        "no tensors": (saved({"epoch": 1}), "holds no state_dict: what it has is epoch"),
    }
    return {name: (written(folder / name, content), told) for name, (content, told) in contents.items()}


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()
