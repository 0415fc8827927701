"""Many learners as one: their weights lie stacked, so that one batched operation does the work of many small ones.

Row k of every tensor belongs to learner k alone. It keeps its own start weights, order of images, dropout, learning
rate and count of Adam steps, all from the same seeds as `job.engine`'s learner of that part; nothing flows between
rows. How many learners are in a stack may change the last bits of a sum and nothing else.

The model's own forward runs under `torch.func.vmap` (https://docs.pytorch.org/docs/stable/func.html): linear layers
become batched matrix products, convolutions grouped ones, and batch norm's statistics are kept a learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.optim.adam import adam
from torch.overrides import TorchFunctionMode

from job.console.logs import event
from job.data import Split
from job.device import DTYPES, HALVES, Compute, full, is_out_of_memory
from job.device.graphs import Lead, aside, capturing, why
from job.engine import EVALUATION_BATCH, OnBatch, epochs, new_learner, new_model, on_cpu, prepare
from job.results import Score
from job.seeds import seed_for

Part = tuple[str | int, ...]
Step = Callable[..., tuple[Tensor, Tensor]]
LEVELS = 2**16  # a dropout probability is rounded to this many steps: it is decided by 16 random bits
EAGER_STEPS = 3  # before a step is captured: what is set up lazily has been set up by then

# What runs stacked with the same numbers as alone. Others may, but nothing has compared them.
LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.LayerNorm,
    nn.Dropout,
    nn.MultiheadAttention,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)


def runs_stacked(model: nn.Module, compute: Compute) -> bool:
    """Whether every layer is one of `LAYERS`, in a precision without loss scaling, whose scale would be one for all."""
    leaves = [module for module in model.modules() if not list(module.children())]
    return compute.precision != "fp16" and all(isinstance(leaf, LAYERS) for leaf in leaves)


@dataclass(frozen=True)
class State:
    """Everything that the next epoch of some learners depends on; the first dimension of each tensor is the learner.

    `weights`, and Adam's running `mean` and `square` of the gradients: `param_dtype` `[learners, parameters]`, a
    learner's parameters one after the other; `steps`: float32 `[learners]`; `buffers`: e.g. batch norm's, by name.
    """

    weights: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    buffers: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.steps)

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        buffers = {name: change(buffer) for name, buffer in self.buffers.items()}
        return State(change(self.weights), change(self.mean), change(self.square), change(self.steps), buffers)

    def rows(self, numbers: Sequence[int]) -> State:
        """A copy of these learners, in this order."""
        return self.map(lambda tensor: tensor[torch.tensor(numbers, dtype=torch.int64, device=tensor.device)])


def joined(states: Sequence[State]) -> State:
    """The learners of all `states`, one after the other."""
    return State(
        torch.cat([state.weights for state in states]),
        torch.cat([state.mean for state in states]),
        torch.cat([state.square for state in states]),
        torch.cat([state.steps for state in states]),
        {name: torch.cat([state.buffers[name] for state in states]) for name in states[0].buffers},
    )


def snapshot(state: State) -> dict[str, Any]:
    """A copy on the CPU, as a checkpoint keeps it."""
    copied: dict[str, Any] = on_cpu(vars(state))
    return copied


def restored(copied: dict[str, Any], compute: Compute) -> State:
    """What `snapshot` copied, on the device."""
    return State(**copied).map(lambda tensor: tensor.to(compute.device))


@dataclass(frozen=True)
class Architecture:
    """What learners of one stack have in common. `model` lends its forward; its own weights are never used.

    `draws` is how many dropout decisions one image takes, `activations` the bytes that one image's forward pass
    leaves in memory for the backward pass, in fp32.
    """

    model: nn.Module
    classes: int
    shapes: dict[str, torch.Size]
    draws: int
    activations: int

    @property
    def parameters(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def views(self, weights: Tensor) -> dict[str, Tensor]:
        """`[learners, parameters]` as one `[learners, *shape]` a parameter, without a copy."""
        parts = torch.split(weights, [shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(part), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def architecture(build: Callable[[], nn.Module], compute: Compute) -> Architecture:
    """Builds one model and counts, with two images on the CPU, what it draws and keeps for an image."""
    model = build()
    images, kept = torch.zeros(2, 3, 32, 32), 0
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.untyped_storage().data_ptr() not in weights:
            kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.random.fork_rng(devices=[]), Draws() as draws:
        model.train()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            logits = model(images)  # [2, classes]
    shapes = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}
    each = draws.taken // len(images), kept // len(images)
    return Architecture(model.to(compute.device), logits.shape[1], shapes, *each)


def bytes_each(kind: Architecture, batch_size: int) -> int:
    """What one learner takes of the device's memory, estimated: weights, gradients and their copies, Adam, activations.

    Six float32 a parameter: weight, update, two running means, and a gradient twice while the parts are put in a row;
    half as many bytes again cover copies in another precision. Activations count twice, for their gradients.
    """
    weights = 6 * 4 * kind.parameters * 3 // 2
    return weights + batch_size * (2 * kind.activations + 4 * kind.draws)


def fresh(build: Callable[[], nn.Module], kind: Architecture, compute: Compute, seed: int, part: Part) -> State:
    """One new learner: the very weights that `engine.new_learner` draws for this part."""
    model = compute.cast(new_model(build, seed, part))
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    weights = torch.cat([named[name].detach().flatten() for name in kind.shapes])[None]
    buffers = {name: tensor.detach()[None].clone() for name, tensor in named.items() if name not in kind.shapes}
    state = State(weights, torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(1), buffers)
    return state.map(lambda tensor: tensor.to(compute.device))


class Draws(TorchFunctionMode):
    """Within it, dropout decides by `bits`, one learner's own (int16, as many as there are decisions, in order).

    Without bits it counts the decisions and drops nothing. Attention is written out, because torch's own function has
    no rule for vmap and draws its dropout by itself; so is the mean over a whole image, which lacks a rule as well.
    Linear layers cast to `dtype`, where there is one, since vmap goes around autocast.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype
        self.bits: Tensor | None = None
        self.taken = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.dropout:
            return self.dropout(*args, **kwargs)
        if function is functional.linear:
            return self.linear(*args, **kwargs)
        if function is functional.batch_norm:  # on a GPU torch asks how its input lies, for which vmap has no rule
            return function(args[0].contiguous(), *args[1:], **kwargs)
        if function is functional.adaptive_avg_pool2d and args[1] in (1, (1, 1)):
            return args[0].mean(dim=(-2, -1), keepdim=True)
        if function is functional.multi_head_attention_forward:
            return self.self_attention(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            raise NotImplementedError("attention outside nn.MultiheadAttention has not been written out")
        return function(*args, **kwargs)

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`x / (1 - p)` where kept, 0 where dropped (Srivastava et al., 2014), p rounded to 1 / LEVELS."""
        dropped = round(p * LEVELS)
        if not training or dropped == 0:
            return x
        start, self.taken = self.taken, self.taken + x.numel()
        if self.bits is None:
            return x
        if dropped == LEVELS:
            return torch.zeros_like(x)
        out = self.bits[start : self.taken].view(x.shape) < dropped - LEVELS // 2
        return x.masked_fill(out, 0.0) * (LEVELS / (LEVELS - dropped))

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if x.numel() == x.shape[-1]:
            return self.linear_of_one(x, weight, bias)
        if self.dtype is None:
            return functional.linear(x, weight, bias)
        return functional.linear(x.to(self.dtype), weight.to(self.dtype), None if bias is None else bias.to(self.dtype))

    def linear_of_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same of a single row, without a matrix product: the gradient of its weights is an outer product, for
        which torch 2.14 would compile a kernel on a GPU, with a C compiler that may not be there (torch/_native/ops).
        """
        out = (x.unsqueeze(-2) * weight).sum(dim=-1)  # [..., 1, in] * [out, in] -> [..., out]
        return (out if bias is None else out + bias).to(self.dtype or out.dtype)

    def self_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        width: int,
        heads: int,
        in_weight: Tensor,
        in_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        p: float,
        out_weight: Tensor,
        out_bias: Tensor | None,
        training: bool = True,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """Scaled dot-product attention of a sequence with itself (Vaswani et al., 2017, section 3.2).

        `query` is `[tokens, batch, width]`, and key and value are the same tensor; there is no mask.
        """
        refused = ("key_padding_mask", "attn_mask", "need_weights", "use_separate_proj_weight", "is_causal")
        if query is not key or key is not value or add_zero_attn or bias_k is not None or bias_v is not None:
            raise NotImplementedError("attention between two sequences has not been written out")
        if any(options.get(name) not in (None, False) for name in refused):
            raise NotImplementedError(f"attention with {options} has not been written out")
        tokens, batch, _ = query.shape
        projected = self.linear(query, in_weight, in_bias).view(tokens, batch, 3, heads, width // heads)
        q, k, v = projected.permute(2, 1, 3, 0, 4)  # each [batch, heads, tokens, width / heads]
        scores = full(q @ k.transpose(-2, -1)) * (width // heads) ** -0.5  # [batch, heads, tokens, tokens]
        attention = self.dropout(scores.softmax(dim=-1), p, training).to(v.dtype)
        mixed = (attention @ v).permute(2, 0, 1, 3).reshape(tokens, batch, width)
        return self.linear(mixed, out_weight, out_bias), None


class Stack:
    """Learners that train together: row k of `state` is the part `parts[k]`, at the rate `rates[k]`."""

    def __init__(
        self,
        kind: Architecture,
        compute: Compute,
        seed: int,
        parts: Sequence[Part],
        rates: Sequence[float],
        state: State,
    ) -> None:
        self.kind = kind
        self.compute = compute
        self.seed = seed
        self.parts = tuple(parts)
        self.state = state
        self.rates = torch.tensor(rates, dtype=compute.param_dtype)[:, None].to(compute.device)  # [learners, 1]
        self.update = torch.zeros_like(state.weights)  # Adam's step at the rate 1; zeros between two steps
        self.full_step: Repeated | None = Repeated() if compute.on_gpu else None


def forward(stack: Stack, weights: dict[str, Tensor], bits: Tensor | None, images: Tensor, shared: bool) -> Tensor:
    """Logits, `param_dtype` `[learners, batch, classes]`.

    `images` are normalised, `[learners, batch, 3, 32, 32]`, or where `shared` the same `[batch, 3, 32, 32]` for all.
    """
    half = DTYPES[stack.compute.precision] if stack.compute.precision in HALVES else None

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], bits: Tensor | None, images: Tensor) -> Tensor:
        draws.bits, draws.taken = bits, 0
        logits: Tensor = functional_call(stack.kind.model, (weights, buffers), (images,))
        return logits

    with (
        # No cache of cast weights: each is used once a pass, and a captured graph must not read another one's copies.
        torch.autocast(stack.compute.device.type, dtype=half, enabled=half is not None, cache_enabled=False),
        Draws(half) as draws,
    ):
        dims = (0, 0, None if bits is None else 0, None if shared else 0)
        # Randomness that is not dropout would be shared by the learners: vmap raises.
        logits: Tensor = vmap(one, in_dims=dims, randomness="error")(weights, stack.state.buffers, bits, images)
    return full(logits)


def train_step(stack: Stack, images: Tensor, labels: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """One Adam step of every learner on its own batch.

    `images`: uint8 `[learners, batch, 32, 32, 3]`; `labels`: int64 `[learners, batch]`; `bits`: int16 `[learners,
    draws]`. Returns mean losses and counts of right answers before the step, `[learners]`, on the device.
    """
    inputs = prepare(images.flatten(0, 1), stack.compute)
    inputs = inputs.view(*labels.shape, *inputs.shape[1:])  # [learners, batch, 3, 32, 32]
    state = stack.state
    weights = {name: view.detach().requires_grad_() for name, view in stack.kind.views(state.weights).items()}
    logits = forward(stack, weights, bits, inputs, shared=False)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)
    # The gradient of the sum: a learner's loss depends on its own weights alone.
    parts = torch.autograd.grad(losses.sum(), tuple(weights.values()), allow_unused=True, materialize_grads=True)
    gradients = torch.cat([part.flatten(1) if part.dim() > 1 else part[:, None] for part in parts], dim=1)
    with torch.no_grad():
        adam_step(state, stack.update, gradients, stack.rates)
    return losses.detach(), (logits.detach().argmax(dim=2) == labels).sum(dim=1)


def adam_step(state: State, update: Tensor, gradients: Tensor, rates: Tensor) -> None:
    """Adam for every learner at its own rate (`rates`: `[learners, 1]`), in one call of torch's fused kernel.

    The kernel takes one rate for all, and Adam's step is proportional to it: so it moves zeros at the rate 1, a row a
    learner with its own count of steps, and the weights move by that times their rate. `update` holds these zeros.
    """
    adam(
        list(update),
        list(gradients),
        list(state.mean),
        list(state.square),
        [],
        list(state.steps),
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=1.0,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    state.weights.addcmul_(update, rates)
    update.zero_()


def train_epoch(
    stack: Stack, split: Split, numbers: Sequence[int], batch_size: int, on_batch: OnBatch
) -> tuple[Tensor, Tensor]:
    """One pass of every learner, of which k is in its epoch `numbers[k]`, in the order that it has alone.

    Returns the sums of losses and the counts of right answers over all images, `[learners]`, still on the device.
    """
    count, device = len(split), split.labels.device
    seeds = [partial(seed_for, stack.seed, *part, "epoch", n) for part, n in zip(stack.parts, numbers, strict=True)]
    orders = [torch.randperm(count, generator=torch.Generator().manual_seed(seed("order"))) for seed in seeds]
    order = torch.stack(orders).to(device)
    generators = [torch.Generator(device).manual_seed(seed("dropout")) for seed in seeds]
    stack.kind.model.train()
    loss_sums = torch.zeros(len(stack.parts), dtype=torch.float64, device=device)
    correct = torch.zeros(len(stack.parts), dtype=torch.int64, device=device)
    for start in range(0, count, batch_size):
        rows = order[:, start : start + batch_size]
        bits = drawn(generators, stack.kind.draws * rows.shape[1], device)
        batch = split.images[rows], split.labels[rows], bits
        if stack.full_step is not None and rows.shape[1] == batch_size:
            losses, right = stack.full_step(partial(train_step, stack), *batch)
        else:
            losses, right = train_step(stack, *batch)
        loss_sums += losses.double() * rows.shape[1]
        correct += right
        on_batch(0)
    return loss_sums, correct


def drawn(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    """Random bits, int16 `[learners, count]`, each row from its own generator and so the same in any company."""
    words = torch.empty(len(generators), -(-count // 4), dtype=torch.int64, device=device)
    if count:
        for row, generator in zip(words, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)  # all 64 bits: four decisions
    return words.view(torch.int16)[:, :count]


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
        self._fault = ""

    def __call__(self, step: Step, *given: Tensor) -> tuple[Tensor, Tensor]:
        self._calls += 1
        if self._calls <= EAGER_STEPS:
            with aside(given[0].device):
                return step(*given)
        if self._graph is None and not self._fault:
            self._fault = self._capture(step, given)
            if self._fault:
                event("tune", f"the step cannot be replayed ({self._fault}): eager ones, slower", level="WARNING")
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


@torch.no_grad()
def evaluate(stack: Stack, split: Split, batch_size: int, on_batch: OnBatch) -> tuple[Tensor, Tensor]:
    """Sums of losses and counts of right answers of every learner over the same images, `[learners]`, on the device."""
    learners, device = len(stack.parts), split.labels.device
    stack.kind.model.eval()
    weights = stack.kind.views(stack.state.weights)
    loss_sums = torch.zeros(learners, dtype=torch.float64, device=device)
    correct = torch.zeros(learners, dtype=torch.int64, device=device)
    batch = min(EVALUATION_BATCH, 4 * batch_size)  # nothing is kept for a backward pass: no more memory than a step's
    for start in range(0, len(split), batch):
        labels = split.labels[start : start + batch]
        images = prepare(split.images[start : start + batch], stack.compute)
        logits = forward(stack, weights, None, images, shared=True)
        each = labels.expand(learners, -1)
        losses = functional.cross_entropy(logits.flatten(0, 1), each.flatten(), reduction="none").view_as(each)
        loss_sums += losses.sum(dim=1).double()
        correct += (logits.argmax(dim=2) == labels).sum(dim=1)
        on_batch(0)
    return loss_sums, correct


def epoch(
    stack: Stack, train: Split, heldout: Split, *, numbers: Sequence[int], batch_size: int, on_batch: OnBatch
) -> list[tuple[Score, Score]]:
    """Trains every learner for one epoch and evaluates it: its scores while training and on `heldout`.

    `on_batch` is called with 0 after every batch. The device is waited for once, at the end.
    """
    trained = train_epoch(stack, train, numbers, batch_size, on_batch)
    evaluated = evaluate(stack, heldout, batch_size, on_batch)
    sums = torch.stack([part.double() for part in (*trained, *evaluated)]).tolist()
    return [
        (Score(loss / len(train), 100 * right / len(train)), Score(held / len(heldout), 100 * hit / len(heldout)))
        for loss, right, held, hit in zip(*sums, strict=True)
    ]


def fault_of(build: Callable[[], nn.Module], compute: Compute) -> str:
    """What is wrong with training this model stacked on this device; an empty text where nothing is.

    Two learners go through seven steps on drawn images: as a step is written, as it is captured and replayed, and each
    alone. The first two must agree closely, the last roughly, since dropout draws otherwise; a bug is far off.
    """
    parts, rate = (("proof", 0), ("proof", 1)), 1e-4

    def ignore(count: int) -> None:
        """Nobody waits for this."""

    try:
        kind = architecture(build, compute)
        images = torch.randint(256, (104, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        split = Split(images, torch.arange(len(images)) % kind.classes).to(compute.device)

        def losses(captured: bool) -> list[float]:
            state = joined([fresh(build, kind, compute, 0, part) for part in parts])
            stack = Stack(kind, compute, 0, parts, (rate, rate), state)
            stack.full_step = stack.full_step if captured else None
            scores = epoch(stack, split, split, numbers=(1, 1), batch_size=16, on_batch=ignore)
            return [heldout.loss for _, heldout in scores]

        written, replayed, alone = losses(False), losses(True), []
        for part in parts:
            learner = new_learner(build, rate, compute, 0, part)
            for _, _, heldout in epochs(learner, split, split, batch_size=16, numbers=range(1, 2), on_batch=ignore):
                alone.append(heldout.loss)
    except Exception as error:  # of whatever kind: the same trials can still run one after the other
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    close = all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(replayed, written, strict=True))
    rough = all(abs(a - b) <= 0.1 * abs(b) for a, b in zip(written, alone, strict=True))
    return "" if close and rough else f"losses {written} as written, {replayed} replayed, {alone} alone"
