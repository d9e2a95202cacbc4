"""A network camera that goes after a few pictures, again and again: what is left behind each time."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from agent.clock import MS, SECOND, RealClock
from agent.health.metrics import Metrics
from agent.supervisor import Backoff, supervise
from agent.types import Sample, Watermark
from sensors.camera import CameraSensor
from tests.faults.pictures import PictureServer, jpeg, noise
from tests.soak.usage import Usage

LOOK_EVERY = 10
PICTURES = 6
"""Before it goes; the first few are what the stream is recognised by."""


class Brief(PictureServer):
    """Sends `PICTURES`, three times as fast as cameras do, and cuts the connection."""

    PAUSE_S = 0.012

    def __init__(self) -> None:
        super().__init__()
        self.show(jpeg(noise(1, size=(48, 64))))

    def pieces(self) -> Iterator[bytes]:
        return itertools.islice(super().pieces(), PICTURES)


@dataclass(slots=True)
class Delivered:
    """How many pictures came through."""

    pictures: int = 0


async def soak(times: int, delivered: Delivered) -> AsyncIterator[Usage]:
    """What this process holds after each `LOOK_EVERY` reconnects; ``at_s`` counts them."""
    metrics, clock, lost = Metrics(), RealClock(), asyncio.Event()
    async with Brief() as server:
        sensor = CameraSensor("camera", device=f"http://127.0.0.1:{server.port}", stall_ns=2 * SECOND)

        def feed(item: Sample | Watermark) -> None:
            delivered.pictures += isinstance(item, Sample)

        supervised = asyncio.create_task(
            supervise(
                sensor,
                feed=feed,
                mark=lambda source, state: lost.set(),
                clock=clock,
                metrics=metrics,
                backoff=Backoff(first_ns=MS, cap_ns=MS),
            )
        )
        try:
            for count in range(0, times + 1, LOOK_EVERY):
                while metrics.counts["camera.failures"] < count:
                    lost.clear()
                    await lost.wait()
                yield Usage.of(os.getpid(), float(metrics.counts["camera.failures"]))
        finally:
            supervised.cancel()
            await asyncio.wait([supervised])
