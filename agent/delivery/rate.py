"""How much of what comes in from outside is looked at. Pure."""

from __future__ import annotations

from agent.clock import SECOND


class RateLimit:
    """At most so many a second on the average, and as many at once."""

    def __init__(self, rate_hz: float) -> None:
        """At least 1."""
        self._rate_hz = rate_hz
        self._left = float(rate_hz)
        self._at_ns: int | None = None

    def passes(self, now_ns: int) -> bool:
        """Whether one more is within the limit at `now_ns`."""
        elapsed_ns = 0 if self._at_ns is None else now_ns - self._at_ns
        self._at_ns = now_ns
        self._left = min(float(self._rate_hz), self._left + elapsed_ns / SECOND * self._rate_hz)
        if self._left < 1:
            return False
        self._left -= 1
        return True
