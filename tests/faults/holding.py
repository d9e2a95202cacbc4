"""An outbox as a process of its own, for its writes to be recorded: ``python -m tests.faults.holding FILE RUNS``.

It runs up to three times over, as an agent that is restarted, and prints a line each time that something is so: ``put
N`` before event N is put down, ``held N`` once all up to N are on disk, ``done N`` before they are acknowledged.
"""

import asyncio
import os
import sys
from pathlib import Path

from agent.clock import SECOND
from agent.mqtt.shelf import Bounds
from tests.outboxes import open_outbox

WIDE = Bounds(events=10_000, age_ns=3600 * SECOND)
LIVES = ((1,) * 6 + (20, 1), (1, 8, 1), (1, *(30,) * 5, 1, 1))
"""For each run, how many events are put down at once, one such burst after the other."""
SIZES = (10, 300, 30_000)
"""Bytes of each event's filling, by run: in the last SQLite moves its log into its file, and begins it anew."""


def say(what: str, n: int) -> None:
    """Print it, in one call."""
    os.write(1, f"{what} {n}\n".encode())


def body(n: int, size: int) -> bytes:
    """The event, as it is put down."""
    return b'{"n":%d,"filling":"%b"}' % (n, b"x" * size)


async def live(path: Path, bursts: tuple[int, ...], *, first: int, size: int) -> int:
    """One run, with events numbered from ``first`` on; returns the number that the next has."""
    n = first
    async with open_outbox(path, WIDE) as (outbox, metrics):
        for burst in bursts:
            for _ in range(burst):
                say("put", n)
                outbox.put(body(n, size), n)
                n += 1
            # Nobody else wants to know when one is written, so that there is nothing to wait for.
            while outbox._unwritten:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert not metrics.counts["outbox.unwritten"]
            say("held", n - 1)
            rows = await outbox.oldest()
            through = rows[len(rows) // 2].seq  # always leaves some
            say("done", through)
            outbox.acknowledge(through)
    return n


async def lives(path: Path, runs: int) -> None:
    """One after the other."""
    n = 1
    for bursts, size in list(zip(LIVES, SIZES, strict=True))[:runs]:
        n = await live(path, bursts, first=n, size=size)


if __name__ == "__main__":
    asyncio.run(lives(Path(sys.argv[1]), int(sys.argv[2])))
