"""Drives a pipeline by the virtual clock: what came in the order in which it came, encoders that take no time."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing

from agent.ahead import ahead
from agent.clock import RealClock, VirtualClock
from agent.deciding.pipeline import Pipeline
from agent.recording.format import Entry, Fed, Mark, Reloaded, Switched, Told
from agent.types import Decided, Sample, Watermark, Window

log = logging.getLogger(__name__)

AHEAD = 32
"""Events that are decoded at a time: about a third of a second, ten pictures of them."""

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
    events: Iterable[Sample | Watermark | Entry], pipeline: Pipeline, clock: VirtualClock, *, pace: Pace | None = None
) -> AsyncGenerator[Decided, None]:
    """The decisions over ``events``, which come in the order in which they arrived.

    No window is skipped. An utterance is transcribed at the instant at which its window was cut. ``pace`` slows the
    replay down to a person's time without changing anything in it.
    """
    window, start_ns = pipeline.window, clock.now_ns()
    async with aclosing(ahead(iter(events), count=AHEAD, name="decoder")) as decoded:
        async for event in decoded:
            at_ns, what = _arrived(event)
            while (due_ns := window.due_ns()) < at_ns:  # what was due before this came
                async for decided in _decide(due_ns, pipeline, clock, pace and (pace, start_ns)):
                    yield decided
            if pace:
                await pace(at_ns - start_ns)
            clock.advance_to(at_ns)
            match what:
                case Mark():
                    pipeline.mark(what.source, what.state)
                case Switched(on=False):
                    pipeline.suspend()
                    await pipeline.forget()
                case Switched():
                    pipeline.resume()
                case Reloaded():
                    warn_of_reload(what)
                case _:
                    pipeline.feed(what)
            async for decided in _decide(at_ns, pipeline, clock, pace and (pace, start_ns)):
                yield decided


def warn_of_reload(reloaded: Reloaded) -> None:
    """In the log: a replay does not read the config anew."""
    log.warning(
        "the config was reloaded while this was recorded, which a replay does not: what was decided then may differ"
        " from here on, by %s",
        ", ".join(reloaded.changed),
    )


def _arrived(event: Sample | Watermark | Entry) -> tuple[int, Fed]:
    match event:
        case Sample():
            return event.arrival_ns, event
        case Watermark():
            return event.t_ns, event
        case Entry(at_ns, what):
            assert not isinstance(what, Told), "not fed"
            return at_ns, what


async def _decide(
    now_ns: int, pipeline: Pipeline, clock: VirtualClock, paced: tuple[Pace, int] | None
) -> AsyncIterator[Decided]:
    windows: list[Window] = pipeline.window.cut(now_ns)
    if not windows:
        return
    if paced:
        pace, start_ns = paced
        await pace(now_ns - start_ns)
    clock.advance_to(now_ns)
    for cut in windows:
        decided = await pipeline.decide(cut)
        yield decided
        for utterance in decided.utterances:
            sample = await pipeline.transcribe(utterance)
            if sample is not None:
                pipeline.feed(sample)
