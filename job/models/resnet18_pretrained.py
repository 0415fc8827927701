"""ResNet-18 that starts from ImageNet weights; stem and head are replaced afterwards (see `resnet18`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet18_Weights, resnet18

from job.models.resnet18 import PARAMETERS as PARAMETERS
from job.models.resnet18 import fit_to_small_images

Weights = Mapping[str, Tensor]
ADDRESS: str = ResNet18_Weights.IMAGENET1K_V1.url


def load_weights(source: str | None) -> Weights:
    """The ImageNet state_dict from torchvision's own address (`source` None), a URL or a file.

    Loaded with `weights_only=True`, so that a file from elsewhere cannot run code; checked against the network before
    anything is built on it.

    Raises OSError where it cannot be had and ValueError where it is not a state_dict of torchvision's ResNet-18.
    """
    weights: Weights
    if source is None:
        weights = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    elif "://" in source:
        # Not load_state_dict_from_url: it prints the address, with a password that may be in it, and takes whatever
        # it cached under the same file name from another one.
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "weights.pth"
            torch.hub.download_url_to_file(source, str(file), progress=False)
            weights = read(file, "the file at that address")
    else:
        if not Path(source).is_file():
            raise FileNotFoundError(f"{source} is not a file")
        weights = read(Path(source), source)
    check(weights)
    return weights


def kept() -> Path | None:
    """Torchvision's own weights where an earlier download left them, else None."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(ADDRESS).name
    return file if file.is_file() else None


def read(file: Path, name: str) -> Weights:
    """What is in `file`. Raises ValueError, calling it `name`, where it cannot be read as weights alone."""
    try:
        weights: Weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise ValueError(f"{name} cannot be read as weights: {type(error).__name__}") from error
    return weights


def check(weights: Weights) -> None:
    """Raises ValueError, naming keys and shapes, where `weights` do not fit torchvision's ResNet-18."""
    if not isinstance(weights, Mapping):
        raise ValueError(f"holds a {type(weights).__name__}, not a state_dict")
    with torch.device("meta"):  # shapes without memory
        expected = resnet18(weights=None).state_dict()
    faults = [f"missing: {key}" for key in expected if key not in weights]
    faults += [f"unknown: {key}" for key in weights if key not in expected]
    faults += [f"{key}: not a tensor" for key, value in weights.items() if not isinstance(value, Tensor)]
    faults += [
        f"{key}: shape {list(weights[key].shape)} where {list(expected[key].shape)} is needed"
        for key in expected
        if isinstance(weights.get(key), Tensor) and weights[key].shape != expected[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError("does not fit torchvision's ResNet-18: " + "; ".join(faults[:5]) + more)


def build(num_classes: int, weights: Weights | None = None) -> nn.Module:
    """`[batch, 3, 32, 32]` float images to `[batch, num_classes]` logits.

    `weights` is what `load_weights` returned; without it the start is random, for a trained state_dict to be loaded.
    """
    net: ResNet = resnet18(weights=None)
    if weights is not None:
        net.load_state_dict(weights)
    return fit_to_small_images(net, num_classes)
