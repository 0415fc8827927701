"""SGD as torch has it, without what loads torch's compiler (see `adam`), and with its momentum there from the start."""

from __future__ import annotations

from typing import Any

import torch

from job.device.adam import uncompiled


@uncompiled
class SGD(torch.optim.SGD):
    """The same arithmetic. torch leaves the momentum unset until the first step, and what lies there where fp16's scale
    has that step left out; from zeros the first step is the same: 0.9 times nothing and the gradient.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
