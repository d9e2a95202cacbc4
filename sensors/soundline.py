"""When sound was made: the line of a sound card's blocks on our clock. Pure arithmetic on instants, no I/O."""

from __future__ import annotations

import math
from collections import deque

from agent.clock import MS, SECOND


class AudioClockFit:
    """The line of arrivals: when a block of sound arrives that is not late, by its place in the stream.

    A running linear fit, with exponential forgetting, of arrivals against the stream's own time (sample count over
    nominal rate, in ns). Its slope is the drift of the sound card's crystal. Callbacks may be late, by 20 ms and more
    on a busy machine, but never early; so what lies after the line counts `LATE` of what lies before it (the weights of
    expectile regression, Newey and Powell 1987), and the line runs along the early edge of the arrivals. The slope is
    pulled towards 0 by what crystals are known to do (±100 ppm against a jitter of some 2 ms), so that the first
    seconds do not swing.
    """

    FORGET_S = 30.0
    RIDGE_S2 = (2e-3 / 100e-6) ** 2
    """Variance of the jitter over variance of the drift: the prior's weight in a Bayesian linear regression."""
    LATE = 0.02
    JUMP_NS = 50 * MS
    """An arrival further than this from the line is left out…"""
    JUMP_AFTER = 5
    """…and this many in a row are a jump of the stream: one late callback must not move the time line."""
    SHIFT_NS = 5 * MS
    """No arrival can be earlier than the line by more than this, so `JUMP_AFTER` of them in a row are a jump too…"""
    SHIFT_AFTER = 50
    """…and so are this many in a row that are later by more than `SHIFT_NS`: more sound is held back than before, or
    some was lost and nobody said so."""

    def __init__(self) -> None:
        self.restarts = 0
        """How often the fit started again."""
        self._edge: tuple[int, int] | None = None
        self._recent: deque[tuple[int, int]] = deque(maxlen=self.SHIFT_AFTER)
        self._clear()

    def _clear(self) -> None:
        self._base_ns: int | None = None
        self._at_ns = 0
        self._outliers = self._late = 0
        # Sums over (x, d), each weighted by its age: x in s, 0 at the newest measurement; d in ns, 0 at the first.
        self._w = self._x = self._d = self._xx = self._xd = 0.0
        self._drift = self._now_d = 0.0

    def restart(self) -> None:
        """Begin again with the next arrival: what was measured so far no longer holds, and sound was lost."""
        self.restarts += 1
        self._edge = None if self._edge is None else (-1, self._edge[1])
        self._recent.clear()
        self._clear()

    def observe(self, stream_ns: int, t_ns: int) -> int | None:
        """Take in that stream time `stream_ns` arrived at `t_ns`.

        When that showed that the line is another, the fit starts again with the arrivals that showed it, and this
        returns how much later the line is now, in ns.
        """
        self._recent.append((stream_ns, t_ns))
        if self._base_ns is not None:
            expected_ns = self.at(stream_ns)
            late_ns = t_ns - expected_ns
            self._outliers = self._outliers + 1 if not -self.SHIFT_NS <= late_ns <= self.JUMP_NS else 0
            self._late = self._late + 1 if late_ns > self.SHIFT_NS else 0
            if self._outliers >= self.JUMP_AFTER or self._late >= self.SHIFT_AFTER:
                # Of those that were merely late, the first may have been so for another reason.
                shown = self._outliers if self._outliers >= self.JUMP_AFTER else self.SHIFT_AFTER // 2
                self._begin_with(list(self._recent)[-shown:])
                return self.at(stream_ns) - expected_ns
            if abs(late_ns) > self.JUMP_NS:
                return None
        self._add(stream_ns, t_ns)
        return None

    def _begin_with(self, shown: list[tuple[int, int]]) -> None:
        self.restarts += 1
        self._clear()
        for stream_ns, t_ns in shown:
            self._add(stream_ns, t_ns)

    def _add(self, stream_ns: int, t_ns: int) -> None:
        if self._base_ns is None:
            self._base_ns, self._at_ns = t_ns - stream_ns, stream_ns
            weight = self.LATE
        else:
            weight = self.LATE if t_ns > self.at(stream_ns) else 1.0
        step = (stream_ns - self._at_ns) / SECOND
        self._at_ns = stream_ns
        forget = math.exp(-step / self.FORGET_S)
        self._xx = forget * (self._xx - 2 * step * self._x + step * step * self._w)
        self._xd = forget * (self._xd - step * self._d)
        self._x = forget * (self._x - step * self._w)
        self._w = forget * self._w + weight
        self._d = forget * self._d + weight * (t_ns - stream_ns - self._base_ns)
        spread = self._w * self._xx - self._x**2 + self.RIDGE_S2 * self._w
        self._drift = (self._w * self._xd - self._x * self._d) / spread / SECOND
        self._now_d = (self._d - self._drift * SECOND * self._x) / self._w

    @property
    def drift(self) -> float:
        """How much slower the stream's clock runs than ours: 1e-6 is one ppm."""
        return self._drift

    def at(self, stream_ns: int) -> int:
        """Our clock at stream time `stream_ns`. At least one measurement must have been taken in."""
        if self._base_ns is None:
            raise ValueError("no measurement yet")
        return stream_ns + self._base_ns + round(self._now_d + self._drift * (stream_ns - self._at_ns))

    def span(self, begin_ns: int, end_ns: int, *, delay_ns: int = 0, latest_ns: int | None = None) -> tuple[int, int]:
        """Our clock, `delay_ns` before the line, at both ends of the block from stream time `begin_ns` to `end_ns`.

        A block that follows the last one begins where that one ended, unless sound was lost between them, and ends by
        `latest_ns`. Time never runs backwards: where a block would begin after its end, after a jump back, it lasts
        half its time, and so do those that follow until the line has caught up.
        """
        start, stop = self.at(begin_ns) - delay_ns, self.at(end_ns) - delay_ns
        if self._edge is not None:
            edge_begin, edge = self._edge
            contiguous = begin_ns == edge_begin and abs(start - edge) <= self.JUMP_NS
            start = edge if contiguous else max(start, edge)
        if latest_ns is not None:
            stop = min(stop, latest_ns)
        stop = max(stop, start + (end_ns - begin_ns) // 2)
        self._edge = end_ns, stop
        return start, stop


class DelayGuard:
    """Tells whether a sound system's word on its delay can be believed, and what it comes to.

    The delay between converter and callback is a property of the device and its buffers. Sound servers claim up to
    half a second and more for half a second and more, until a stream has settled, which would put sound before it was
    made. So a claim is believed when the last `AGREE` of them agree within `SPREAD_NS`; one of more than `USUAL_NS`
    when the last `AGREE_LONG` do, it is no longer than any device needs, and it does not say that the stream's first
    sound was there before the stream was started. What is claimed wanders by 10 ms even then, so the delay is the mean
    of what was believed, over some minutes.
    """

    AGREE = 10
    SPREAD_NS = 30 * MS
    USUAL_NS = 60 * MS
    """What sound cards and sound servers take that were asked to be quick."""
    AGREE_LONG = 50
    MOST_NS = 250 * MS
    """A Bluetooth headset's 200 ms included."""
    FAR_NS = 20 * MS
    """A claim further than this from the mean was made of another delay."""
    REMEMBER = 10_000
    """Claims that the mean is made of at most: 200 s in blocks of 20 ms."""

    def __init__(self) -> None:
        self._agreeing: deque[int] = deque(maxlen=self.AGREE)
        self._alike = 0
        self._mean_ns = 0.0
        self._count = 0

    @property
    def settled(self) -> bool:
        """Whether there were enough claims to judge by."""
        return len(self._agreeing) == self.AGREE

    @property
    def delay_ns(self) -> int | None:
        """The mean of what was taken in; None when nothing was."""
        return round(self._mean_ns) if self._count else None

    def believes(self, delay_ns: int, *, age_ns: int | None = None) -> bool:
        """Hear a claim, and judge it; of a stream that was started `age_ns` before this sound came, where known."""
        self._agreeing.append(delay_ns)
        most_ns = max(self._agreeing)
        agree = most_ns - min(self._agreeing) <= self.SPREAD_NS
        self._alike = self._alike + 1 if agree else 0
        if most_ns <= self.USUAL_NS:
            return self.settled and agree
        possible_ns = self.MOST_NS if age_ns is None else min(self.MOST_NS, age_ns)
        return self._alike >= self.AGREE_LONG and most_ns <= possible_ns

    def add(self, delay_ns: int) -> None:
        """Take a delay that was believed into the mean; one that is far from it begins it anew."""
        if abs(delay_ns - self._mean_ns) > self.FAR_NS:
            self._count = 0
        self._count = min(self._count + 1, self.REMEMBER)
        self._mean_ns += (delay_ns - self._mean_ns) / self._count

    def move(self, by_ns: int) -> None:
        """The line of arrivals is `by_ns` later than it was.

        Where more sound is held back than before, the newest claims are longer by as much; where some was lost, not.
        """
        newest_ns = sum(self._agreeing) / len(self._agreeing)
        if abs(newest_ns - self._mean_ns - by_ns) < abs(newest_ns - self._mean_ns):
            self._mean_ns += by_ns
