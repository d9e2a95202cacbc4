import logging

import cv2
import pytest

from agent.clock import MS, SECOND
from sensors.livestamps import LiveStamps

START_NS = 1_000 * SECOND


class Capture:
    """The two properties of a ``cv2.VideoCapture`` that tell of time: no machine of ours has a camera with a driver."""

    def __init__(self, codec: str = "h264") -> None:
        self.told_ns = 0
        self._fourcc = float(cv2.VideoWriter.fourcc(*codec))

    def get(self, prop: int) -> float:
        return self.told_ns / MS if prop == cv2.CAP_PROP_POS_MSEC else self._fourcc


def stamped(device: str, frames: list[tuple[int, int]], codec: str = "h264") -> list[int | None]:
    """What is made of frames, of each what the back end tells and when `grab` returned, both in ns after the start."""
    capture = Capture(codec)
    stamps = LiveStamps("camera", device, capture)
    found = []
    for told_ns, grabbed_ns in frames:
        capture.told_ns = told_ns + START_NS if device.startswith("/dev") else told_ns
        stamp_ns = stamps.stamp(capture, START_NS + grabbed_ns)
        found.append(None if stamp_ns is None else stamp_ns - START_NS)
    return found


def test_a_drivers_stamp_is_taken_though_it_is_old() -> None:
    frames = [(n * 500 * MS, n * 500 * MS + late) for n, late in enumerate((20 * MS, 3 * SECOND, 2 * SECOND + 5 * MS))]
    assert stamped("/dev/video0", frames) == [0, 500 * MS, SECOND]


@pytest.mark.parametrize("wrong", [1_795_000_000 * SECOND, 5 * MS, -6 * SECOND])
def test_a_drivers_stamp_on_another_clock_gives_way_to_arrival_and_is_told_once(
    caplog: pytest.LogCaptureFixture, wrong: int
) -> None:
    with caplog.at_level(logging.WARNING):
        assert stamped("/dev/video0", [(n * 40 * MS + wrong, n * 40 * MS) for n in range(3)]) == [0, 40 * MS, 80 * MS]
    assert [record.getMessage() for record in caplog.records] == [
        "camera: its driver's stamps are not on the monotonic clock; frames count as of when they came"
    ]


def test_a_drivers_stamps_never_fall() -> None:
    assert stamped("/dev/video0", [(40 * MS, 50 * MS), (30 * MS, 90 * MS), (80 * MS, 100 * MS)]) == [
        40 * MS,
        40 * MS,
        80 * MS,
    ]


@pytest.mark.parametrize(
    ("device", "codec", "held"),
    [
        ("rtsp://host/stream", "h264", 1),
        ("http://host/stream.ts", "hevc", 2),
        ("udp://@:5000", "mpg2", 3),
        ("rtmp://host/live", "h264", 0),
        ("nvarguscamerasrc ! appsink", "h264", 0),
    ],
)
def test_the_frames_that_a_reader_holds_back_are_taken_off(device: str, codec: str, held: int) -> None:
    frames = [(n * 40 * MS, (n + held) * 40 * MS + 2 * MS) for n in range(20)]
    found = stamped(device, frames, codec)
    assert found[5:] == [n * 40 * MS + 2 * MS for n in range(5, 20)]
    assert found[0] is None  # whether it had waited nobody can tell


def test_motion_jpeg_is_stamped_as_it_comes_but_for_what_had_waited() -> None:
    grabbed = [SECOND + n * 3 * MS for n in range(5)] + [SECOND + n * 40 * MS for n in range(1, 6)]
    found = stamped("http://host/video", [(n * 40 * MS, at) for n, at in enumerate(grabbed)], "MJPG")
    assert found == [None] * 5 + grabbed[5:]


def test_motion_jpeg_of_many_frames_a_second_is_live_after_a_while() -> None:
    found = stamped("http://host/video", [(0, n * 5 * MS) for n in range(600)], "MJPG")
    assert found.index(2005 * MS) == 401
    assert found[401:] == [n * 5 * MS for n in range(401, 600)]
    assert found[:401] == [None] * 401
