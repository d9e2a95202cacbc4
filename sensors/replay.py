"""A recorded session played as if it happened now."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.ahead import ahead
from agent.clock import SECOND, Clock
from agent.types import Sample, Watermark
from sensors.session import Session, arrival_ns
from sensors.session_files import SessionError

if TYPE_CHECKING:
    from sensors.session_mcap import McapSession

log = logging.getLogger(__name__)

SLIP_NS = SECOND // 2
"""Further behind than that the session waits, as one that is stopped and goes on: no window takes what is so late."""


class ReplaySensor:
    """A `Sensor` that feeds all the sources of a session in real time: at the pace of `clock`, from its now on.

    A machine that cannot keep up for `SLIP_NS` makes the session wait, all its sources together, counted as
    ``slipped``. With `loop` the next round goes on where the last one ended; otherwise it ends with the session. It
    also ends, with a warning, where a file turns out to be damaged: starting again would play the same part for ever.

    A stream that was closed before its end, as by a pause, goes on in the next one where it stopped. It decodes anew up
    to there meanwhile, and begins once it has.
    """

    AHEAD = 4
    """Events that are decoded at a time, while as many wait: enough to hide a key frame, and few frames in memory."""

    def __init__(
        self, session: Session | McapSession, *, clock: Clock, loop: bool = False, name: str = "replay"
    ) -> None:
        self.name = name
        self.sources = session.sources
        self.drops: Counter[str] = Counter()
        self._session = session
        self._clock = clock
        self._loop = loop
        self._at_ns = session.start_ns  # in the session: where it is played from…
        self._played = 0  # …and how many of its events were before that

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        epoch_ns = self._clock.now_ns() - self._at_ns
        going_on = self._played > 0
        try:
            while True:
                events = ahead(
                    _after(self._session.events(), self._played), count=self.AHEAD, name=f"{self.name} decoder"
                )
                # Decoding a frame takes milliseconds, so it has a thread of its own.
                async with aclosing(events):
                    async for event in events:
                        due_ns = epoch_ns + arrival_ns(event)
                        await self._clock.sleep_until(due_ns)
                        behind_ns = self._clock.now_ns() - due_ns
                        if going_on or behind_ns > SLIP_NS:
                            epoch_ns += behind_ns
                            self.drops["slipped"] += not going_on
                            going_on = False
                        self._played += 1
                        yield _shifted(event, epoch_ns)
                self._played = 0
                epoch_ns += self._session.duration_ns
                if not self._loop:
                    return
        except SessionError as error:
            log.warning("%s: %s; the session ends here", self.name, error)
        finally:
            self._at_ns = self._clock.now_ns() - epoch_ns


def _after(events: Generator[Sample | Watermark, None, None], count: int) -> Generator[Sample | Watermark, None, None]:
    """Without the first so many."""
    with closing(events):
        yield from itertools.islice(events, count, None)


def _shifted(event: Sample | Watermark, by_ns: int) -> Sample | Watermark:
    if isinstance(event, Watermark):
        return Watermark(event.source, event.t_ns + by_ns)
    return replace(event, t_ns=event.t_ns + by_ns, end_ns=event.end_ns + by_ns, arrival_ns=event.arrival_ns + by_ns)
