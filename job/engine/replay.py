"""An epoch of steps that are recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from job.console.logs import event
from job.data import Split
from job.device.graphs import Recorded, Recorder, batch_sizes, lay_track, record, why
from job.device.memory import is_out_of_memory
from job.engine.learner import Learner, fall_back
from job.engine.step import train_step


def recorded_steps(
    learner: Learner, split: Split, batch_size: int, recorder: Recorder | None = None
) -> Recorded | None:
    """The learner's steps on this split, recorded here where they are not yet; None where they are to be eager.

    Where the recording fails, this is told, and from here on the learner takes eager steps: what was proven when the
    run began may fail later, on a worker's GPU or for want of a resource. Raises what `is_out_of_memory`.
    """
    if learner.compute.step != "graph":
        return None
    if learner.recorded is None or not learner.recorded.fits(split.labels, batch_size):
        learner.recorded = None  # before others are recorded: they would need a stream of their own
        learner.recorded, fault = attempt(learner, split, batch_size, recorder)
        if fault:
            part = " ".join(str(name + 1 if isinstance(name, int) else name) for name in learner.part)
            event("device", f"{part}: its steps cannot be replayed ({fault}): eager, slower", level="WARNING")
            fall_back(learner, fault)
    return learner.recorded


def attempt(learner: Learner, split: Split, batch_size: int, recorder: Recorder | None) -> tuple[Recorded | None, str]:
    """The learner's recorded steps, or why there are none. No error outlives this call with the graph that failed."""
    try:
        return record_steps(learner, split, batch_size, recorder=recorder), ""
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return None, why(error)


def replay_epoch(
    recorded: Recorded, order: Tensor, dropout_seed: int, sizes: Iterable[int], on_batch: Callable[[int], object]
) -> tuple[Tensor, Tensor]:
    """The sum of the losses (float64) and the count of right answers (int64) over batches of `sizes`, on device."""
    recorded.track.rewind(order)
    torch.manual_seed(dropout_seed)  # after the warm-up, which draws from the stream as well
    for size in sizes:
        recorded.steps[size]()
        on_batch(size)
    return recorded.track.loss_sum, recorded.track.correct


def record_steps(
    learner: Learner,
    split: Split,
    batch_size: int,
    sizes: Iterable[int] | None = None,
    recorder: Recorder | None = None,
) -> Recorded:
    """The learner's step for every size of batch in an epoch, or for these. The learner is as before, in the very same
    tensors.
    """
    sizes = batch_sizes(len(split), batch_size) if sizes is None else sizes
    track = lay_track(split.images, split.labels, batch_size, staged=split.feed is not None)
    return record(track, stepper(learner), sizes, undo=remember(learner), recorder=recorder)


def stepper(learner: Learner) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda images, labels, rows: train_step(learner, images, labels, rows)


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
