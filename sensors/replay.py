"""A recorded session played as if it happened now."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
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

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        epoch_ns = self._clock.now_ns()
        epoch_ns -= self._session.start_ns
        while True:
            events = ahead(self._session.events(), count=self.AHEAD, name=f"{self.name} decoder")
            try:
                # Decoding a frame takes milliseconds, so it has a thread of its own.
                async with aclosing(events):
                    async for event in events:
                        due_ns = epoch_ns + arrival_ns(event)
                        await self._clock.sleep_until(due_ns)
                        if (behind_ns := self._clock.now_ns() - due_ns) > SLIP_NS:
                            epoch_ns += behind_ns
                            self.drops["slipped"] += 1
                        yield _shifted(event, epoch_ns)
            except SessionError as error:
                log.warning("%s: %s; the session ends here", self.name, error)
                return
            epoch_ns += self._session.duration_ns
            if not self._loop:
                return


def _shifted(event: Sample | Watermark, by_ns: int) -> Sample | Watermark:
    if isinstance(event, Watermark):
        return Watermark(event.source, event.t_ns + by_ns)
    return replace(event, t_ns=event.t_ns + by_ns, end_ns=event.end_ns + by_ns, arrival_ns=event.arrival_ns + by_ns)
