"""SGD as torch has it, without what loads torch's compiler (see `adam`), and with its momentum there from the start."""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


class SGD(torch.optim.SGD):
    """The same arithmetic. torch leaves the momentum unset until the first step, and what lies there where fp16's scale
    has that step left out; from zeros the first step is the same: 0.9 times nothing and the gradient.
    """

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    zero_grad = unwrap(torch.optim.SGD.zero_grad)
    state_dict = unwrap(torch.optim.SGD.state_dict)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
