"""Steps that find their batch by a counter on the device. Without a GPU a "recorded" step is the function itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from job import device, engine, models
from job.data import Split
from job.device import Compute, graphs, track
from job.device.memory import is_out_of_memory, release_memory
from job.device.precision import native_precisions
from job.engine import proof, replay
from job.engine.learner import Learner, new_learner, restore, snapshot
from job.engine.proof import settle

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


@pytest.fixture(params=["fp32", "bf16"])
def gpu_like(cpu: Compute, request: pytest.FixtureRequest) -> Compute:
    """What a GPU's steps are, on a CPU: weights in one row, torch's own modules."""
    return replace(cpu, precision=request.param, step="graph", flat=True, kernels="plain")


def learner_of(name: str, compute: Compute) -> Learner:
    return new_learner(partial(models.find(name).build, 10), 1e-3, compute, 7, ("trial", 0))


def state_bytes(learner: Learner) -> list[bytes]:
    parts = snapshot(learner)
    adam = [value for state in parts["optimizer"]["state"].values() for value in state.values()]
    return [tensor.contiguous().numpy().tobytes() for tensor in (*parts["model"].values(), *adam)]


@pytest.mark.parametrize(
    ("name", "count", "batch", "epochs"),
    [("mlp", 1270, 50, 4), ("cnn", 87, 10, 2), ("vit", 21, 8, 1), ("cnn", 5, 20, 2)],
)
def test_an_epoch_by_the_counter_is_the_eager_one_bit_by_bit(
    gpu_like: Compute, name: str, count: int, batch: int, epochs: int
) -> None:
    """Over 100 steps of the MLP, eight as one and each epoch with its short last batch; then the evaluation. Scores,
    weights and Adam's state.
    """
    course, seen = engine.Course(images(count), images(13), batch), list[int]()
    counting = replace(course, on_batch=seen.append)
    eager, counted = learner_of(name, replace(gpu_like, step="eager")), learner_of(name, gpu_like)
    for number in range(1, epochs + 1):
        assert [*engine.epochs(eager, course, range(number, number + 1))] == [
            *engine.epochs(counted, counting, range(number, number + 1))
        ]
    assert sum(seen) == epochs * (count + 13)
    assert counted.recorded is not None
    assert counted.judging is not None
    assert ((batch, 8) in counted.recorded.runs) == (count >= 8 * batch)
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
    restore(resumed, snapshot(straight))
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


# --- the proof: stand-ins for a recorder, each with one fault ---


def small() -> nn.Module:
    """Convolution, batch norm, dropout: each can go wrong by itself."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 16 * 16, 10),
    )


class Built:
    """Builds small models and keeps them: the last one is that whose steps are recorded."""

    def __init__(self) -> None:
        self.models: list[nn.Module] = []

    def __call__(self) -> nn.Module:
        self.models.append(small())
        return self.models[-1]


def fault_of(compute: Compute, recorder: graphs.Recorder, build: Callable[[], nn.Module] = small) -> str:
    return proof.fault_of_replays(replace(compute, step="graph"), build, 16, [50, 70], recorder)


