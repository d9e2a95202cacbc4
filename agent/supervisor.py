"""Keeps a sensor running: restarts it with growing pauses, closes it while sensing is off, says how it stands."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field

from agent.clock import MS, SECOND, Clock
from agent.health.metrics import Metrics
from agent.health.repeats import Repeats
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


class Switch:
    """Whether sensing is wanted. It is on at first; off means that every sensor is closed, and stays so."""

    def __init__(self) -> None:
        self.opened: dict[str, None] = {}
        """Names of the sensors that have something open, in the order in which they opened it."""
        self._on, self._off, self._moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._on.set()

    @property
    def on(self) -> bool:
        """Whether sensing is wanted."""
        return self._on.is_set()

    def turn(self, *, on: bool) -> None:
        """Want it, or no longer."""
        wanted, other = (self._on, self._off) if on else (self._off, self._on)
        wanted.set()
        other.clear()
        self._moved.set()

    async def until_on(self) -> None:
        """Return once sensing is wanted."""
        await self._on.wait()

    async def until_off(self) -> None:
        """Return once it is not."""
        await self._off.wait()

    async def until_closed(self) -> None:
        """Return once no sensor has anything open, or sensing is wanted again."""
        while self.opened and not self.on:
            self._moved.clear()
            await self._moved.wait()

    def open(self, name: str) -> None:
        """A sensor is about to open what it reads from."""
        self.opened[name] = None

    def closed(self, name: str) -> None:
        """It has let go of everything."""
        del self.opened[name]
        self._moved.set()


async def supervise(
    sensor: Sensor,
    *,
    feed: Callable[[Sample | Watermark], None],
    mark: Callable[[str, SourceState], None],
    clock: Clock,
    metrics: Metrics,
    backoff: Backoff | None = None,
    switch: Switch | None = None,
) -> None:
    """Feed what the sensor delivers until its input ends; after a `SensorError` pause and start it again.

    Its sources are ``FAILED`` between an error and the first thing that comes again, and ``DISABLED`` after the end.
    The pauses grow until it has delivered for `STEADY_NS`.

    While the ``switch`` is off its stream is closed, its sources are ``DISABLED``, and nothing is fed, also not what
    comes while it closes. When that is on again the stream is opened anew, at once: a file from its beginning, a
    recorded session where it stopped. One that hangs in closing is not opened a second time before it has closed.
    """
    switch = switch or Switch()
    watch = _Watch(sensor, mark, clock=clock, metrics=metrics, backoff=backoff or Backoff())
    while True:
        if not switch.on:
            watch.disabled()
            await switch.until_on()
            watch.enabled()
        job = _deliver(sensor, feed, begun=watch.recovered, steady=watch.steady, clock=clock, switch=switch)
        try:
            finished = await _unless_off(switch, job, sensor.name)
        except SensorError as error:
            if switch.on:
                pause_ns = watch.failed(error)
                await _unless_off(switch, clock.sleep_until(clock.now_ns() + pause_ns), sensor.name)
        else:
            if finished:
                watch.disabled()
                log.info("sensor %s has ended", sensor.name)
                return


@dataclass(slots=True)
class _Watch:
    """What is said and counted of one sensor."""

    sensor: Sensor
    mark: Callable[[str, SourceState], None]
    clock: Clock
    metrics: Metrics
    backoff: Backoff
    repeats: Repeats = field(default_factory=Repeats)
    said: str = ""
    """What was said of the trouble that it is in."""
    silent: bool = True
    """Whether the newest that was said of it is not that it delivers."""
    down_ns: int | None = None
    """Since when it has not delivered."""

    def recovered(self) -> None:
        """Its first item came."""
        if self.silent:
            log.info("sensor %s delivers", self.sensor.name)
        self._mark(SourceState.LIVE)
        self.said, self.silent, self.down_ns = "", False, None

    def steady(self) -> None:
        """It has delivered for long."""
        self.backoff.reset()

    def failed(self, error: SensorError) -> int:
        """It cannot go on; returns the pause before it is started again, in ns."""
        self._mark(SourceState.FAILED)
        self.metrics.count(f"{self.sensor.name}.failures")
        pause_ns, now_ns, said = self.backoff.next_ns(), self.clock.now_ns(), str(error)
        self.down_ns = now_ns if self.down_ns is None else self.down_ns
        lasting_ns = 0 if self.silent else now_ns - self.down_ns  # that it delivers must not be what is said of it
        if said != self.said and (message := self.repeats.due(said, now_ns, lasting_ns=lasting_ns)):
            self.said, self.silent = said, True
            log.warning("sensor %s: %s; trying again in %.1f s", self.sensor.name, message, pause_ns / SECOND)
        return pause_ns

    def disabled(self) -> None:
        """Nothing is wanted of it, or nothing will come any more."""
        self._mark(SourceState.DISABLED)

    def enabled(self) -> None:
        """It is wanted again."""
        self.backoff.reset()
        self._mark(SourceState.LIVE)

    def _mark(self, state: SourceState) -> None:
        for source in self.sensor.sources:
            self.mark(source.name, state)


async def _unless_off(switch: Switch, job: Coroutine[None, None, None], name: str) -> bool:
    """Do the job; False where sensing was switched off meanwhile, and the job cancelled and waited for."""
    work = asyncio.create_task(job, name=f"sensor {name} at work")
    off = asyncio.create_task(switch.until_off(), name=f"sensor {name} switched off")
    try:
        await asyncio.wait([work, off], return_when=asyncio.FIRST_COMPLETED)
    finally:
        off.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
    if work.cancelled():
        return False
    work.result()
    return True


async def _deliver(
    sensor: Sensor,
    feed: Callable[[Sample | Watermark], None],
    *,
    begun: Callable[[], None],
    steady: Callable[[], None],
    clock: Clock,
    switch: Switch,
) -> None:
    """Feed one run of the sensor; calls ``begun`` before its first item, ``steady`` at those `STEADY_NS` after it."""
    first_ns: int | None = None
    switch.open(sensor.name)
    try:
        async with aclosing(sensor.stream()) as stream:
            async for item in stream:
                if not switch.on:  # it is about to be closed
                    continue
                now_ns = clock.now_ns()
                if first_ns is None:
                    first_ns = now_ns
                    begun()
                elif now_ns - first_ns >= STEADY_NS:
                    steady()
                feed(item)
    finally:
        switch.closed(sensor.name)
