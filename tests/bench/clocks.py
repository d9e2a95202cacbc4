"""How far off stamps are when clocks run off and networks jitter: hours of virtual time in seconds."""

import statistics
import time

from agent.clock import MS, SECOND
from agent.remote.offset import OffsetFilter
from tests.drift import Microphone, clicks_of_an_hour, flashes_of_an_hour, line_of_an_hour, offset_errors

PPM = 100.0
PLACED = 20_000


def sound() -> None:
    """A line fitted to callbacks up to 20 ms late, an hour."""
    found = [line_of_an_hour(ppm=ppm, late_ms=20)[1] for ppm in (-PPM, PPM)]
    off_ms = [max(max(map(abs, wrong[skip:])) for wrong in found) / MS for skip in (0, 50, 3_000)]
    print(
        f"sound, +-100 ppm, callbacks up to 20 ms late, an hour: at most {off_ms[0]:.1f} ms off,"
        f" {off_ms[1]:.1f} ms after a second, {off_ms[2]:.1f} ms after a minute"
    )


def pictures() -> None:
    """PTS mapped to the clock over a network that jitters, an hour."""
    for ppm in (-PPM, PPM):
        seen = flashes_of_an_hour(ppm=ppm, seed=6)
        off_ms = [(stamp_ns - event * 10 * SECOND) / MS for event, stamp_ns in seen.items() if event >= 6]
        print(f"pictures by PTS, {ppm:+.0f} ppm, an hour: {min(off_ms):+.1f} to {max(off_ms):+.1f} ms after a minute")


def both() -> None:
    """Flash less beep with the two clocks off in opposite directions, an hour."""
    for audio_ppm, rate_hz in ((PPM, 48_000), (-PPM, 44_100)):
        heard = clicks_of_an_hour(Microphone(ppm=audio_ppm, rate_hz=rate_hz, seed=5))
        seen = flashes_of_an_hour(ppm=-audio_ppm, seed=6)
        most_ms = max(abs(seen[event] - heard[event]) for event in heard.keys() & seen.keys()) / MS
        print(f"flash less beep, sound {audio_ppm:+.0f} ppm, pictures {-audio_ppm:+.0f}: at most {most_ms:.1f} ms")


def offsets() -> None:
    """A remote clock by round trips, ten minutes; and what placing one stamp costs."""
    for way_ms, jitter_ms in ((0.2, 0.1), (2.0, 2.0), (10.0, 20.0)):
        ours, quickest = offset_errors(ppm=PPM, way_ms=way_ms, jitter_ms=jitter_ms, seed=1)
        print(
            f"remote clock, 100 ppm, {way_ms} ms each way, jitter {jitter_ms} ms: {statistics.mean(ours):.3f} ms off on"
            f" average, at most {max(ours):.3f}; by the quickest probe of a burst {statistics.mean(quickest):.3f}"
        )
    estimate = OffsetFilter()
    for n in range(240):
        estimate.add(n * SECOND, n * SECOND + MS, n * SECOND + MS, n * SECOND + 2 * MS)
    begin_ns = time.thread_time_ns()
    for n in range(PLACED):
        estimate.local_ns(240 * SECOND + n)
    print(f"placing a remote stamp: {(time.thread_time_ns() - begin_ns) / PLACED / 1_000:.1f} µs")


def main() -> None:
    sound()
    pictures()
    both()
    offsets()
