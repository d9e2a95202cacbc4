"""Keeps a sensor running: restarts it with growing pauses, and tells the window how it stands."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from agent.clock import MS, SECOND, Clock
from agent.metrics import Metrics
from agent.seams import Sensor, SensorError
from agent.types import Sample, Watermark
from agent.window import SourceState

log = logging.getLogger(__name__)

STEADY_NS = 10 * SECOND
"""How long a sensor has to deliver until its next failure counts as the first: one that flaps is not well again."""


@dataclass(slots=True)
class Backoff:
    """Pauses that double up to a cap, each shortened by up to half at random, so that many do not retry in step."""

    first_ns: int = 500 * MS
    cap_ns: int = 30 * SECOND
    attempts: int = 0

    def next_ns(self) -> int:
        """The pause before the next attempt."""
        full_ns = min(self.cap_ns, self.first_ns << min(self.attempts, 32))
        self.attempts += 1
        return round(full_ns * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """It worked: the next pause is the first again."""
        self.attempts = 0


async def supervise(
    sensor: Sensor,
    *,
    feed: Callable[[Sample | Watermark], None],
    mark: Callable[[str, SourceState], None],
    clock: Clock,
    metrics: Metrics,
    backoff: Backoff | None = None,
) -> None:
    """Feed what the sensor delivers until its input ends; after a `SensorError` pause and start it again.

    Its sources are ``FAILED`` between an error and the first thing that comes again, and ``DISABLED`` after the end.
    The pauses grow until it has delivered for `STEADY_NS`.
    """
    backoff = backoff or Backoff()
    said = ""

    def recovered() -> None:
        nonlocal said
        log.info("sensor %s delivers", sensor.name)
        _mark(sensor, mark, SourceState.LIVE)
        said = ""

    while True:
        try:
            await _deliver(sensor, feed, begun=recovered, steady=backoff.reset, clock=clock)
        except SensorError as error:
            _mark(sensor, mark, SourceState.FAILED)
            metrics.count(f"{sensor.name}.failures")
            pause_ns = backoff.next_ns()
            if str(error) != said:  # the same words every half a minute would bury the others
                said = str(error)
                log.warning("sensor %s: %s; trying again in %.1f s", sensor.name, error, pause_ns / SECOND)
            await clock.sleep_until(clock.now_ns() + pause_ns)
        else:
            _mark(sensor, mark, SourceState.DISABLED)
            log.info("sensor %s has ended", sensor.name)
            return


async def _deliver(
    sensor: Sensor,
    feed: Callable[[Sample | Watermark], None],
    *,
    begun: Callable[[], None],
    steady: Callable[[], None],
    clock: Clock,
) -> None:
    """Feed one run of the sensor; calls ``begun`` before its first item, ``steady`` at those `STEADY_NS` after it."""
    first_ns: int | None = None
    async with aclosing(sensor.stream()) as stream:
        async for item in stream:
            now_ns = clock.now_ns()
            if first_ns is None:
                first_ns = now_ns
                begun()
            elif now_ns - first_ns >= STEADY_NS:
                steady()
            feed(item)


def _mark(sensor: Sensor, mark: Callable[[str, SourceState], None], state: SourceState) -> None:
    for source in sensor.sources:
        mark(source.name, state)
