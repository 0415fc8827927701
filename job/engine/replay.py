"""An epoch of steps that are recorded once and replayed, and the proof that they do what eager steps do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from job.console.logs import event
from job.data import Split
from job.device import Compute, is_out_of_memory
from job.device.graphs import Recorded, Recorder, Track, advance, batch_sizes, lay_track, record
from job.engine.learner import Learner, new_learner
from job.engine.step import train_step

PROOF_BATCHES = 3  # full ones, and one of half the size
# How far replayed weights may lie from eager ones, as a share of how far the steps moved them.
# Gradients that are zero but for rounding are noise that Adam turns into whole steps: 0.02 to 0.04 for CNN and ViT.
AGREES = 0.1


def replay_epoch(
    learner: Learner,
    split: Split,
    order: Tensor,
    dropout_seed: int,
    batch_size: int,
    on_batch: Callable[[int], object],
    recorder: Recorder | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum of the losses (float64) and the count of right answers (int64) over an epoch in `order`, on device."""
    sizes = batch_sizes(len(split), batch_size)
    if learner.recorded is None or not learner.recorded.fits(split.images, batch_size):
        learner.recorded = record_steps(learner, split, batch_size, recorder)
    recorded = learner.recorded
    recorded.track.rewind(order)
    torch.manual_seed(dropout_seed)  # after the warm-up, which draws from the stream as well
    for size in sizes:
        recorded.steps[size]()
        on_batch(size)
    return recorded.track.loss_sum, recorded.track.correct


def record_steps(learner: Learner, split: Split, batch_size: int, recorder: Recorder | None = None) -> Recorded:
    """The learner's step for every size of batch in an epoch. The learner is as before, in the very same tensors."""
    track = lay_track(split.images, split.labels, batch_size)
    undo = remember(learner)
    sizes = batch_sizes(len(split), batch_size)
    return record(track, stepper(learner), sizes, undo=undo, recorder=recorder)


def stepper(learner: Learner) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda images, labels: train_step(learner, images, labels)


def remember(learner: Learner) -> Callable[[], None]:
    """What puts the learner's tensors back, in place, to what they hold now; what does not exist yet becomes zero."""
    model = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    adam = {
        parameter: {name: value.clone() for name, value in state.items()}
        for parameter, state in learner.optimizer.state.items()
    }
    scaler = dict(learner.scaler.state_dict())

    @torch.no_grad()
    def undo() -> None:
        for name, tensor in learner.model.state_dict().items():
            tensor.copy_(model[name])
        for parameter, state in learner.optimizer.state.items():
            for name, value in state.items():
                if parameter in adam:
                    value.copy_(adam[parameter][name])
                else:
                    value.zero_()
        learner.scaler.load_state_dict(scaler)  # which fills its tensors in place
        learner.optimizer.zero_grad(set_to_none=True)

    return undo


def settle(
    compute: Compute, build: Callable[[], nn.Module], batch_size: int, recorder: Recorder | None = None
) -> Compute:
    """`compute` as it is where replayed steps of this model agree with eager ones, else with eager steps.

    To be asked when a run begins or goes on, which may be on another GPU: the answer is part of the run's arithmetic,
    and a run that began with replayed steps does not go on with eager ones.
    """
    if compute.step != "graph":
        return compute
    try:
        apart = disagreement(compute, build, batch_size, recorder)
        fault = "" if apart <= AGREES else f"its weights are {apart:.2g} of their way apart"  # NaN is no agreement
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        cause = error.__context__ or error  # ending an invalid capture raises over what made it invalid
        fault = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    if not fault:
        return compute
    event("device", f"the step cannot be replayed as a CUDA graph ({fault}): eager steps, slower", level="WARNING")
    return replace(compute, step="eager")


def disagreement(
    compute: Compute, build: Callable[[], nn.Module], batch_size: int, recorder: Recorder | None = None
) -> float:
    """How far replayed weights lie from eager ones after the same few batches, as a share of how far they moved."""
    random = torch.Generator().manual_seed(0)
    count = PROOF_BATCHES * batch_size + (batch_size + 1) // 2
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=random)
    split = Split(images, torch.arange(count) % 2).to(compute.device)
    order = torch.randperm(count, generator=random).to(compute.device)

    def weights(run: Callable[[Learner], object]) -> tuple[Tensor, Tensor]:
        learner = new_learner(build, 1e-3, compute, 0, ("proof",))
        learner.model.train()
        before = flat(learner.model)
        run(learner)
        return before, flat(learner.model)

    def eager(learner: Learner) -> None:
        track: Track = lay_track(split.images, split.labels, batch_size)
        track.rewind(order)
        torch.manual_seed(0)
        for size in batch_sizes(count, batch_size):
            advance(track, stepper(learner), size)

    before, expected = weights(eager)
    _, replayed = weights(lambda learner: replay_epoch(learner, split, order, 0, batch_size, lambda _: None, recorder))
    return float((replayed - expected).norm() / (expected - before).norm())


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])
