"""An agent that lives in a test, by the real clock: real sensors, scripted encoders, and a look at what it decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from agent.clock import RealClock
from agent.health.metrics import Metrics
from agent.live import LiveAgent
from agent.seams import Sensor
from agent.types import Decided, Decision, Sample, Watermark
from agent.window import SourceState
from tests.scripted import ScriptedEncoder, pipeline

PATIENCE_S = 40.0
"""What a loaded machine may take; nothing here waits for it to pass."""


class Seen:
    """An `agent.seams.Observer` that remembers, and whom a test can wait for."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.decisions: list[Decision] = []
        self.samples: list[Sample] = []
        self.states: list[tuple[str, SourceState]] = []
        self._news = asyncio.Event()

    def fed(self, item: Sample | Watermark) -> None:
        if isinstance(item, Sample):
            self.samples.append(item)
            self._news.set()

    def marked(self, source: str, state: SourceState) -> None:
        self.states.append((source, state))
        self._news.set()

    def decided(self, decided: Decided) -> None:
        self.decisions.append(decided.decision)
        self._news.set()

    def failures(self, sensor: str) -> int:
        """How often it has failed so far."""
        return self.metrics.counts[f"{sensor}.failures"]

    async def until(self, true: Callable[[], bool]) -> None:
        """Return once it is true, looked at whenever something happens."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def until_decided(self, wanted: Callable[[Decision], bool]) -> Decision:
        """The first decision from now on that is wanted."""
        known = len(self.decisions)
        found: list[Decision] = []

        def look() -> bool:
            found.extend(decision for decision in self.decisions[known:] if wanted(decision))
            return bool(found)

        await self.until(look)
        return found[0]

    async def until_samples(self, count: int, wanted: Callable[[Sample], bool] = lambda sample: True) -> list[Sample]:
        """The first so many samples from now on that are wanted."""
        known = len(self.samples)

        def found() -> list[Sample]:
            return [sample for sample in self.samples[known:] if wanted(sample)][:count]

        await self.until(lambda: len(found()) == count)
        return found()


@contextlib.asynccontextmanager
async def living(sensors: Sequence[Sensor], *encoders: ScriptedEncoder) -> AsyncIterator[Seen]:
    """Run an agent with these until the end of the block; what ends it earlier is raised."""
    clock = RealClock()
    made = pipeline(clock, *encoders, sources=[source for sensor in sensors for source in sensor.sources])
    seen = Seen(made.metrics)
    agent = LiveAgent(made, sensors=sensors, clock=clock, sinks=(), observers=[seen])
    task = asyncio.create_task(agent.run(), name="agent")
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_raise(task))
            yield seen
            watch.cancel()
    finally:
        task.cancel()
        await asyncio.wait([task])
        made.close()


async def _raise(task: asyncio.Task[None]) -> None:
    """End with what the agent ends with: no test waits in vain for one that has died."""
    await asyncio.wait([task])
    task.result()
