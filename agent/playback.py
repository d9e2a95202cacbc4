"""Replay on the virtual clock: the recorded order of arrival, encoders that take no time, the same result each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from agent.clock import RealClock, VirtualClock
from agent.pipeline import Pipeline
from agent.types import Decided, Sample, Watermark, Window

Pace = Callable[[int], Awaitable[None]]
"""Waits until the virtual instant, in ns from the start, may come."""


class Pacer:
    """Waits so that a replay runs ``speed`` times as fast as it was recorded."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._clock = RealClock()
        self._start_ns = self._clock.now_ns()

    async def __call__(self, t_ns: int) -> None:
        await self._clock.sleep_until(self._start_ns + round(t_ns / self._speed))


async def play(
    events: Iterable[Sample | Watermark], pipeline: Pipeline, clock: VirtualClock, *, pace: Pace | None = None
) -> AsyncIterator[Decided]:
    """The decisions over ``events``, which come in the order in which they arrived.

    No window is skipped. An utterance is transcribed at the instant at which its window was cut. ``pace`` slows the
    replay down to a person's time without changing anything in it.
    """
    window = pipeline.window
    for event in events:
        arrival_ns = event.arrival_ns if isinstance(event, Sample) else event.t_ns
        while (due_ns := window.due_ns()) < arrival_ns:  # what was due before this came
            async for decided in _decide(due_ns, pipeline, clock, pace):
                yield decided
        if pace:
            await pace(arrival_ns)
        clock.advance_to(arrival_ns)
        pipeline.feed(event)
        async for decided in _decide(arrival_ns, pipeline, clock, pace):
            yield decided


async def _decide(now_ns: int, pipeline: Pipeline, clock: VirtualClock, pace: Pace | None) -> AsyncIterator[Decided]:
    windows: list[Window] = pipeline.window.cut(now_ns)
    if not windows:
        return
    if pace:
        await pace(now_ns)
    clock.advance_to(now_ns)
    for cut in windows:
        decided = await pipeline.decide(cut)
        yield decided
        for utterance in decided.utterances:
            sample = await pipeline.transcribe(utterance)
            if sample is not None:
                pipeline.feed(sample)
