"""Where a run stands, kept so that a crash at any moment costs a few seconds of work and nothing else.

Two slots are written in turn: the previous state stays until the next one is durable. Each carries a checksum over all
of its bytes, so that a damaged one is always detected and the other one used.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from job.console.logs import event
from job.errors import Fault
from job.results import Epoch, Score, Trial
from job.storage import ArtifactStore

FORMAT = 3  # raise it when the state of an older job can no longer be continued with the same result
MAGIC = b"job checkpoint\n"
BODY = len(MAGIC) + hashlib.sha256().digest_size  # where the body begins
FINAL = "final"  # the name of the final training among a run's parts; trials have numbers
SLOTS = ("checkpoint/0", "checkpoint/1")
SHARE = 1 / 80  # of the run's time: what copying and writing states may take of a processor
BUSY = 1 / 10  # of the run's time: how long the store may be at work on states, which costs the training nothing itself
FLUSH_SECONDS = 8.0  # a stopped job has ten seconds in all

START_OVER = "Set FRESH=1 to start over, or another RUN_ID to keep both."


@dataclass(frozen=True)
class Standing:
    """How far a run has come: the finished trials, and the epochs of the part that was under way.

    `trials` are in the order of their numbers, of which some may be missing: workers do not end in that order.

    `part` is the running trial's number, `final` for the final training, or None between two parts. `learner` is the
    state of model and optimizer after the last epoch in `history` (see `engine.snapshot`), None where there is none.
    `begun` holds the trials that train together as one model, as far as they have come; `learner` is then their state,
    a row each (see `stacked.snapshot`).
    """

    trials: tuple[Trial, ...] = ()
    part: int | str | None = None
    history: tuple[Epoch, ...] = ()
    learner: dict[str, Any] | None = None
    begun: tuple[Trial, ...] = ()

    @property
    def epochs_of_part(self) -> int:
        """The epochs of what was under way; of trials at once those of the one that is ahead."""
        return max([len(self.history), *(len(trial.epochs) for trial in self.begun)])


@dataclass(frozen=True)
class Identity:
    """What must be the same for a state to be continued: settings that shape the result, data, and arithmetic."""

    settings: dict[str, Any]
    data_sha256: str
    arithmetic: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """A state as it was found: what it belongs to, its place in the order of writing, and where the run stood."""

    identity: Identity
    sequence: int
    standing: Standing


def encode(saved: Saved) -> bytes:
    """Magic, SHA-256 of all that follows, length of the header, header as JSON, tensors as `torch.save` writes them."""
    standing = saved.standing
    header = {
        "format": FORMAT,
        "sequence": saved.sequence,
        "identity": asdict(saved.identity),
        "trials": [asdict(trial) for trial in standing.trials],
        "part": standing.part,
        "history": [asdict(epoch) for epoch in standing.history],
        "begun": [asdict(trial) for trial in standing.begun],
    }
    header_bytes = json.dumps(header).encode()
    out = io.BytesIO()
    out.write(bytes(BODY))  # the place of magic and checksum
    out.write(len(header_bytes).to_bytes(8, "big"))
    out.write(header_bytes)
    if standing.learner is not None:
        torch.save(standing.learner, out)  # appended: a state is large, and every further copy of it costs time
    with out.getbuffer() as whole:
        whole[:BODY] = MAGIC + hashlib.sha256(whole[BODY:]).digest()
    return out.getvalue()


def decode(content: bytes) -> Saved:
    """The state in `content`.

    Raises ValueError where a single bit of it is not as it was written, and Fault where another version wrote it.
    """
    digest, body = content[len(MAGIC) : BODY], content[BODY:]
    if not content.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise ValueError("checksum does not hold")
    length = int.from_bytes(body[:8], "big")
    header, tensors = json.loads(body[8 : 8 + length]), body[8 + length :]
    if header["format"] != FORMAT:
        raise Fault(f"the saved state has format {header['format']}, this version reads {FORMAT}.", START_OVER)
    learner = torch.load(io.BytesIO(tensors), map_location="cpu", weights_only=True) if tensors else None
    standing = Standing(
        trials=tuple(as_trial(trial) for trial in header["trials"]),
        part=header["part"],
        history=tuple(as_epoch(epoch) for epoch in header["history"]),
        learner=learner,
        begun=tuple(as_trial(trial) for trial in header["begun"]),
    )
    return Saved(Identity(**header["identity"]), header["sequence"], standing)


def as_epoch(fields: dict[str, Any]) -> Epoch:
    return Epoch(fields["number"], Score(**fields["train"]), Score(**fields["heldout"]), fields["seconds"])


def as_trial(fields: dict[str, Any]) -> Trial:
    return Trial(**(fields | {"epochs": tuple(as_epoch(epoch) for epoch in fields["epochs"])}))


def load(store: ArtifactStore) -> Saved | None:
    """The newest whole state, or None where there is none at all.

    Raises Fault where there are states but none is whole: starting over silently would throw work away.
    """
    found = {slot: store.get(slot) for slot in SLOTS}
    whole: list[Saved] = []
    damaged: list[str] = []
    for slot, content in found.items():
        if content is None:
            continue
        try:
            whole.append(decode(content))
        except ValueError as error:
            damaged.append(f"{store.uri}/{slot} ({error})")
    if damaged and not whole:
        raise Fault(f"the saved state is damaged: {', '.join(damaged)}.", START_OVER)
    if damaged:
        event("checkpoint", f"damaged: {', '.join(damaged)}; going on from the one before it", level="WARNING")
    return max(whole, key=lambda saved: saved.sequence, default=None)


def check(saved: Saved, now: Identity, place: str) -> None:
    """Raises Fault, naming every difference, where `saved` belongs to another run than the one that is to go on."""
    was = saved.identity
    differences = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for old, new in ((was.settings, now.settings), (was.arithmetic, now.arithmetic))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if was.data_sha256 != now.data_sha256:
        differences.append(f"the data set has changed (SHA-256 {was.data_sha256[:8]} and now {now.data_sha256[:8]})")
    if differences:
        raise Fault(f"{place} holds an unfinished run that differs: {'; '.join(differences)}.", START_OVER)


def remove(store: ArtifactStore) -> None:
    for slot in SLOTS:
        store.delete(slot)


class Keeper:
    """Writes states in the background, the newest one first; the training waits for the copy of its state alone.

    A context manager: on leaving, what was handed over last is written before it returns, unless that takes too long.
    """

    def __init__(
        self, store: ArtifactStore, identity: Identity, sequence: int, written: Callable[[Standing], object]
    ) -> None:
        """`sequence` is the last state's; `written` is called, in the background, after every state that is durable."""
        self._store = store
        self._written = written
        self._identity = identity
        self._sequence = sequence
        self._pending: Standing | None = None
        self._busy = False
        self._closed = False
        self._error: Exception | None = None
        self._copying = 0.0  # seconds that the training last waited for a copy
        self._not_before = -float("inf")  # the moment from which a state may be taken again
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(FLUSH_SECONDS)

    def offer(self, take: Callable[[], Standing]) -> None:
        """Hands over what `take` copies, if a state may be written now without more than its share of the time."""
        idle = self._pending is None and not self._busy
        if idle and time.monotonic() >= self._not_before:
            started = time.monotonic()
            standing = take()
            self._copying = time.monotonic() - started
            self.hand_over(standing)

    def hand_over(self, standing: Standing) -> None:
        """Takes a state that is to be written, in place of one that still waits. Raises what the last write met."""
        with self._changed:
            self._raise()
            self._pending = standing
            self._changed.notify_all()

    def flush(self) -> None:
        """Returns when what was handed over is durable. Raises what writing it met."""
        with self._changed:
            self._changed.wait_for(lambda: (self._pending is None and not self._busy) or self._error is not None)
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                standing, self._pending, self._busy = self._pending, None, True
            started, processor = time.monotonic(), time.thread_time()
            try:
                self._sequence += 1
                content = encode(Saved(self._identity, self._sequence, standing))
                self._store.put(SLOTS[self._sequence % 2], content)
                self._written(standing)
            except Exception as error:  # told to the thread that trains, which can stop the job
                self._error = error
            with self._changed:
                cost, seconds = self._copying + time.thread_time() - processor, time.monotonic() - started
                # A trial's record costs little: it does not bring the next state forward.
                self._not_before = max(self._not_before, started + max(cost / SHARE, seconds / BUSY))
                self._copying, self._busy = 0.0, False
                self._changed.notify_all()
                if self._error is not None:
                    return
