"""Steps that find their batch by a counter on the device. Without a GPU a "recorded" step is the function itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from job import device, engine, models
from job.data import Split
from job.device import Compute, graphs
from job.engine import replay

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="SKIPPED, NOT TESTED: CUDA graphs need an NVIDIA GPU, and there is none here"
)


def images(count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    return Split(
        torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


def ignore(count: int) -> None:
    """No progress is shown."""


def itself(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    """The recorder of a machine without a GPU."""
    return run


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Compute:
    """fp32 on a CPU; an epoch takes its steps from the track where `step` is graph."""
    monkeypatch.setattr(graphs, "record_graph", itself)
    return device.choose("cpu", "fp32")


def learner_of(name: str, compute: Compute) -> engine.Learner:
    return engine.new_learner(partial(models.find(name).build, 10), 1e-3, compute, 7, ("trial", 0))


def state_bytes(learner: engine.Learner) -> list[bytes]:
    parts = engine.snapshot(learner)
    adam = [value for state in parts["optimizer"]["state"].values() for value in state.values()]
    return [tensor.contiguous().numpy().tobytes() for tensor in (*parts["model"].values(), *adam)]


@pytest.mark.parametrize(
    ("name", "count", "batch", "epochs"),
    [("mlp", 1270, 50, 4), ("cnn", 87, 20, 2), ("vit", 21, 8, 1), ("cnn", 5, 20, 2)],
)
def test_an_epoch_by_the_counter_is_the_eager_one_bit_by_bit(
    cpu: Compute, name: str, count: int, batch: int, epochs: int
) -> None:
    """Over 100 steps of the MLP, each epoch with its short last batch; scores, weights and Adam's state."""
    split = images(count)
    eager, counted = learner_of(name, cpu), learner_of(name, replace(cpu, step="graph"))
    for number in range(1, epochs + 1):
        seen: list[int] = []
        assert engine.train_epoch(eager, split, number, batch, ignore) == engine.train_epoch(
            counted, split, number, batch, seen.append
        )
        assert sum(seen) == count
    assert counted.recorded is not None
    assert state_bytes(eager) == state_bytes(counted)


def test_recording_leaves_a_learner_as_it_was_and_where_it_was(cpu: Compute) -> None:
    split = images(30)
    fresh = learner_of("cnn", cpu)
    before, places = state_bytes(fresh), [p.data_ptr() for p in fresh.model.parameters()]
    replay.record_steps(fresh, split, 20)
    assert before == state_bytes(fresh)[: len(before)]
    assert not any(any(part) for part in state_bytes(fresh)[len(before) :]), "Adam's new state is not zero"
    engine.train_epoch(fresh, split, 1, 20, ignore)
    trained = state_bytes(fresh)
    replay.record_steps(fresh, split, 20)
    assert state_bytes(fresh) == trained
    assert [p.data_ptr() for p in fresh.model.parameters()] == places


def test_a_resumed_learner_records_anew(cpu: Compute) -> None:
    """Epoch 2 after a restore gives the bytes that it gives without one."""
    split, compute = images(45), replace(cpu, step="graph")
    straight, resumed = learner_of("cnn", compute), learner_of("cnn", compute)
    engine.train_epoch(straight, split, 1, 20, ignore)
    engine.train_epoch(resumed, split, 1, 20, ignore)
    engine.restore(resumed, engine.snapshot(straight))
    assert resumed.recorded is None
    engine.train_epoch(straight, split, 2, 20, ignore)
    engine.train_epoch(resumed, split, 2, 20, ignore)
    assert state_bytes(straight) == state_bytes(resumed)


def test_signals_are_noticed_between_steps(cpu: Compute) -> None:
    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        engine.train_epoch(learner_of("mlp", replace(cpu, step="graph")), images(100), 1, 10, stop)


def test_a_replay_that_agrees_is_kept(cpu: Compute) -> None:
    compute = replace(cpu, step="graph")
    assert replay.disagreement(compute, partial(models.find("cnn").build, 10), 8, itself) == 0
    assert engine.settle(compute, partial(models.find("cnn").build, 10), 8, itself) == compute


def fails(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    raise RuntimeError("operation not permitted when stream is capturing")


def forgets(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    return lambda: None


@pytest.mark.parametrize("recorder", [fails, forgets])
def test_a_replay_that_fails_or_disagrees_is_told_and_given_up(
    cpu: Compute, recorder: graphs.Recorder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settled = engine.settle(replace(cpu, step="graph"), partial(models.find("mlp").build, 10), 8, recorder)
    assert settled.step == "eager"
    assert settled.arithmetic()["step"] == "eager"
    assert "cannot be replayed" in caplog.text + "".join(capsys.readouterr())


def test_a_run_that_began_with_eager_steps_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {**device.choose("cpu", "fp32").arithmetic(), "step": "graph"}
    assert device.choose("cpu", "fp32", kept).step == "graph"
    assert device.choose("cpu", "fp32", kept | {"step": "eager"}).step == "eager"


@needs_gpu
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "vit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_100_replayed_steps_are_the_eager_ones(name: str, precision: str) -> None:
    if precision not in device.native_precisions(torch.device("cuda", 0)):
        pytest.skip(f"SKIPPED, NOT TESTED: this GPU has no {precision}")
    compute = device.choose("cuda", precision)
    assert engine.settle(compute, partial(models.find(name).build, 10), 128).step == "graph"
    split = images(20 * 64 - 10).to(compute.device)
    replayed, eager = learner_of(name, compute), learner_of(name, replace(compute, step="eager"))
    for number in range(1, 6):
        one = engine.train_epoch(replayed, split, number, 64, ignore)
        other = engine.train_epoch(eager, split, number, 64, ignore)
        assert one.loss == pytest.approx(other.loss, rel=1e-3 if precision == "fp32" else 2e-2)
    assert nn.utils.parameters_to_vector(replayed.model.parameters()).isfinite().all()


@needs_gpu
def test_on_a_gpu_the_dropout_seed_governs_replays() -> None:
    compute = device.choose("cuda", "fp32")
    split = images(128).to(compute.device)

    def weights() -> torch.Tensor:
        learner = learner_of("vit", compute)
        for number in (1, 2):
            engine.train_epoch(learner, split, number, 64, ignore)
        return nn.utils.parameters_to_vector(learner.model.parameters()).detach()

    torch.testing.assert_close(weights(), weights())


class Asks(nn.Module):
    """A model that looks at a value on the host, which no capture allows."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = models.find("mlp").build(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x) * (1.0 if float(x.sum().item()) > -1e9 else 2.0)


@needs_gpu
def test_on_a_gpu_a_failed_capture_leaves_nothing_behind() -> None:
    compute = device.choose("cuda", "fp32")
    before = torch.cuda.current_stream()
    assert engine.settle(compute, Asks, 16).step == "eager"
    assert torch.cuda.current_stream() == before
    assert engine.settle(compute, partial(models.find("mlp").build, 10), 16).step == "graph"


@needs_gpu
def test_on_a_second_gpu_steps_are_recorded_as_well() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("SKIPPED, NOT TESTED: there is one GPU")
    for name in ("cuda:1", "cuda:0"):
        compute = device.choose(name, "fp32")
        assert engine.settle(compute, partial(models.find("mlp").build, 10), 16).step == "graph"
