"""Clocks that run off and networks that jitter, on virtual time: an hour of sound and pictures in seconds."""

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np

from agent.clock import MS, SECOND
from agent.remote.offset import OffsetFilter
from agent.types import AUDIO_RATE_HZ, F32, Audio, Sample
from sensors.microphone import Block, Timeline
from sensors.soundline import AudioClockFit
from sensors.stamps import PtsMap

EVENT_NS = 10 * SECOND
"""A click and a flash at each multiple of it."""
BLOCK_NS = 20 * MS
"""Of sound, in `line_of_an_hour`."""


class Microphone:
    """A sound card at 44.1 or 48 kHz whose crystal is off, with callbacks up to 20 ms late, and beeps each minute."""

    DELAY_NS = 35 * MS
    """From the first sample of a block to a callback that is not late; what the driver claims wanders around it."""

    def __init__(self, *, ppm: float, rate_hz: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._slowness = 1 + ppm * 1e-6
        self._rate_hz = rate_hz
        self._size = rate_hz // 10
        self.drops: Counter[str] = Counter()
        self.timeline = Timeline("microphone", self.drops)

    def samples(self, *, hours: float, every_ns: int) -> Iterator[Sample]:
        """What the timeline makes of it; a click at each multiple of `every_ns` of true time."""
        arrived_ns = 0
        for n in range(round(hours * 36_000)):
            first = n * self._size
            begin_ns, end_ns = (
                round(count / self._rate_hz * SECOND * self._slowness) for count in (first, first + self._size)
            )
            arrived_ns = max(arrived_ns, end_ns + 15 * MS + int(self._rng.uniform(0, 20 * MS)))
            claim_ns = end_ns - begin_ns + 15 * MS + int(self._rng.uniform(-8 * MS, 8 * MS))
            block = Block(
                pcm=self._clicks(begin_ns, end_ns, every_ns),
                first=first,
                delay_ns=claim_ns,
                arrival_ns=arrived_ns,
                lost=False,
                rate_hz=self._rate_hz,
                started_ns=-SECOND,
            )
            sample = self.timeline.place(block)
            if sample is not None:
                yield sample

    def _clicks(self, begin_ns: int, end_ns: int, every_ns: int) -> F32:
        pcm = np.zeros(self._size, np.float32)
        click_ns = -(-begin_ns // every_ns) * every_ns
        if click_ns < end_ns:
            pcm[(click_ns - begin_ns) * self._size // (end_ns - begin_ns)] = 1
        return pcm


def click_ns(sample: Sample) -> int | None:
    """The instant of the click in a block, if there is one."""
    assert isinstance(sample.payload, Audio)
    at = int(np.argmax(sample.payload.pcm))
    return sample.t_ns + at * SECOND // AUDIO_RATE_HZ if sample.payload.pcm[at] > 0.15 else None


def line_of_an_hour(*, ppm: float, late_ms: float) -> tuple[AudioClockFit, list[int], list[int]]:
    """(fit, spans' ends less the true ones, in ns, gaps between spans), of callbacks up to `late_ms` late."""
    rng = np.random.default_rng(0)
    fit = AudioClockFit()
    wrong, gaps, edge = [], [], None
    for n, late in enumerate(rng.uniform(0, late_ms * MS, 3600 * 50)):
        fit.observe(n * BLOCK_NS, round(n * BLOCK_NS * (1 + ppm * 1e-6) + late))
        start, end = fit.span(n * BLOCK_NS, (n + 1) * BLOCK_NS)
        wrong.append(end - round((n + 1) * BLOCK_NS * (1 + ppm * 1e-6)))
        gaps.append(0 if edge is None else start - edge)
        edge = end
    return fit, wrong, gaps


def clicks_of_an_hour(microphone: Microphone) -> dict[int, int]:
    """By event the stamp of its click. Blocks meet without gap or overlap, which is asserted."""
    heard: dict[int, int] = {}
    edge_ns = None
    for sample in microphone.samples(hours=1, every_ns=EVENT_NS):
        assert edge_ns is None or sample.t_ns == edge_ns
        edge_ns = sample.end_ns
        instant_ns = click_ns(sample)
        if instant_ns is not None:
            heard[round(instant_ns / EVENT_NS)] = instant_ns
    return heard


def flashes_of_an_hour(*, ppm: float, seed: int) -> dict[int, int]:
    """By event the stamp of its frame: 10 frames/s by a clock that is off, over a network that jitters by 20 ms."""
    rng = np.random.default_rng(seed)
    pts_map, seen, arrived_ns = PtsMap(), dict[int, int](), 0
    for n, late in enumerate(rng.exponential(20 * MS, 36_000)):
        arrived_ns = max(arrived_ns, n * 100 * MS + round(late))
        stamp_ns = pts_map.stamp(round(n * 100 * MS / (1 + ppm * 1e-6)), arrived_ns)
        if n % 100 == 0:
            seen[n // 100] = stamp_ns
    return seen


def offset_errors(*, ppm: float, way_ms: float, jitter_ms: float, seed: int) -> tuple[list[float], list[float]]:
    """Ten minutes of probes of a clock that drifts, in bursts of 8 each 5 s: errors in ms from the second minute on.

    Of the filter; and of the probe with the least round trip of each burst alone, as Lab Streaming Layer takes it.
    """
    chance, estimate = random.Random(seed), OffsetFilter()
    ours: list[float] = []
    quickest: list[float] = []

    def off_ns(t_ns: int) -> float:
        return 12_345 * SECOND + ppm * 1e-6 * t_ns

    for burst in range(120):
        probes = []
        for k in range(8):
            t0 = burst * 5 * SECOND + k * 64 * MS
            there, back = (round((way_ms + chance.expovariate(1 / jitter_ms)) * MS) for _ in range(2))
            t1, t2 = (round(t + off_ns(t)) for t in (t0 + there, t0 + there + 30_000))
            t3 = t0 + there + 30_000 + back
            assert estimate.add(t0, t1, t2, t3)
            probes.append((t3 - t0 - (t2 - t1), (t1 - t0 + t2 - t3) / 2))
        for later in range(1, 6):
            t_ns = burst * 5 * SECOND + later * SECOND
            if t_ns >= 60 * SECOND:
                ours.append(abs(estimate.at(t_ns).offset_ns - off_ns(t_ns)) / MS)
                quickest.append(abs(min(probes)[1] - off_ns(t_ns)) / MS)
    return ours, quickest
