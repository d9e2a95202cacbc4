"""When the world produced what a stream delivers: its PTS on our clock. Pure arithmetic on instants, no I/O."""

from __future__ import annotations

from collections import deque

from agent.clock import SECOND


class SlidingMin:
    """The least of the values seen within the last `window_ns`; amortised constant time per value."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._rising: deque[tuple[int, int]] = deque()

    def add(self, value: int, now_ns: int) -> int:
        """Take in `value`, seen at `now_ns` (which never falls), and return the least."""
        while self._rising and self._rising[-1][1] >= value:
            self._rising.pop()
        self._rising.append((now_ns, value))
        while self._rising[0][0] < now_ns - self._window_ns:
            self._rising.popleft()
        return self._rising[0][1]

    def clear(self) -> None:
        """Forget everything."""
        self._rising.clear()


class PtsMap:
    """Maps a stream's PTS onto our clock by the least of arrival − PTS over a sliding minute.

    The way through network and decoder only ever adds delay, so the quickest frame of the last minute shows best how
    the two clocks stand to one another. The result never exceeds the arrival. It lags behind a sender whose clock is
    slow by what that loses in the minute: 6 ms at 100 ppm.

    A demuxer that finds the end of a frame only in a later one holds `held` frames back, always; the least that so
    many frames took, by their PTS, is taken off.

    PTS that wrap around (MPEG-TS: 33 bits at 90 kHz, RTP: 32) go on; those that jump back otherwise are a stream that
    began anew, and so does the map. While frames come faster than their PTS say, `opening` is true: they waited
    somewhere until the stream was opened, how long nobody knows, so that their stamps are those of their arrival.

    Some demuxers invent PTS by counting frames. Where the count runs slower than the clock, mapped stamps would fall
    ever further behind: if even the quickest of the last 5 s is more than `lag_ns` behind the quickest of the minute,
    the map starts again, and at the third time within `FORGIVE_NS` from one to the next (`trusted` turns false)
    arrival is all that is left to go by.
    """

    DISTRUST_AFTER = 3
    SAME_AFTER = 5
    """One PTS may come twice; one that comes again as often as this is none, and arrival is all there is at once."""
    FORGIVE_NS = 600 * SECOND
    """A network may stall for long now and then; PTS that are invented lag again and again."""
    OPENING_NS = 2 * SECOND
    """What is decoded in one go when a stream was opened takes less."""
    WRAPS_NS = (2**33 * SECOND // 90_000, 2**32 * SECOND // 90_000)
    WRAP_GAP_NS = 10 * SECOND
    """A wrap goes on within this; else it is a jump."""

    def __init__(
        self, *, window_ns: int = 60 * SECOND, recent_ns: int = 5 * SECOND, lag_ns: int = SECOND, held: int = 0
    ):
        self._quickest = SlidingMin(window_ns)
        self._recent = SlidingMin(recent_ns)
        self._steps = SlidingMin(window_ns)
        self._lag_ns = lag_ns
        self._newest: deque[int] = deque(maxlen=held + 1)
        self._last: tuple[int, int] | None = None
        self._wrapped_ns = 0
        self._begun_ns: int | None = None
        self._same = 0
        self._lagged = 0
        self._lagged_ns = 0
        self.opening = True
        """Whether the frame that was stamped last had waited for the stream to be opened, or may have."""
        self.restarts = 0
        """How often the PTS jumped back or lagged, so that the map started again."""

    @property
    def trusted(self) -> bool:
        """Whether the PTS keep pace with the clock."""
        return self._lagged < self.DISTRUST_AFTER

    def stamp(self, pts_ns: int, arrival_ns: int) -> int:
        """The instant of the frame with `pts_ns` that came at `arrival_ns` (which never falls), in ns on our clock."""
        if not self.trusted:
            return arrival_ns
        pts_ns = self._unwrapped(pts_ns)
        self._same = self._same + 1 if self._last is not None and pts_ns == self._last[0] else 0
        if self._same == self.SAME_AFTER:
            self._lagged, self.opening = self.DISTRUST_AFTER, False
            return arrival_ns
        self._open(pts_ns, arrival_ns)
        self._last = pts_ns, arrival_ns
        offset_ns = arrival_ns - pts_ns
        recent_ns = self._recent.add(offset_ns, arrival_ns)
        quickest_ns = self._quickest.add(offset_ns, arrival_ns)
        if recent_ns - quickest_ns > self._lag_ns:
            self._lag(arrival_ns)
            return arrival_ns
        self._newest.append(pts_ns)
        held_ns = self._steps.add(pts_ns - self._newest[0], arrival_ns) if self._full else 0
        return pts_ns + quickest_ns - held_ns

    @property
    def _full(self) -> bool:
        return len(self._newest) == self._newest.maxlen

    def _unwrapped(self, pts_ns: int) -> int:
        pts_ns += self._wrapped_ns
        if self._last is None or pts_ns >= self._last[0]:
            return pts_ns
        for wrap_ns in self.WRAPS_NS:
            if 0 <= pts_ns + wrap_ns - self._last[0] < self.WRAP_GAP_NS:
                self._wrapped_ns += wrap_ns
                return pts_ns + wrap_ns
        self._restart()
        return pts_ns

    def _open(self, pts_ns: int, arrival_ns: int) -> None:
        if self._begun_ns is None:
            self._begun_ns = arrival_ns
        elif self.opening:
            waited = self._last is None or 2 * (arrival_ns - self._last[1]) < pts_ns - self._last[0]
            self.opening = waited and arrival_ns - self._begun_ns < self.OPENING_NS

    def _lag(self, arrival_ns: int) -> None:
        if arrival_ns - self._lagged_ns > self.FORGIVE_NS:
            self._lagged = 0
        self._lagged, self._lagged_ns = self._lagged + 1, arrival_ns
        self._restart()

    def _restart(self) -> None:
        self.restarts += 1
        self._last = None
        self._newest.clear()
        for least in (self._quickest, self._recent, self._steps):
            least.clear()
