"""Flash and beep of the same instant have the same stamp to within 20 ms, through the real paths and over an hour."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.clock import MS, SECOND
from tests.drift import EVENT_NS, Microphone, clicks_of_an_hour, flashes_of_an_hour
from tests.lipsync import Heard, play
from tests.player import make_flashes
from tests.pulse import Pulse

SECONDS = 12
BOUND_NS = 20 * MS


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


@pytest.mark.parametrize(("audio_ppm", "video_ppm", "rate_hz"), [(100, -100, 48_000), (-100, 100, 44_100)])
def test_an_hour_in_which_both_clocks_run_off(audio_ppm: float, video_ppm: float, rate_hz: int) -> None:
    """Left alone they would be 720 ms apart at its end. Callbacks and the network jitter by 20 ms."""
    microphone = Microphone(ppm=audio_ppm, rate_hz=rate_hz, seed=5)
    heard, seen = clicks_of_an_hour(microphone), flashes_of_an_hour(ppm=video_ppm, seed=6)
    events = sorted(heard.keys() & seen.keys())
    assert len(events) > 350
    assert max(abs(seen[event] - heard[event]) for event in events) < BOUND_NS
    assert max(abs(heard[event] - event * EVENT_NS) for event in events[6:]) < 6 * MS
    assert max(abs(seen[event] - event * EVENT_NS) for event in events[6:]) < 8 * MS
    assert microphone.drops == {}
