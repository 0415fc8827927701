"""A contender in a process of its own, which runs an epoch whenever it is told to."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench import contenders
from job import data, device
from job.device import Compute
from job.engine.proof import settle

SPAWN = get_context("spawn")

Runner = tuple[Any, Connection]


def start(title: str, name: str, count: int, compute: Compute) -> Runner:
    mine, its = SPAWN.Pipe()
    wanted = (str(compute.device), compute.precision)
    process = SPAWN.Process(target=contend, args=(its, title, name, count, *wanted))
    process.start()
    its.close()
    return process, mine


def epoch(runner: Runner, question: str = "epoch") -> dict[str, Any]:
    runner[1].send(question)
    answer: dict[str, Any] = runner[1].recv()
    return answer


def contend(pipe: Connection, title: str, name: str, count: int, where: str, precision: str) -> None:
    """A contender's process: an epoch for every message, and how long it took."""
    dataset = data.load(data.Wanted("synthetic", Path(), count, 1), no_bar, no_s3)
    if title in ("job", "limit"):
        compute = device.choose(where, precision)
        if title == "job" or compute.step == "graph":
            compute = settle(compute, contenders.builder(name), contenders.BATCH)
    else:  # torch as it comes, apart from the device
        compute = Compute(torch.device(where), "fp32", "", "")
    train, test = dataset.to(compute.device).train, dataset.to(compute.device).test
    run = contenders.PREPARE[title](name, train, test, compute)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if question == "memory":
            pipe.send({"memory": peak_memory(compute), "images": (len(train), len(test))})
            continue
        started = time.perf_counter()
        run()
        compute.fetch(torch.zeros((), device=compute.device))  # what was queued is done
        pipe.send({"seconds": time.perf_counter() - started})


def peak_memory(compute: Compute) -> float:
    """GiB: of the device on a GPU, of this process on a CPU (without the processes of a DataLoader)."""
    if compute.device.type == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated(compute.device) / 2**30


def no_bar(*_: object, **__: object) -> Any:
    raise AssertionError("drawn images need no progress bar")


def no_s3(*_: object, **__: object) -> Any:
    raise AssertionError("drawn images need no bucket")
