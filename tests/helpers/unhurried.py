"""The job with a search or a final training that takes its time: what a long one is, without its arithmetic.

python -m tests.helpers.unhurried PART SECONDS   (PART: search, training or publish, which is not drawn out)

The first epoch of that part is followed by SECONDS in which nothing is computed and, twice a second, its state is
offered to be kept, as epochs do. States may take more of the time than a real job gives them, so that there are some.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from job.__main__ import leave, main
from job.console import streams
from job.runs import keeper
from job.runs.keeper import Keeper
from job.runs.standing import FINAL, Standing


def draw_out(part: str, seconds: float) -> None:
    keeper.SHARE = keeper.BUSY = 1 / 2
    offer, done = Keeper.offer, [part == "publish"]

    def offered(kept: Keeper, take: Callable[[], Standing]) -> None:
        offer(kept, take)
        if done[0] or (part == "training") != (take().part == FINAL):
            return
        done[0] = True
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            offer(kept, take)

    Keeper.offer = offered  # type: ignore[method-assign]


if __name__ == "__main__":
    streams.hold()
    draw_out(sys.argv[1], float(sys.argv[2]))
    leave(main([]))
