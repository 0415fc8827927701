"""Where a run stands, kept so that a crash at any moment costs a few seconds of work and nothing else.

Two slots are written in turn: the previous state stays until the next one is durable. Each carries a checksum over all
of its bytes, so that a damaged one is always detected and the other one used.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field, replace
from pickle import UnpicklingError
from typing import Any

import torch

from job import device
from job.console.logs import event
from job.errors import Fault, first_line
from job.results import Epoch, Score, Trial
from job.runs import code
from job.runs.standing import SLOTS as SLOTS
from job.runs.standing import Standing
from job.settings.table import with_defaults
from job.storage import ArtifactStore

FORMAT = 3  # raise it when the state of an older job can no longer be continued with the same result
MAGIC = b"job checkpoint\n"
BODY = len(MAGIC) + hashlib.sha256().digest_size  # where the body begins

OF_BUDGET = ("worked", "closed", "final_epochs")

START_OVER = "Set FRESH=1 to start over, or another RUN_ID to keep both."


@dataclass(frozen=True)
class Identity:
    """What must be the same for a state to be continued: settings that shape the result, data, arithmetic, code (see
    `job.runs.code`; empty for states of before it was noted), and the weights that the model started from, None where
    those are random. Of the arithmetic, what is in `device.MAY_CHANGE` need not: `changes` tells for people what did
    and when.
    """

    settings: dict[str, Any]
    data_sha256: str
    arithmetic: dict[str, Any]
    code: dict[str, str] = field(default_factory=dict)
    pretrained_sha256: str | None = None
    changes: list[str] = field(default_factory=list)


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
        "search_seconds": standing.search_seconds,
        "budget": {name: getattr(standing, name) for name in OF_BUDGET},
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
    trials = tuple(as_trial(trial) for trial in header["trials"])
    learner = torch.load(io.BytesIO(tensors), map_location="cpu", weights_only=True) if tensors else None
    standing = Standing(
        trials=trials,
        part=header["part"],
        history=tuple(as_epoch(epoch) for epoch in header["history"]),
        learner=learner,
        begun=tuple(as_trial(trial) for trial in header["begun"]),
        search_seconds=header.get("search_seconds", sum(trial.seconds for trial in trials)),
        **{name: value for name, value in header.get("budget", {}).items() if name in OF_BUDGET},
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
        except (ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError) as error:
            damaged.append(f"{store.uri}/{slot} ({first_line(error)})")
    if damaged and not whole:
        raise Fault(f"the saved state is damaged: {', '.join(damaged)}.", START_OVER)
    if damaged:
        event("checkpoint", f"damaged: {', '.join(damaged)}; going on from the one before it", level="WARNING")
    return max(whole, key=lambda saved: saved.sequence, default=None)


def goes_on(saved: Saved, now: Identity, place: str) -> Identity:
    """`now` with what `saved` knows of the run: the code that it began with, and what has changed since.

    Raises Fault, naming every difference that may not be, where `saved` belongs to another run.
    """
    check(saved, now, place)
    was, standing = saved.identity, saved.standing
    when = f"after {len(standing.trials)} trials and {standing.epochs_of_part} epochs of the next part"
    changes = [
        f"{when}: {text} was {was.arithmetic[name]} and is {now.arithmetic[name]}"
        for name, text in device.MAY_CHANGE.items()
        if name in was.arithmetic and was.arithmetic[name] != now.arithmetic[name]
    ]
    return replace(now, code=was.code or now.code, changes=[*was.changes, *changes])


def check(saved: Saved, now: Identity, place: str) -> None:
    """Raises Fault, naming every difference, where `saved` belongs to another run than the one that is to go on."""
    was = saved.identity
    differences = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for old, new in ((with_defaults(was.settings), with_defaults(now.settings)), (was.arithmetic, now.arithmetic))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not (old is was.arithmetic and name in device.MAY_CHANGE)
    ]
    if was.data_sha256 != now.data_sha256:
        differences.append(f"the data set has changed (SHA-256 {was.data_sha256[:8]} and now {now.data_sha256[:8]})")
    if was.pretrained_sha256 != now.pretrained_sha256:
        old_hash, new_hash = ((sha256 or "not told")[:8] for sha256 in (was.pretrained_sha256, now.pretrained_sha256))
        differences.append(f"the pretrained weights have changed (SHA-256 {old_hash} and now {new_hash})")
    differences += code.differences(was.code, str(now.settings["MODEL"]), finished=False)
    if differences:
        raise Fault(f"{place} holds an unfinished run that differs: {'; '.join(differences)}.", START_OVER)


def remove(store: ArtifactStore) -> None:
    for slot in SLOTS:
        store.delete(slot)
