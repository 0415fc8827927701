"""Which precision: by what the chip computes natively, and on a CPU by a look at how fast and how right it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from job.device.hardware import cpu_flags, hardware
from job.errors import Fault

# fp64 is for proofs alone, and no device's native precision: PRECISION cannot ask for it. In it sums in another order
# agree to 1e-9 and better over many steps, where float32's rounding grows to anything.
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HALVES = ("bf16", "fp16")  # of a weight's bits: products in them, everything else in float32

# Of the probe. bf16 keeps 8 bits: rounding both factors and the sum leaves about 0.3 % of a product's root mean square.
WORTHWHILE = 1.2  # times as fast as fp32, so that a machine at the brink does not fall to either side
TOLERANCE = 0.02  # of the root mean square of the exact result
ROUNDS = 5


def choose_precision(device: torch.device, wanted: str, kept: str | None = None) -> tuple[str, str]:
    """The precision and the reason for it, by what the chip does rather than by what it can emulate.

    `kept` is what `auto` chose when the run began: it is chosen again where this device has it, without a probe, which
    might decide otherwise today. The reason is told in the same words then, since a resumed run's files are the same.

    Raises Fault for a precision that this device does not have or only imitates.
    """
    native = native_precisions(device)
    if wanted == "auto":
        fast = [name for name in HALVES if name in native]
        if kept in native:
            chosen = kept
        elif not fast or device.type == "cuda":
            chosen = fast[0] if fast else "fp32"
        else:
            chosen = judge(*probe())
        return chosen, reason(device, chosen, bool(fast))
    if wanted not in native:
        raise Fault(
            f"PRECISION={wanted} is not native on {hardware(device)}: it would be emulated, slower than fp32.",
            f"Choose from: auto, {', '.join(native)}.",
        )
    return wanted, "set by PRECISION"


def reason(device: torch.device, chosen: str, alternatives: bool) -> str:
    """Why `auto` chose this precision."""
    if not alternatives:
        return "no faster precision here"
    if device.type == "cuda":
        return f"{hardware(device)} computes it natively" if chosen != "fp32" else "as this run began"
    return (
        "a probe found it right and faster than fp32" if chosen != "fp32" else "a probe found bf16 wrong or no faster"
    )


def full(x: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is: what softmax and losses are computed in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """bf16 from compute capability 8.0 (Ampere), fp16 from 5.3 with tensor cores from 7.0
    (CUDA C++ Programming Guide, arithmetic instructions); on a CPU bf16 with AVX-512 BF16 or AMX.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return ("fp32", *(("bf16",) if capability >= (8, 0) else ()), *(("fp16",) if capability >= (7, 0) else ()))
    return ("fp32", "bf16") if cpu_flags() & {"avx512_bf16", "amx_bf16"} else ("fp32",)


def judge(speed: float, error: float) -> str:
    """The CPU's precision for what `probe` found."""
    return "bf16" if error <= TOLERANCE and speed >= WORTHWHILE else "fp32"  # an error that is NaN is no small one


def probe() -> tuple[float, float]:
    """How many times as fast bf16 is as fp32 on this CPU, and its error as a share of the result's root mean square.

    The slower and the more wrong of a matrix product and a convolution of the models' sizes, in well under a second.
    Measured in CPU time of one thread: what else the machine is doing must not decide.
    """
    speeds, errors = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for compute, exact in trials():
            result: dict[torch.dtype, Tensor] = {}
            seconds: dict[torch.dtype, float] = {}
            for dtype in (torch.float32, torch.bfloat16):
                result[dtype] = compute(dtype)  # the first call prepares the kernel
                seconds[dtype] = min(timed(compute, dtype) for _ in range(ROUNDS))
            speeds.append(seconds[torch.float32] / seconds[torch.bfloat16])
            difference = result[torch.bfloat16].double() - exact
            errors.append(float(difference.square().mean().sqrt() / exact.square().mean().sqrt()))
    finally:
        torch.set_num_threads(threads)
    return min(speeds), max(errors)


def trials() -> Iterator[tuple[Callable[[torch.dtype], Tensor], Tensor]]:
    """A product and a convolution in a given dtype, with their results in float64. The global random stream is kept."""
    random = torch.Generator().manual_seed(0)
    left, right = torch.randn(512, 512, generator=random), torch.randn(512, 512, generator=random)
    of = {dtype: (left.to(dtype), right.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    yield lambda dtype: of[dtype][0] @ of[dtype][1], left.double() @ right.double()
    images, kernel = torch.randn(32, 32, 16, 16, generator=random), torch.randn(64, 32, 3, 3, generator=random)
    images, kernel = (tensor.to(memory_format=torch.channels_last) for tensor in (images, kernel))
    cast = {dtype: (images.to(dtype), kernel.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    yield lambda dtype: conv2d(*cast[dtype], padding=1), conv2d(images.double(), kernel.double(), padding=1)


def timed(compute: Callable[[torch.dtype], Tensor], dtype: torch.dtype) -> float:
    started = time.thread_time()
    for _ in range(3):
        compute(dtype)
    return time.thread_time() - started
