"""ResNet-18's weights in the layouts in which they are published: random numbers, since the real file cannot be had in
a test; `published` is laid out as torchvision's resnet18-f37072fd.pth (https://github.com/pytorch/vision/issues/1728).
"""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import save as safetensors
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.helpers.mirror import PAGE

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 46830571\n"


def network(seed: int = 0) -> nn.Module:
    """torchvision's own, with batch norms that are not those of a new one."""
    torch.manual_seed(seed)
    net: nn.Module = resnet18(weights=None)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            state = layer.state_dict(keep_vars=False)
            for around_zero in ("bias", "running_mean"):
                state[around_zero].normal_(0, 0.1)
            for around_one in ("weight", "running_var"):
                state[around_one].uniform_(0.5, 1.5)
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


def other_head(state: Mapping[str, Tensor], **head: Tensor) -> dict[str, Tensor]:
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return body | {name.replace("_", "."): tensor for name, tensor in head.items()}


def of_the_imagenet_example(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """As main.py of pytorch/examples/imagenet saves it."""
    return {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": in_front("module.", state),
        "best_acc1": torch.tensor(69.8),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }


# Layout → content of a file; all hold the same weights, but for the head.
GOOD: dict[str, Callable[[Mapping[str, Tensor]], bytes]] = {
    "published": lambda state: saved(published(state)),
    "full": lambda state: saved(OrderedDict(state)),
    "imagenet example": lambda state: saved(of_the_imagenet_example(state)),
    "model": lambda state: saved({"model": dict(state), "epoch": 3}),
    "averaged": lambda state: saved({"model_ema": in_front("module.", published(state)), "model": dict(state)}),
    "compiled": lambda state: saved(in_front("_orig_mod.", state)),
    "lightning": lambda state: saved({"state_dict": {**in_front("model.", state), "loss.weight": torch.ones(9)}}),
    "another head": lambda state: saved(other_head(state, fc_weight=torch.zeros(37, 512), fc_bias=torch.zeros(37))),
    "no head": lambda state: saved(other_head(state)),
    "head of layers": lambda state: saved(other_head(state, fc_0_weight=torch.zeros(8, 512), fc_0_bias=torch.zeros(8))),
    "before torch 1.6": lambda state: saved(published(state), _use_new_zipfile_serialization=False),
    "safetensors": lambda state: safetensors(dict(state)),
}

# What lies there → its content, and what a message must say of it.
BAD: dict[str, tuple[Callable[[Mapping[str, Tensor]], bytes], str]] = {
    "pointer": (lambda _: POINTER.encode(), "a Git LFS pointer"),
    "page": (lambda _: PAGE, "a web page"),
    "empty": (lambda _: b"", "an empty file"),
    "text": (lambda _: b"Not Found", "a text file"),
    "cut": (lambda state: saved(published(state))[: 1 << 20], "cut off after 1.0 of about 45 MB"),
    "cut old": (
        lambda state: saved(dict(state), _use_new_zipfile_serialization=False)[: 1 << 20],
        "cut off after 1.0 of about 45 MB",
    ),
    "cut safetensors": (lambda state: safetensors(dict(state))[: 1 << 20], "cut off after 1.0 of 47 MB"),
    "cut safetensors' header": (lambda state: safetensors(dict(state))[:2000], "cut off within its header"),
    "numbers": (lambda _: bytes(range(256)) * 8, "neither torch.save nor safetensors wrote it"),
    "nearly safetensors": (
        lambda _: (9).to_bytes(8, "little") + b'{"a": []}' + bytes(9),
        "neither torch.save nor safetensors wrote it",
    ),
    "pickled": (lambda _: saved(network()), "a whole pickled model (torchvision.models.resnet.ResNet)"),
    "pickled old": (
        lambda _: saved(network(), _use_new_zipfile_serialization=False),
        "a whole pickled model (torchvision.models.resnet.ResNet)",
    ),
    "code": (lambda state: saved({**state, "code": Planted()}), "holds more than weights: print"),
    "script": (lambda _: zipped({"m/data.pkl": b"", "m/constants.pkl": b""}), "a TorchScript model"),
    "zip": (lambda _: zipped({"a.txt": b"text"}), "a zip archive, but not one that torch.save wrote"),
    "gzip": (lambda _: b"\x1f\x8b" + bytes(99), "a gzip archive"),
    "damaged": (lambda _: zipped({"weights/data.pkl": b"\x80\x02garbage"}), "it is damaged"),
    "list": (lambda state: saved(list(state.values())), "holds a list, not a state_dict"),
    "missing": (
        lambda state: saved({name: state[name] for name in state if name != "layer3.0.conv1.weight"}),
        "missing: layer3.0.conv1.weight",
    ),
    "unknown": (lambda state: saved({**state, "extra": torch.zeros(1)}), "unknown: extra"),
    "shape": (
        lambda state: saved({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}),
        "conv1.weight: shape [64, 3, 3, 3] where [64, 3, 7, 7] is needed",
    ),
    "words": (lambda state: saved({**state, "conv1.weight": "text"}), "conv1.weight: not a tensor"),
    "sparse": (lambda state: saved({**state, "bn1.bias": torch.zeros(64).to_sparse()}), "bn1.bias: not a plain tensor"),
    "two": (
        lambda state: saved({**in_front("student.", state), **in_front("teacher.", state)}),
        "holds 2 such networks, under 'student.', 'teacher.'",
    ),
    "another model": (
        lambda _: saved({"embedder.weight": torch.zeros(2)}),
        "is of another model: its names are embedder.weight",
    ),
    "no tensors": (lambda _: saved({"epoch": 1}), "holds no state_dict: what it has is epoch"),
}


class Planted:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("this must not be printed",))


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()
