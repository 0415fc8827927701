"""Everything about speed: which device, which precision, how tensors lie in memory, how Adam runs.

In reading order: this file (`Compute`, and how it is chosen), `hardware`, `precision`, `memory`, `cgroup` (what a
container may use), `adam`, `sgd`, `optimizers`; on a GPU `flat` (weights in one row), `fused` (attention), `graphs` and
`track` (recorded steps); quick on a CPU: `kernels`, `attention`, `convolution`, `dropout`, `products`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from job.device import cgroup
from job.device.flat import Piece, flatten, groups
from job.device.fused import fuse
from job.device.hardware import hardware
from job.device.kernels import quicken
from job.device.memory import keep_freed_memory
from job.device.optimizers import optimizer_of
from job.device.precision import DTYPES, HALVES, choose_precision, native_precisions
from job.device.products import TORCHS, choose_products
from job.errors import Fault, TemporaryFault
from job.models import Recipe

CHANNELS_LAST = "channels-last"

# Of `Compute.arithmetic`, what may be another when a run goes on: on spot machines the next GPU is what there is. The
# bits differ from there on, so it is told and written into the results.
MAY_CHANGE = {"hardware": "the hardware", "step": "the kind of training steps"}


@dataclass(frozen=True)
class Compute:
    """Where and how the arithmetic is done; `reason` says why this precision, one of `DTYPES`.

    `kernels` is `quick` where `place` gives modules faster forwards (see `kernels.quicken`), else `plain`: torch's own.
    `products` says whose matrix products linear layers of quick kernels take in fp32, `torch` or `onednn`.
    `step` is `graph` where training steps are recorded once and replayed (see `graphs`), else `eager`. `layout` is how
    images and convolution weights lie in memory, `channels-last` or `contiguous`; `flat`: weights in one row.
    """

    device: torch.device
    precision: str
    reason: str
    hardware: str
    kernels: str = "plain"
    step: str = "eager"
    layout: str = CHANNELS_LAST
    products: str = TORCHS
    flat: bool = False

    @property
    def param_dtype(self) -> torch.dtype:
        """What weights, images, losses and Adam are in; matrix products and convolutions are in `precision`'s own."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        """Matrix products and convolutions in the chosen precision; weights, losses and Adam stay in `param_dtype`.

        Without the cache of cast weights on a GPU: it would hold tensors of a CUDA graph beyond the graph's step.
        """
        return torch.autocast(
            self.device.type,
            dtype=DTYPES[self.precision],
            enabled=self.precision in HALVES,
            cache_enabled=not self.on_gpu,
        )

    def place(self, model: nn.Module) -> nn.Module:
        """The model on the device, its convolution weights in the layout of the images."""
        memory_format = torch.channels_last if self.layout == CHANNELS_LAST else torch.preserve_format
        placed: nn.Module = self.cast(model).to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        if self.on_gpu:
            return fuse(placed)
        return quicken(placed, self.products) if self.kernels == "quick" else placed

    def lay_out(self, images: Tensor) -> Tensor:
        """Images `[batch, 3, rows, columns]`, channels-last in memory as `normalise` makes them, in the layout."""
        return images if self.layout == CHANNELS_LAST else images.contiguous()

    def cast(self, model: nn.Module) -> nn.Module:
        """The model as it was built, in fp64 with all of its floating-point tensors in float64."""
        return model.double() if self.precision == "fp64" else model

    def pieces(self, model: nn.Module, recipe: Recipe) -> tuple[Piece, ...]:
        """Moves the weights of a model that was placed into pieces; none where they stay apart."""
        if not self.flat:
            return ()
        half = DTYPES[self.precision] if self.precision in HALVES else None
        return flatten(model, half, self.layout == CHANNELS_LAST, bool(recipe.weight_decay))

    def optimizer(
        self, model: nn.Module, recipe: Recipe, learning_rate: float, pieces: Sequence[Piece] = ()
    ) -> torch.optim.Optimizer:
        """The recipe's optimizer for a model that was placed, or for the pieces of its weights."""
        return optimizer_of(groups(model, pieces, recipe.weight_decay), recipe, learning_rate, self.on_gpu)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which fp16's narrow range needs; it does nothing in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def fetch(self, *values: Tensor) -> list[float]:
        """Numbers from the device: the one synchronisation of an epoch."""
        return torch.stack([value.double() for value in values]).tolist()

    def arithmetic(self) -> dict[str, Any]:
        """What the bits of a result depend on beside settings and data; see `MAY_CHANGE`."""
        return {
            "device": self.device.type,
            "hardware": self.hardware,
            "precision": self.precision,
            "threads": self.threads,
            "layout": self.layout,
            "kernels": self.kernels,
            "products": self.products,
            "step": self.step,
        }

    @property
    def threads(self) -> int:
        """The CPU threads of this process's arithmetic."""
        return torch.get_num_threads()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def describe(self) -> str:
        return f"{self.device.type} on {self.hardware}, {self.precision}"


