"""Which of many equal messages are said: what flaps would bury all others in the log. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.clock import SECOND

FIRST_NS = 60 * SECOND
"""A message is said again after that long at the earliest, then after twice as long…"""
CAP_NS = 3600 * SECOND
"""…up to that."""
KEPT = 32
"""Messages that are remembered; what outsiders bring about could be said in ever new words."""


@dataclass(slots=True)
class _Known:
    said_ns: int
    pause_ns: int = FIRST_NS
    since: int = 0
    """Times that it was not said since."""


class Repeats:
    """The first of equal messages is said at once, the others now and then, with how many there were."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def due(self, message: str, now_ns: int, *, lasting_ns: int = 0) -> str | None:
        """The message as it is to be said now; None where it is only counted.

        One that did not come for as long as it would have been kept quiet is news again. What has been so for
        ``lasting_ns`` without a break is said after `FIRST_NS`, however often it was said before.
        """
        known = self._known.get(message)
        passed_ns = now_ns - known.said_ns if known else 0
        if known is None or (not known.since and passed_ns >= known.pause_ns):
            self._known.pop(message, None)
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[message] = _Known(now_ns)
            return message
        known.since += 1
        if passed_ns < known.pause_ns and lasting_ns < FIRST_NS:
            return None
        times, known.since = known.since, 0
        known.said_ns, known.pause_ns = now_ns, min(CAP_NS, 2 * known.pause_ns)
        return f"{message} ({times} times in the last {passed_ns / SECOND:.0f} s)"
