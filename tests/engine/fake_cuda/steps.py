"""One training step of a learner and of a stack on a fake GPU, and what is odd about it.

    python -m tests.engine.fake_cuda.steps mlp:bf16 vit:fp32 mlp:bf16:product ...

prints a row as JSON for each, and one more for the stack where there is one. The third word is one of `SPOILS`, a fault
that the step then has. Needs what `rows_of` sets up.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any
from unittest.mock import Mock

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from job import device, engine, models
from job.data import Split
from job.device import CHANNELS_LAST, Compute, graphs
from job.device import track as graphs_track
from job.device.feed import Feed
from job.device.precision import DTYPES, native_precisions
from job.engine import learner as alone_learner
from job.engine import replay
from job.engine import step as engine_step
from job.engine.build import Builder
from job.engine.learner import Learner, new_learner, restore
from job.engine.schedule import planned
from job.engine.step import EVALUATION_BATCH
from job.search.stacked.architecture import Architecture, architecture, runs_stacked
from job.search.stacked.epochs import evaluate
from job.search.stacked.state import Part, fresh, joined, restored, snapshot
from job.search.stacked.step import Stack, train_step

CUDA = torch.device("cuda", 0)
BATCH, REST = 32, 6
HELD = 3 * EVALUATION_BATCH
FULL = graphs_track.TOGETHER + 1  # full batches: a run of several and one alone
WAITS = {"_local_scalar_dense", "nonzero", "equal", "item"}  # the host has to know a value
# Beside views, what launches nothing.
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "promote_types"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}
ATTENTION = {f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn")}


FUSED = {"_fused_adam_": 4, "_fused_adamw_": 4, "_fused_sgd_": 3}  # and how many lists of tensors must lie alike


@dataclass
class Row:
    """What a step was seen to do. `kernels` are calls of ATen that launch something, `casts` those that only convert;
    `products` the dtypes that matrix products and convolutions are computed in; `odd` what should not have happened.
    """

    model: str
    precision: str
    kind: str
    layout: str = ""
    kernels: float = 0
    casts: int = 0
    evaluation: float = 0
    products: list[str] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


class Watch(TorchDispatchMode):
    """Sees every call of ATen, those of the backward pass as well."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 1
        self.calls: Counter[str] = Counter()
        self.products: set[str] = set()
        self.odd: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if function.namespace == "aten" and not function.is_view and name not in FREE:
            self.calls[name] += 1
        tensors = [value for value in _pytree.tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        if name in WAITS:
            self.odd.append(f"{name} waits for the device")
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.odd.append(f"{name} of a tensor on the CPU: {[tuple(tensor.shape) for tensor in tensors]}")
        if name in PRODUCTS or name in ATTENTION:
            factors = [value for value in _pytree.tree_leaves(args[:3]) if isinstance(value, Tensor)]
            self.products |= {str(factor.dtype) for factor in factors}
        if name == "bmm" and args[0].shape[2] == 1 and args[1].shape[1] == 1:
            self.odd.append("bmm of an outer product, for which torch compiles a kernel")
        if name in FUSED:
            self.odd += [f"{name}'s strides {strides}" for strides in uneven(args[: FUSED[name]])]
        return result

    @property
    def kernels(self) -> float:
        """Of a step; what steps that are recorded as one have in common is shared among them."""
        return round(sum(self.calls.values()) / self.steps, 1)


def uneven(lists: tuple[list[Tensor], ...]) -> Iterator[list[tuple[int, ...]]]:
    """Weights whose gradient or running means lie otherwise in memory: fused Adam would then be wrong or slow."""
    for group in zip(*lists, strict=True):
        strides = [
            tuple(step for step, size in zip(one.stride(), one.shape, strict=True) if size != 1) for one in group
        ]
        if len(set(strides)) > 1:
            yield strides


def pretend(capability: int) -> None:
    """Has torch and the job take the fake GPU for a real one; nothing of the arithmetic is replaced."""
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda where: None,
        "get_device_name": lambda where=0: "fake",
        "get_device_capability": lambda where=0: divmod(capability, 10),
        "is_bf16_supported": lambda including_emulation=True: True,
        "empty_cache": lambda: None,
        "mem_get_info": lambda where=None: (80 << 30, 80 << 30),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    fake_tensor.CONSTANT_NUMEL_LIMIT = 0  # a constant would be moved to the GPU for real
    torch.tensor = partial(made, torch.tensor)
    nn.Module.to = moved  # type: ignore[method-assign, assignment]
    torch.optim.Optimizer._accelerator_graph_capture_health_check = lambda self: None  # type: ignore[method-assign]
    # The two values of the scaler that a snapshot reads.
    torch.amp.GradScaler.get_scale = lambda self: 65536.0  # type: ignore[method-assign]
    torch.amp.GradScaler._get_growth_tracker = lambda self: 0  # type: ignore[method-assign]
    for name in FUSED:
        setattr(torch, name, partial(at_a_rate, getattr(torch, name)))
    graphs.aside = lambda where: nullcontext()  # type: ignore[assignment]
    torch.cuda.Stream = torch.cuda.Event = lambda *given: Mock()  # type: ignore[assignment, misc]
    torch.cuda.current_stream = Mock()
    torch.cuda.stream = lambda where: nullcontext()  # type: ignore[assignment]
    torch.empty = partial(unpinned, torch.empty)
    Feed.gather = lambda self, images, rows, into: None  # type: ignore[method-assign]
    device.run_one_kernel = lambda where: None
    Compute.fetch = fetch  # type: ignore[method-assign]


def at_a_rate(fused: Callable[..., Any], *arguments: Any, lr: Any, **options: Any) -> Any:
    """A fused optimizer, whose form with a tensor for the rate has no rule for tensors without numbers: with a number,
    once it is seen that the tensor is a scalar on the device.
    """
    if isinstance(lr, Tensor):
        assert (lr.device, lr.dim(), lr.dtype) == (CUDA, 0, torch.float32)
    if fused.__name__ != "_fused_sgd_":
        return fused(*arguments, lr=1e-3, **options)
    assert not list(uneven(arguments[:3])), "SGD has no rule at all: this is all that is to be seen of it"
    assert {(one.device, one.dtype) for part in arguments[:3] for one in part} == {(CUDA, torch.float32)}
    return None


def unpinned(empty: Callable[..., Tensor], *shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
    """`torch.empty`, which pins memory by the driver."""
    return empty(*shape, **options)


def made(tensor: Callable[..., Tensor], values: Any, device: torch.device | None = None, **options: Any) -> Tensor:
    """`torch.tensor`, which copies to the GPU below the level where tensors are faked."""
    return tensor(values, **options) if device is None else tensor(values, **options).to(device)


def moved(
    module: nn.Module, where: torch.device, memory_format: torch.memory_format = torch.preserve_format
) -> nn.Module:
    """`nn.Module.to`, which cannot exchange the insides of fake parameters: with new ones."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(laid(parameter.detach(), where, memory_format))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = laid(buffer, where, memory_format)
    return module


def laid(tensor: Tensor, where: torch.device, memory_format: torch.memory_format) -> Tensor:
    return tensor.to(where, memory_format=memory_format if tensor.dim() == 4 else torch.preserve_format)


def fetch(compute: Compute, *values: Tensor) -> list[float]:
    """`Compute.fetch` without numbers to be had."""
    assert all(value.device == CUDA and value.dim() == 0 for value in values)
    return [0.0] * len(values)


def compute_in(precision: str) -> Compute:
    """As the job chooses it where the GPU has the precision; else, what torch emulates, the same in that precision."""
    if precision in native_precisions(CUDA):
        return replace(device.choose("cuda", precision), step="eager")
    plain = device.choose("cuda", "fp32")
    return replace(plain, precision=precision, step="eager", layout=device.choose_layout(CUDA, precision))


def images(count: int) -> Split:
    pixels = torch.zeros(count, 32, 32, 3, dtype=torch.uint8, device=CUDA)
    return Split(pixels, torch.zeros(count, dtype=torch.int64, device=CUDA))


def ignore(count: int) -> None:
    """No progress is shown."""


def itself(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    return run


# Faults, each of which has to be seen: what a step does beside its own work.
SPOILS: dict[str, Callable[[Tensor], object]] = {
    "cpu": lambda labels: torch.zeros(3) + 1,
    "wait": lambda labels: labels.sum().item(),
    "product": lambda labels: labels.float()[:, None] @ labels.float()[None],
    "nothing": lambda labels: None,
    "strong": lambda labels: None,  # no fault: the strong recipe
}


def spoiled(within: Callable[[Tensor], object]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def step(learner: Learner, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        within(labels)
        return engine_step.train_step(learner, images, labels, rows)

    return step


def alone(name: str, precision: str, spoil: str = "nothing") -> Row:
    """A learner: recorded steps, eight as one where the rate is constant, an epoch, recorded evaluation, predictions,
    and all of that again from a snapshot.
    """
    replay.train_step = spoiled(SPOILS[spoil])
    compute, split, few = compute_in(precision), images(FULL * BATCH + REST), images(BATCH + REST)
    recipe = models.recipe(name, "strong" if spoil == "strong" else "plain")
    new = partial(new_learner, Builder(name, 10, recipe=recipe), planned(recipe, 1e-3, 2), compute, 1, ("trial", 0))
    learner = new()
    learner.model.train()
    recorded = replay.record_steps(learner, split, BATCH, recorder=itself)
    scheduled = learner.schedule is not None
    assert set(recorded.runs) == {(BATCH, 1), (REST, 1)} | (set() if scheduled else {(BATCH, recorded.together)})
    with Watch() as step:
        recorded.runs[BATCH, recorded.together]()
    step.steps = recorded.together
    check_state(learner)
    engine.train_epoch(learner, few, 1, BATCH, ignore)
    odd = fed_steps(learner, few)
    judging = replay.record_judging(learner, images(HELD), recorder=itself)
    with Watch() as evaluation:
        for _, part in judging.parts:
            part()
    evaluation.steps = HELD // EVALUATION_BATCH
    engine.evaluate(learner.model, few, compute, ignore)
    logits = engine.predict(learner.model, few, compute, ignore)
    assert (logits.device.type, logits.dtype) == ("cpu", torch.float32)
    copied = alone_learner.snapshot(learner)
    assert all(tensor.device.type == "cpu" for tensor in copied["model"].values())
    again = new()
    restore(again, copied)
    check_state(again)
    engine.train_epoch(again, few, 2, BATCH, ignore)
    check_state(again)
    row = row_of(name, compute, spoil if spoil == "strong" else "alone", step, evaluation)
    row.odd += odd
    return row


def fed_steps(learner: Learner, split: Split) -> list[str]:
    """What is odd about the same steps with the images on the host: a recorded one finds its batch on the device, and
    the batches' way there waits for nothing.
    """
    host = Split(split.images.cpu(), split.labels).fed(Feed(CUDA))
    recorded = replay.record_steps(learner, host, BATCH, recorder=itself)
    assert (recorded.track.images.device, len(recorded.track.images)) == (CUDA, BATCH)
    with Watch() as step:
        recorded.runs[BATCH, 1]()
        for images in [split.images[:BATCH], split.images[:REST]]:
            assert list(graphs_track.brought(recorded.track, [images])) == [(len(images), 1)]
    sizes = [BATCH, REST]
    for images, size in zip(host.batches(torch.arange(BATCH + REST), sizes), sizes, strict=True):
        assert (images.device, len(images)) == (CUDA, size)
    engine.train_epoch(learner, host, 1, BATCH, ignore)
    engine.evaluate(learner.model, host, learner.compute, ignore)
    return step.odd


def check_state(learner: Learner) -> None:
    """All of it on the device in float32, Adam's means as the weights lie, convolution weights in the layout."""
    for weight, state in learner.optimizer.state.items():
        assert {value.device for value in state.values()} == {CUDA}
        assert {value.dtype for value in (weight, *state.values())} == {torch.float32}
        means = [value for value in state.values() if value.dim()]
        assert means
        assert {mean.stride() for mean in means} == {weight.stride()}
    for tensor in learner.model.state_dict().values():
        assert tensor.device == CUDA
        if tensor.dim() == 4:
            wanted = torch.channels_last if learner.compute.layout == CHANNELS_LAST else torch.contiguous_format
            assert tensor.is_contiguous(memory_format=wanted)


def stack(name: str, precision: str, kind: Architecture, learners: int = 3) -> Row:
    """A stack of learners: a step, one on a last batch of a single image, evaluation, and its state copied and back."""
    compute, build = compute_in(precision), partial(models.find(name).build, 10)
    kind = replace(kind, model=moved(build(), CUDA))
    parts: list[Part] = [("trial", number) for number in range(learners)]
    state = joined([fresh(build, kind, compute, 0, part) for part in parts])
    together = Stack(kind, compute, 0, [(part, 1e-3) for part in parts], state)
    kind.model.train()

    def step(size: int) -> Watch:
        split = images(learners * size)
        bits = torch.empty(learners, kind.draws * size, dtype=torch.int16, device=CUDA)
        rows = torch.arange(learners * size, device=CUDA).view(learners, size)
        batch = split.images.view(learners, size, 32, 32, 3), split.labels.view(learners, size), rows, bits
        with Watch() as watch:
            losses, right = train_step(together, *batch)
        assert losses.device == right.device == CUDA
        return watch

    full, one = step(BATCH), step(1)
    with Watch() as evaluation:
        evaluate(together, images(BATCH + REST), BATCH, ignore)
    back = restored(snapshot(together.state.rows([0, 2])), compute)
    for tensor in (back.weights, back.mean, back.square, back.steps, *back.buffers.values()):
        assert tensor.device == CUDA
    assert together.state.weights.dtype == torch.float32
    row = row_of(name, compute, "stack", full, evaluation)
    row.odd += one.odd
    return row


def row_of(name: str, compute: Compute, kind: str, step: Watch, evaluation: Watch) -> Row:
    wanted = {str(DTYPES[compute.precision])}
    return Row(
        name,
        compute.precision,
        kind,
        layout=compute.layout,
        kernels=step.kernels,
        casts=round(step.calls["_to_copy"] / step.steps, 1),
        evaluation=evaluation.kernels,
        products=sorted((step.products | evaluation.products) - wanted) or sorted(wanted),
        attention=sorted(call for call in step.calls if "attention" in call),
        odd=[*step.odd, *evaluation.odd],
    )


def main() -> None:
    torch.set_num_threads(1)
    pretend(int(os.environ["FAKE_SM"]))
    for argument in sys.argv[1:]:
        name, precision, *spoil = argument.split(":")
        build = partial(models.find(name).build, 10)
        kind = architecture(build, Compute(torch.device("cpu"), "fp32", "", ""))
        engine_step.scale_and_shift.cache_clear()  # their tensors belong to the mode below
        engine_step.one.cache_clear()
        rows = []
        with FakeTensorMode():
            try:
                rows.append(alone(name, precision, *spoil))
                if not spoil and runs_stacked(kind.model, compute_in(precision)):
                    rows.append(stack(name, precision, kind))
            except Exception as error:  # of whatever kind: it is what was to be found
                traceback.print_exc()
                rows.append(Row(name, precision, "alone", odd=[f"{type(error).__name__}: {error}"]))
        for row in rows:
            print(json.dumps(asdict(row)), flush=True)
    os._exit(0)  # torch's own threads do not always end on a GPU that is not there, and how says nothing


if __name__ == "__main__":
    main()