def choose(device: str, precision: str, kept: Mapping[str, Any] | None = None) -> Compute:
    """The device and precision for `DEVICE` and `PRECISION`.

    `kept` is the arithmetic that an earlier attempt of the run chose (see `Compute.arithmetic`): it is chosen again as
    far as this machine has it. Raises Fault where the device is not there, cannot run the installed torch, or does not
    do the precision.
    """
    where = choose_device(device)
    if where.type == "cuda":
        run_one_kernel(where)
        torch.cuda.set_device(where)  # streams, graphs and their memory belong to the current device
        torch.backends.cudnn.benchmark = False  # the same algorithm every time: the same bytes every time
        torch.backends.cudnn.deterministic = True
        # TF32 keeps 10 bits of a factor. It is there from compute capability 8.0 on, where `auto` takes bf16, which is
        # faster: whoever asks for fp32 there wants it exact. torch's default would use it in convolutions.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    else:
        torch.set_flush_denormal(True)  # weights that fade out would otherwise slow every product down
        keep_freed_memory()
    if kept is not None and kept["device"] == where.type:
        torch.set_num_threads(kept["threads"])  # sums are split by thread: another number would change the last bits
    else:
        quota = cgroup.cpus()  # more threads than the container may use CPUs would wait for each other
        if quota is not None:
            torch.set_num_threads(min(torch.get_num_threads(), max(1, math.ceil(quota))))
    what, reason = choose_precision(where, precision, kept["precision"] if kept is not None else None)
    kernels = "quick" if where.type == "cpu" else "plain"
    products = choose_products(what, (kept or {}).get("products")) if kernels == "quick" else TORCHS
    step, layout = ("graph" if where.type == "cuda" else "eager"), choose_layout(where, what)
    if kept is not None and kept["device"] == where.type:
        step, layout = kept.get("step", step), kept.get("layout", layout)
    return Compute(where, what, reason, hardware(where), kernels, step, layout, products, where.type == "cuda")


def choose_as(run: Compute, device: str, arithmetic: Mapping[str, Any]) -> Compute:
    """For a worker: `run`'s arithmetic on a device of its own.

    `arithmetic` is `run.arithmetic()` as the run's own process told it. Raises Fault where this device lacks the
    precision, which the run's device may have chosen by itself.
    """
    where = choose_device(device)
    native = native_precisions(where)
    if run.precision not in native:
        raise Fault(
            f"a worker's device, {hardware(where)}, does not compute {run.precision}, which this run does on "
            f"{run.hardware}.",
            f"Let trials run on devices of one kind, or set PRECISION to what all of them have (here: "
            f"{', '.join(native)}) and FRESH=1.",
        )
    return choose(device, run.precision, arithmetic)


def choose_layout(device: torch.device, precision: str) -> str:
    """Channels-last, which tensor cores and CPUs want; in fp32 on a GPU without them (compute capability below 7.0)
    cuDNN's kernels are made for the other one.
    """
    old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0)
    return "contiguous" if old and precision == "fp32" else CHANNELS_LAST


def for_trials(name: str, compute: Compute) -> tuple[str, ...]:
    """The devices that trials may use side by side, as DEVICE would name them: every GPU of the run's own kind unless
    one was named. On another kind the same trial has other bits, and which one runs it is a matter of chance.
    """
    if compute.on_gpu and name in ("auto", "cuda"):
        names = (torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return tuple(f"cuda:{index}" for index, name in enumerate(names) if name == compute.hardware)
    return (str(compute.device),)


def left_out(name: str, compute: Compute) -> str:
    """The GPUs of another kind, which trials do not use, for people; an empty text where there are none."""
    used = for_trials(name, compute)
    if not compute.on_gpu or name not in ("auto", "cuda"):
        return ""
    others = (f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return ", ".join(f"{one} ({torch.cuda.get_device_name(one)})" for one in others if one not in used)


def choose_device(name: str) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Fault(
            f"DEVICE={name}, but torch {torch.__version__} finds no usable NVIDIA GPU.",
            "Start the container with --gpus all, check nvidia-smi, or set DEVICE=cpu.",
        )
    index = 0 if name in ("auto", "cuda") else int(name.removeprefix("cuda:"))
    if index >= torch.cuda.device_count():
        raise Fault(
            f"DEVICE={name}, but there are {torch.cuda.device_count()} GPU(s), numbered from 0.",
            "Name one that is there, or set DEVICE=auto.",
        )
    return torch.device("cuda", index)


def run_one_kernel(device: torch.device) -> None:
    """Multiplies two small matrices: the only proof that the installed build has kernels for this GPU."""
    try:
        torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()
    except torch.OutOfMemoryError as error:
        raise TemporaryFault(
            f"{device} has no free memory.", "Wait for the other program, or choose another DEVICE."
        ) from error
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(device)
        raise Fault(
            f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor}) cannot run this build of torch "
            f"{torch.__version__}, made for {' '.join(torch.cuda.get_arch_list()) or 'other GPUs'}.",
            "Install the CUDA 12.6 build (TORCH=cu126), which has kernels from Maxwell on, or set DEVICE=cpu. "
            "On Kaggle choose the accelerator T4 x2 (MACHINE_SHAPE=NvidiaTeslaT4) in the place of the P100.",
        ) from error