def after(spoil: Callable[[], object]) -> graphs.Recorder:
    """A recorder whose replays do everything right, and then one thing more."""

    def recorder(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        def replay() -> None:
            run()
            spoil()

        return replay

    return recorder


def raises(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    raise RuntimeError("operation not permitted when stream is capturing")


def forgets(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    return lambda: None


def repeats_its_masks(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    state = torch.get_rng_state()

    def replay() -> None:
        torch.set_rng_state(state)
        run()

    return replay


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_replay_that_agrees_is_kept(cpu: Compute, precision: str) -> None:
    compute = replace(cpu, precision=precision, step="graph")
    assert settle(compute, small, 16, [50, 70], itself) == compute
    assert settle(compute, partial(models.find("mlp").build, 10), 8, recorder=itself) == compute


def test_a_replay_that_sums_in_another_order_is_kept(cpu: Compute) -> None:
    """A batch's images in another order, in a model that draws nothing for each: the same mathematics."""

    def backwards(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        real, reverse = replay.train_step, torch.Tensor.flip

        def step(learner: Learner, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return real(learner, reverse(images, [0]), reverse(labels, [0]), reverse(rows, [0]))

        def turned() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(replay, "train_step", step)
                run()

        return turned

    def build() -> nn.Module:
        model = small()
        model[4] = nn.Identity()
        return model

    for precision in ("fp32", "bf16"):
        assert fault_of(replace(cpu, precision=precision), backwards, build) == ""


@pytest.mark.parametrize(
    ("recorder", "told"), [(raises, "not permitted"), (forgets, "losses"), (repeats_its_masks, "losses")]
)
def test_a_replay_that_fails_or_disagrees_is_told_and_given_up(
    cpu: Compute,
    recorder: graphs.Recorder,
    told: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settled = settle(replace(cpu, step="graph"), small, 16, [50], recorder)
    assert settled.step == "eager"
    assert settled.arithmetic()["step"] == "eager"
    said = caplog.text + "".join(capsys.readouterr())
    assert "cannot be replayed" in said
    assert told in said


def test_a_replay_that_spoils_one_buffer_is_found(cpu: Compute) -> None:
    built = Built()
    assert "buffers" in fault_of(cpu, after(lambda: built.models[-1][1].running_mean[0].add_(0.01)), built)
    assert "counts" in fault_of(cpu, after(lambda: built.models[-1][1].num_batches_tracked.add_(1)), built)


def test_a_replay_that_spoils_one_weight_matrix_is_found(cpu: Compute) -> None:
    built = Built()
    assert "weights" in fault_of(cpu, after(lambda: built.models[-1][5].weight.data.mul_(0.999)), built)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda track: track.loss_sum.mul_(1.01), "losses"),
        (lambda track: track.loss_sum.zero_(), "losses"),
        (lambda track: track.correct.zero_(), "right answers"),
        (lambda track: track.correct.add_(2), "right answers"),
    ],
)
def test_a_replay_that_spoils_one_sum_is_found(
    cpu: Compute, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[track.Track], object], told: str
) -> None:
    tracks: list[track.Track] = []

    def lay_track(*given: Any) -> track.Track:
        tracks.append(track.lay_track(*given))
        return tracks[-1]

    monkeypatch.setattr(replay, "lay_track", lay_track)
    assert told in fault_of(cpu, after(lambda: spoil(tracks[-1])))


def test_a_replay_that_spoils_the_scaler_is_found(cpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    scalers: list[Any] = []
    real = Compute.scaler

    def kept(compute: Compute) -> Any:
        scalers.append(real(compute))
        return scalers[-1]

    monkeypatch.setattr(Compute, "scaler", kept)
    half = replace(cpu, precision="fp16")
    assert "counts" in fault_of(half, after(lambda: scalers[-1]._growth_tracker.add_(1)))


def test_the_runs_own_sizes_are_proven(cpu: Compute) -> None:
    recorded: list[int] = []

    def sized(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        recorded.append(1)
        return run

    assert proof.fault_of_replays(cpu, small, 16, [50, 70, 5], sized) == ""
    assert len(recorded) == 5, "16, what 50, 70 and 5 leave: 2, 6 and 5, and the evaluation"
    trials = proof.prepare(cpu, small, 16, [50, 70, 5])
    assert trials.sizes == (16, 16, 16, 6, 5, 2)


def test_fp16_is_proven_over_steps_that_are_taken(cpu: Compute) -> None:
    """A loss a million times as large: the scale, 65,536 at first, has to fall for longer than a pass."""

    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = small()

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x) * 1e3

    compute = replace(cpu, precision="fp16")
    trials = proof.prepare(compute, Loud, 16, [50])
    passes, found = proof.eager(compute, Loud, trials)
    assert passes > 1
    assert min(float(count) for count in found.values["counts"][1:-6]) >= proof.STEPS
    assert fault_of(compute, itself, Loud) == ""


# --- a recording that fails after the proof ---


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_recording_that_fails_later_leaves_the_learner_to_eager_steps(
    cpu: Compute, monkeypatch: pytest.MonkeyPatch, precision: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At the first or the second size, in the middle of a step; then the very bytes of eager steps, and it is told."""
    calls: list[int] = []

    def stop(scaler: torch.amp.GradScaler) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    def stumbles(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        calls.append(1)
        if len(calls) < at:
            return run
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.amp.GradScaler, "update", stop)
            run()
        raise AssertionError

    monkeypatch.setattr(graphs, "record_graph", stumbles)
    compute, split = replace(cpu, precision=precision, step="graph"), images(50)
    eager, fallen = (new_learner(small, 1e-3, c, 7, ("trial", 2)) for c in (replace(compute, step="eager"), compute))
    for number in (1, 2):
        scores = [engine.train_epoch(learner, split, number, 16, ignore) for learner in (eager, fallen)]
        assert scores[0] == scores[1]
    assert state_bytes(eager) == state_bytes(fallen)
    assert snapshot(eager)["scaler"] == snapshot(fallen)["scaler"]
    assert fallen.compute.step == "eager"
    assert "not permitted" in fallen.note
    assert len(calls) == at, "it is not tried again"
    assert "trial 3: its steps cannot be replayed" in caplog.text


def test_graphs_of_before_are_gone_when_others_are_recorded(cpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never two sets of one stream: what ends a graph drops the workspace of cuBLAS that the others hold."""
    learner = learner_of("mlp", replace(cpu, step="graph"))
    engine.train_epoch(learner, images(20), 1, 10, ignore)
    assert learner.recorded is not None
    before = weakref.ref(learner.recorded)
    left: list[object] = []

    def recorder(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        left.append(before())
        return run

    monkeypatch.setattr(graphs, "record_graph", recorder)
    engine.train_epoch(learner, images(20), 2, 8, ignore)
    assert left == [None, None], "8 and the 4 that are left"


def test_no_error_keeps_a_failed_graph_alive(cpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    class Graph:
        pass

    graph: list[weakref.ref[Graph]] = []

    def fails(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        held = Graph()
        graph.append(weakref.ref(held))
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "record_graph", fails)
    learner = learner_of("mlp", replace(cpu, step="graph"))
    gc.disable()
    try:
        engine.train_epoch(learner, images(20), 1, 10, ignore)
        assert graph[0]() is None
    finally:
        gc.enable()


def test_memory_that_is_not_enough_is_no_fault_of_recording(cpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending a capture that ran out of memory raises over what made it invalid: still a matter of memory."""

    def no_room(run: Callable[[], None], pool: Any) -> Callable[[], None]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(graphs, "record_graph", no_room)
    with pytest.raises(RuntimeError) as caught:
        engine.train_epoch(learner_of("mlp", replace(cpu, step="graph")), images(20), 1, 10, ignore)
    assert is_out_of_memory(caught.value)


def test_a_run_that_began_with_eager_steps_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {**device.choose("cpu", "fp32").arithmetic(), "step": "graph"}
    assert device.choose("cpu", "fp32", kept).step == "graph"
    assert device.choose("cpu", "fp32", kept | {"step": "eager"}).step == "eager"


# --- on a real GPU ---


def gpu(precision: str) -> Compute:
    if precision not in native_precisions(torch.device("cuda", 0)):
        pytest.skip(f"SKIPPED, NOT TESTED: this GPU has no {precision}")
    return device.choose("cuda", precision)


def tensors_of(value: Any) -> Iterable[Tensor]:
    """Every tensor and number of a snapshot."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, Tensor):
        yield value
    elif isinstance(value, (int, float)):
        yield torch.tensor(value)


def assert_equal(one: Learner, other: Learner) -> None:
    """Every tensor of both learners, bit by bit: weights, buffers, Adam, the scaler."""
    mine, theirs = (list(tensors_of(snapshot(learner))) for learner in (one, other))
    assert len(mine) == len(theirs)
    assert all(tensor.isfinite().all() for tensor in mine)
    differing = [number for number, pair in enumerate(zip(mine, theirs, strict=True)) if not torch.equal(*pair)]
    assert not differing, f"{len(differing)} of {len(mine)} tensors differ"


@needs_gpu
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "vit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_100_replayed_steps_are_the_eager_ones(name: str, precision: str) -> None:
    """Bit by bit, with dropout and with the short last batch of every epoch."""
    compute = gpu(precision)
    count = 20 * 64 - 10
    assert settle(compute, partial(models.find(name).build, 10), 64, [count]).step == "graph"
    split = images(count).to(compute.device)
    replayed, eager = learner_of(name, compute), learner_of(name, replace(compute, step="eager"))
    for number in range(1, 6):
        one = engine.train_epoch(replayed, split, number, 64, ignore)
        assert one == engine.train_epoch(eager, split, number, 64, ignore)
    assert replayed.recorded is not None
    assert_equal(replayed, eager)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_on_a_gpu_two_runs_and_a_resumed_one_are_equal(name: str, precision: str) -> None:
    compute, learners = gpu(precision), []
    split = images(300).to(compute.device)
    for resumed in (False, False, True):
        learner = learner_of(name, compute)
        for number in (1, 2, 3):
            if resumed and number == 2:
                state = snapshot(learner)
                learner = learner_of(name, compute)
                restore(learner, state)
            engine.train_epoch(learner, split, number, 64, ignore)
        learners.append(learner)
    assert_equal(learners[0], learners[1])
    assert_equal(learners[0], learners[2])


class Asks(nn.Module):
    """A model with dropout that looks at a value on the host, which no capture allows."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = small()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x) * (1.0 if float(x.sum().item()) > -1e9 else 2.0)


@needs_gpu
def test_on_a_gpu_a_failed_capture_leaves_nothing_behind() -> None:
    """Neither another stream nor a random stream that dropout cannot draw from; the next capture succeeds."""
    compute = device.choose("cuda", "fp32")
    before = torch.cuda.current_stream()
    assert settle(compute, Asks, 16, [50]).step == "eager"
    assert torch.cuda.current_stream() == before
    split = images(50).to(compute.device)
    fallen, eager = (new_learner(Asks, 1e-3, c, 7, ("trial", 0)) for c in (compute, replace(compute, step="eager")))
    for number in (1, 2):
        scores = [engine.train_epoch(learner, split, number, 16, ignore) for learner in (fallen, eager)]
        assert scores[0] == scores[1]
    assert fallen.note
    assert_equal(fallen, eager)
    assert settle(compute, small, 16, [50]).step == "graph"


@needs_gpu
def test_on_a_gpu_living_graphs_share_no_stream() -> None:
    """Two learners at once, one of which ends: the other's replays go on being the eager ones."""
    compute = gpu("fp16")
    split = images(300).to(compute.device)
    eager, first = learner_of("mlp", replace(compute, step="eager")), learner_of("mlp", compute)
    engine.train_epoch(first, split, 1, 64, ignore)
    second: Learner | None = learner_of("mlp", compute)
    engine.train_epoch(second, split, 1, 64, ignore)
    del second
    room = torch.randn(64, 1 << 20, device=compute.device)  # what the second had used is written over
    for number in (1, 2):
        engine.train_epoch(eager, split, number, 64, ignore)
    engine.train_epoch(first, split, 2, 64, ignore)
    assert room.isfinite().all()
    assert_equal(first, eager)


@needs_gpu
def test_on_a_gpu_learners_leave_no_memory_behind() -> None:
    """Twenty learners one after the other take the memory of one: no workspace of cuBLAS for each."""
    compute = device.choose("cuda", "fp32")
    split = images(300).to(compute.device)

    def taken() -> int:
        engine.train_epoch(learner_of("mlp", compute), split, 1, 64, ignore)
        release_memory()
        return torch.cuda.memory_reserved()

    first = [taken() for _ in range(3)][-1]
    assert [taken() for _ in range(17)][-1] <= first


@needs_gpu
def test_on_a_second_gpu_steps_are_recorded_as_well() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("SKIPPED, NOT TESTED: there is one GPU")
    for name in ("cuda:1", "cuda:0"):
        compute = device.choose(name, "fp32")
        assert settle(compute, partial(models.find("mlp").build, 10), 16).step == "graph"
