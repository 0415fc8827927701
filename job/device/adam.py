"""Adam as torch has it, without what keeps torch's compiler out of an optimizer. Nothing is compiled here, and to load
torch._dynamo for that takes a second at every start, longer than many an epoch.
"""

from __future__ import annotations

from inspect import unwrap
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])


def uncompiled(kind: Kind) -> Kind:
    """A kind of optimizer with torch's own methods, each without the wrapper that imports torch._dynamo."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(kind, name, unwrap(getattr(kind, name)))
    kind.step = torch.no_grad()(unwrap(kind.step))  # type: ignore[method-assign]
    return kind


@uncompiled
class Adam(torch.optim.Adam):
    """The same arithmetic to the bit."""


@uncompiled
class AdamW(torch.optim.AdamW):
    """Likewise, with decoupled weight decay (before torch 2.7 no kind of Adam)."""
