"""A stack's step as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from job.console.logs import event
from job.device.graphs import Lead, aside, capturing, why
from job.device.memory import is_out_of_memory

Step = Callable[..., tuple[Tensor, Tensor]]
EAGER_STEPS = 3  # before a step is captured: what is set up lazily has been set up by then


class Repeated:
    """A step on a GPU, replayed as a CUDA graph from its fourth call on: hundreds of launches become one.

    What is captured is not executed, so no learner takes a step twice. The inputs' shapes stay the same; the step comes
    with every call, so that nothing here keeps a stack alive. Where the capture fails, this is told and all further
    steps are taken as they are written. Source (warm-up on a side stream, static inputs):
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self) -> None:
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._lead = Lead()
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, Tensor] | None = None
        self.fault = ""

    def __call__(self, step: Step, *given: Tensor) -> tuple[Tensor, Tensor]:
        self._calls += 1
        if self._calls <= EAGER_STEPS:
            with aside(given[0].device):
                return step(*given)
        if self._graph is None and not self.fault:
            self.fault = self._capture(step, given)
            if self.fault:
                event("tune", f"the step cannot be replayed ({self.fault}): eager ones, slower", level="WARNING")
        if self._graph is None or self._outputs is None:
            return step(*given)
        for static, new in zip(self._inputs, given, strict=True):
            static.copy_(new)
        self._graph.replay()
        self._lead.hold()
        return self._outputs

    def _capture(self, step: Step, given: Sequence[Tensor]) -> str:
        """Why it failed, an empty text where it did not. No error outlives this call with the failed graph."""
        graph, inputs = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in given)
        try:
            with aside(given[0].device), capturing(graph):
                self._outputs = step(*inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return why(error)
        self._graph, self._inputs = graph, inputs
        return ""
