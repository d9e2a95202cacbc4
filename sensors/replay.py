"""A recorded session played as if it happened now."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from agent.clock import Clock
from agent.types import Sample, Watermark
from sensors.session import Session, arrival_ns
from sensors.session_files import SessionError

log = logging.getLogger(__name__)


class ReplaySensor:
    """A `Sensor` that feeds all the sources of a session in real time: at the pace of `clock`, from its now on.

    With `loop` the next round goes on where the last one ended; otherwise it ends with the session. It also ends, with
    a warning, where a file turns out to be damaged: starting again would play the same part for ever.
    """

    AHEAD = 4
    """Events that are decoded at a time, while as many wait: enough to hide a key frame, and few frames in memory."""

    def __init__(self, session: Session, *, clock: Clock, loop: bool = False, name: str = "replay") -> None:
        self.name = name
        self.sources = session.sources
        self.drops: Counter[str] = Counter()
        self._session = session
        self._clock = clock
        self._loop = loop

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        epoch_ns = self._clock.now_ns()
        while True:
            events = self._session.events()
            # Decoding a frame takes milliseconds, so it has a thread of its own; one, for order and for the decoders.
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name} decoder")
            try:
                async for event in self._decoded(events, thread):
                    await self._clock.sleep_until(epoch_ns + arrival_ns(event))
                    yield _shifted(event, epoch_ns)
            except SessionError as error:
                log.warning("%s: %s; the session ends here", self.name, error)
                return
            finally:
                # In the thread that runs them: let go of the generators, and with them of the files.
                thread.submit(events.close)
                thread.shutdown(wait=False)
            epoch_ns += self._session.duration_ns
            if not self._loop:
                return

    async def _decoded(
        self, events: Iterator[Sample | Watermark], thread: ThreadPoolExecutor
    ) -> AsyncGenerator[Sample | Watermark, None]:
        """`events`, of which the next few are decoded while the last few are waited for."""
        ahead = thread.submit(_take, events, self.AHEAD)
        while batch := await asyncio.wrap_future(ahead):
            ahead = thread.submit(_take, events, self.AHEAD)
            for event in batch:
                yield event


def _take(events: Iterator[Sample | Watermark], count: int) -> list[Sample | Watermark]:
    return list(itertools.islice(events, count))


def _shifted(event: Sample | Watermark, by_ns: int) -> Sample | Watermark:
    if isinstance(event, Watermark):
        return Watermark(event.source, event.t_ns + by_ns)
    return replace(event, t_ns=event.t_ns + by_ns, end_ns=event.end_ns + by_ns, arrival_ns=event.arrival_ns + by_ns)
