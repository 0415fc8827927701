"""From a model's name to fresh models, and from a trained one to its file."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from job import models
from job.data.download import describe
from job.errors import Fault, TemporaryFault


def builder(name: str, num_classes: int, pretrained_weights: str | None) -> Callable[[], nn.Module]:
    """A function that builds a fresh model; stored weights are fetched once, here.

    Raises Fault where the weights do not fit and TemporaryFault where they could not be fetched.
    """
    module = models.find(name)
    if not hasattr(module, "load_weights"):
        return partial(module.build, num_classes)
    try:
        weights = module.load_weights(pretrained_weights)
    except ValueError as error:
        raise Fault(
            f"PRETRAINED_WEIGHTS: {error}.", "Give a state_dict of torchvision's resnet18, as a file or URL."
        ) from error
    except (FileNotFoundError, PermissionError) as error:
        raise Fault(f"PRETRAINED_WEIGHTS: {error}.", "Give the path or URL of a file that can be read.") from error
    except (OSError, http.client.HTTPException) as error:
        place = "PRETRAINED_WEIGHTS" if pretrained_weights else "torchvision's address"
        raise TemporaryFault(
            f"the ImageNet weights could not be fetched from {place}: {describe(error)}.",
            "Check the network, or put the file there yourself and name it in PRETRAINED_WEIGHTS.",
        ) from error
    return partial(module.build, num_classes, weights)


def trainable_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def weights_file(model: nn.Module) -> bytes:
    """The model's state_dict as `torch.save` writes it, on the CPU and contiguous, so that any program can load it."""
    out = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, out)
    return out.getvalue()
