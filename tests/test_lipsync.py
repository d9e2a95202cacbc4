"""Flash and beep of the same instant have the same stamp to within 20 ms, through the real paths and over an hour."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.clock import MS, SECOND
from agent.types import AUDIO_RATE_HZ, F32, Audio, Sample
from sensors.microphone import Block, Timeline
from sensors.stamps import PtsMap
from tests.lipsync import Heard, play
from tests.player import make_flashes
from tests.pulse import Pulse

SECONDS = 12
BOUND_NS = 20 * MS


@pytest.fixture(scope="module")
def pulse() -> Iterator[Pulse]:
    before = dict(os.environ)
    server = Pulse()
    os.environ.update(server.env)
    server.start()
    try:
        yield server
    finally:
        server.close()
        os.environ.clear()
        os.environ.update(before)


async def test_flash_and_beep_of_a_file_through_cameras_and_microphone(pulse: Pulse, tmp_path: Path) -> None:
    """The truth is known: the player says when each frame was sent, and the sound is by its count of samples.

    Two streams' frames are stamped from the same instants: by PTS, and by arrival where there are none.
    """
    file = make_flashes(tmp_path / "flashes.mkv", seconds=SECONDS)
    heard = await play(pulse, file, seconds=SECONDS)
    assert len(heard.stamps["sound"]) >= SECONDS - 3
    for camera in ("jpeg", "ts"):
        offsets = list(heard.offsets(camera).values())
        assert len(offsets) >= SECONDS - 5
        # The median: a frame without a time of its own is stamped when this process gets to run.
        assert abs(np.median(offsets)) < BOUND_NS
    assert max(map(abs, heard.errors("ts").values())) < 5 * MS
    assert_onsets_follow_one_another(heard)


def assert_onsets_follow_one_another(heard: Heard) -> None:
    for stamps in heard.stamps.values():
        assert all(SECOND // 2 < after - before < 3 * SECOND for before, after in pairwise(stamps))


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


@pytest.mark.parametrize(("audio_ppm", "video_ppm", "rate_hz"), [(100, -100, 48_000), (-100, 100, 44_100)])
def test_an_hour_in_which_both_clocks_run_off(audio_ppm: float, video_ppm: float, rate_hz: int) -> None:
    """Left alone they would be 720 ms apart at its end. Callbacks and the network jitter by 20 ms."""
    every_ns = 10 * SECOND
    microphone = Microphone(ppm=audio_ppm, rate_hz=rate_hz, seed=5)
    heard: dict[int, int] = {}
    edge_ns = None
    for sample in microphone.samples(hours=1, every_ns=every_ns):
        assert edge_ns is None or sample.t_ns == edge_ns
        edge_ns = sample.end_ns
        instant_ns = click_ns(sample)
        if instant_ns is not None:
            heard[round(instant_ns / every_ns)] = instant_ns
    rng = np.random.default_rng(6)
    pts_map, seen, arrived_ns = PtsMap(), dict[int, int](), 0
    for n, late in enumerate(rng.exponential(20 * MS, 36_000)):  # 10 frames/s, one of them at each event
        arrived_ns = max(arrived_ns, n * 100 * MS + round(late))
        stamp_ns = pts_map.stamp(round(n * 100 * MS / (1 + video_ppm * 1e-6)), arrived_ns)
        if n % 100 == 0:
            seen[n // 100] = stamp_ns
    events = sorted(heard.keys() & seen.keys())
    assert len(events) > 350
    offsets = [seen[event] - heard[event] for event in events]
    assert max(map(abs, offsets)) < BOUND_NS
    assert max(abs(heard[event] - event * every_ns) for event in events[6:]) < 6 * MS
    assert max(abs(seen[event] - event * every_ns) for event in events[6:]) < 8 * MS
    assert microphone.drops == {}
