import asyncio
import os
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import MS, SECOND
from agent.seams import SensorError
from agent.types import Frame, Modality, Sample
from sensors.bridge import Bridge
from sensors.camera import CameraSensor
from sensors.video import Kind, kind_of, opencv_backends, without_password
from tests.mosquitto import free_port
from tests.outside import ROOT
from tests.reading import left_behind, read_samples, read_till_back, read_till_lost
from tests.streams import RtspServer, VideoServer, make_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "ten.mp4", seconds=1.0, fps=10)


async def test_a_file_plays_at_the_pace_of_its_pts_and_ends(video: Path) -> None:
    sensor = CameraSensor("camera", device=str(video))
    assert sensor.sources[0].modality is Modality.VISION
    samples = await read_samples(sensor, 100)
    assert len(samples) == 10
    for sample in samples:
        assert isinstance(sample.payload, Frame)
        assert sample.payload.bgr.shape == (120, 160, 3)
        assert sample.t_ns == sample.end_ns <= sample.arrival_ns
    assert [round((sample.t_ns - samples[0].t_ns) / MS) for sample in samples] == [100 * n for n in range(10)]
    assert samples[-1].arrival_ns - samples[0].arrival_ns > 800 * MS
    assert not sensor.drops


@pytest.mark.parametrize(("quarters", "said"), [(1, 1), (4, 0)])
async def test_a_file_that_ends_well_before_its_end_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, quarters: int, said: int
) -> None:
    whole = make_video(tmp_path / "whole.avi", seconds=3).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * quarters // 4])
    assert await read_samples(CameraSensor("camera", device=str(tmp_path / "cut.avi")), 100)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == said
    assert all(re.search(r"cut\.avi is damaged, ends at 0\.\d s of 3\.0 s", warning) for warning in warnings)


async def test_a_looping_file_goes_on_with_the_time_line(video: Path) -> None:
    samples = await read_samples(CameraSensor("camera", device=str(video), loop=True), 14)
    assert [round((b.t_ns - a.t_ns) / MS) for a, b in pairwise(samples)] == [100] * 13


async def test_a_file_can_be_played_again_by_the_same_sensor(video: Path) -> None:
    sensor = CameraSensor("camera", device=str(video))
    assert len(await read_samples(sensor, 2)) == 2
    assert len(await read_samples(sensor, 2)) == 2


async def test_opening_it_again_and_again_leaves_nothing_behind(video: Path) -> None:
    threads, files = await left_behind(CameraSensor("camera", device=str(video)), rounds=100)
    assert threads <= 0
    assert files <= 0


async def test_a_slow_reader_gets_the_newest_and_the_rest_is_counted(tmp_path: Path) -> None:
    video = make_video(tmp_path / "fast.mp4", seconds=0.3, fps=100)
    sensor = CameraSensor("camera", device=str(video))
    stream = sensor.stream()
    samples = [await anext(stream)]
    driver = next(thread for thread in threading.enumerate() if thread.name == "camera driver")
    driver.join(20)  # blocks the loop while the file plays to its end
    samples += [sample async for sample in stream if isinstance(sample, Sample)]
    assert len(samples) == 1 + CameraSensor.QUEUE
    assert sensor.drops == {"overflow": 30 - len(samples)}
    assert isinstance(samples[0], Sample)
    assert samples[-1].t_ns - samples[0].t_ns == pytest.approx(290 * MS, abs=MS)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no file"), (b"", "is empty"), (b"no video at all" * 99, "can not be read as video")],
)
async def test_a_file_that_is_none_is_a_clear_error(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SensorError, match=f"camera: .*{says}"):
        await read_samples(CameraSensor("camera", device=str(path)), 1)


@pytest.fixture
def zeros(video: Path, tmp_path: Path) -> Path:
    """A video file whose every frame is zeros."""
    content = bytearray(video.read_bytes())
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[begin:end] = bytes(end - begin)
    path = tmp_path / "zeros.mp4"
    path.write_bytes(content)
    return path


async def test_a_file_without_one_good_frame_is_a_clear_error(zeros: Path) -> None:
    with pytest.raises(SensorError, match=r"not one frame of .*zeros\.mp4 can be decoded"):
        await read_samples(CameraSensor("camera", device=str(zeros)), 1)


async def test_a_stream_that_is_cut_is_an_error_and_comes_back() -> None:
    server = VideoServer(fps=20)
    sensor = CameraSensor("camera", device=server.url)
    server.start()
    try:
        samples, _ = await read_till_back(sensor, 20)
        # FFmpeg claims 25 frames/s for motion JPEG; the stamps are those of the clock all the same.
        assert samples[-1].t_ns - samples[5].t_ns == pytest.approx(14 * SECOND / 20, abs=200 * MS)
        assert all(a.t_ns <= b.t_ns for a, b in pairwise(samples))
        assert all(sample.t_ns <= sample.arrival_ns for sample in samples)
        server.cut()
        server.start()
        with pytest.raises(SensorError, match=r"lost http://127\.0\.0\.1"):
            await _lose(sensor, server)
        server.start()
        samples, errors = await read_till_back(sensor, 5)
        assert len(samples) == 5
        assert all("does not answer" in error for error in errors)
    finally:
        server.cut()


async def test_the_stamps_of_a_stream_with_time_are_those_of_its_frames() -> None:
    server = VideoServer(fps=20, container="mpegts")
    server.start()
    try:
        samples, _ = await read_till_back(CameraSensor("camera", device=server.url), 60)
    finally:
        server.cut()
    # What was buffered while the stream was probed comes in a burst; from then on the steps are the PTS' own.
    steps = [b.t_ns - a.t_ns for a, b in pairwise(samples[-20:])]
    assert steps == [pytest.approx(SECOND / 20, abs=2 * MS)] * 19
    arrivals = [b.arrival_ns - a.arrival_ns for a, b in pairwise(samples[-20:])]
    assert sum(arrivals) == pytest.approx(sum(steps), abs=200 * MS)


async def test_an_rtsp_camera_asks_for_its_password_is_stamped_by_its_pts_and_comes_back() -> None:
    server = RtspServer(fps=20, user="me:secret")
    server.start()
    try:
        with pytest.raises(SensorError, match=r"rtsp://me:…@.+ does not answer .*; check address, user and password"):
            await read_samples(CameraSensor("camera", device=f"rtsp://me:wrong@{server.address}"), 1)
        sensor = CameraSensor("camera", device=f"rtsp://me:secret@{server.address}", stall_ns=2 * SECOND)
        samples = await read_samples(sensor, 60)
        steps = [b.t_ns - a.t_ns for a, b in pairwise(samples[-20:])]
        assert steps == [pytest.approx(SECOND / 20, abs=2 * MS)] * 19
        assert all(sample.t_ns <= sample.arrival_ns for sample in samples)
        with pytest.raises(SensorError, match=r"rtsp://me:…@127\.0\.0\.1") as lost:
            await _lose(sensor, server)
        assert "secret" not in str(lost.value)
        server.start()
        samples, _ = await read_till_back(sensor, 5)
        assert len(samples) == 5
    finally:
        server.cut()


OLDER_OPENCV = """
import asyncio, sys
import cv2
del cv2.CAP_PROP_N_THREADS, cv2.utils.logging  # what OpenCV 4.6 of Debian 12 and Ubuntu 24.04 has not
from sensors.camera import CameraSensor
from tests.reading import read_samples
print(len(asyncio.run(read_samples(CameraSensor("camera", device=sys.argv[1]), 5))))
"""


def test_the_opencv_of_a_distribution_will_do() -> None:
    server = RtspServer()
    server.start()
    try:
        words = [sys.executable, "-c", OLDER_OPENCV, f"rtsp://{server.address}"]
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        server.cut()
    assert ended.stdout == "5\n", ended.stderr


async def _lose(sensor: CameraSensor, server: VideoServer | RtspServer) -> None:
    """Cut the stream while it is read; ffmpeg may take a moment until it listens."""
    while True:
        try:
            return await read_till_lost(sensor, cut=server.cut)
        except SensorError as error:
            if "does not answer" not in str(error):
                raise


async def test_nobody_at_the_address_is_an_error_that_keeps_the_password() -> None:
    sensor = CameraSensor("camera", device=f"http://me:secret@127.0.0.1:{free_port()}/video")
    with pytest.raises(SensorError, match=r"http://me:…@127\.0\.0\.1:\d+/video does not answer") as caught:
        await read_samples(sensor, 1)
    assert "secret" not in str(caught.value)


async def test_a_server_that_says_nothing_is_an_error_within_the_stall() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sensor = CameraSensor("camera", device=f"http://127.0.0.1:{port}", stall_ns=SECOND // 2)
        with pytest.raises(SensorError, match=r"does not answer with video within 0\.5 s|delivered nothing"):
            await read_samples(sensor, 1)


async def test_a_reader_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bridge, "JOIN_S", 0.1)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)  # opening it blocks in the kernel until somebody writes
    try:
        with pytest.raises(SensorError, match=r"camera: delivered nothing for 0\.2 s"):
            await read_samples(CameraSensor("camera", device=str(pipe), stall_ns=SECOND // 10), 1)
        (driver,) = (thread for thread in threading.enumerate() if thread.name == "camera driver")
    finally:
        os.close(os.open(pipe, os.O_RDWR))
    await asyncio.to_thread(driver.join, 20)
    assert not driver.is_alive()


async def test_a_reader_that_hangs_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bridge, "JOIN_S", 0.1)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    sensor = CameraSensor("camera", device=str(pipe), stall_ns=SECOND // 10)
    errors: list[str] = []
    try:
        for _ in range(3):
            with pytest.raises(SensorError) as caught:
                await read_samples(sensor, 1)
            errors.append(str(caught.value))
        (driver,) = (thread for thread in threading.enumerate() if thread.name == "camera driver")
    finally:
        os.close(os.open(pipe, os.O_RDWR))
    assert "delivered nothing" in errors[0]
    assert re.match(r"camera: its driver hangs, was told to end at \d{4}-.*Z .* restart the agent", errors[1])
    assert errors[2] == errors[1]
    await asyncio.to_thread(driver.join, 20)
    pipe.unlink()
    make_video(pipe)
    samples, _ = await read_till_back(sensor, 1)
    assert len(samples) == 1


def test_a_reader_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    program = f"""
import asyncio
from agent.seams import SensorError
from sensors.bridge import Bridge
from sensors.camera import CameraSensor
Bridge.JOIN_S = 0.1
async def main():
    try:
        async for _ in CameraSensor("camera", device={str(pipe)!r}, stall_ns=10**8).stream():
            pass
    except SensorError as error:
        print(error)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "delivered nothing" in ended.stdout


async def test_no_such_camera_says_what_there_is() -> None:
    with pytest.raises(SensorError, match=r"camera: there is no camera /dev/v4l/by-id/\*Nobody\*; found: "):
        await read_samples(CameraSensor("camera", device="/dev/v4l/by-id/*Nobody*"), 1)


async def test_a_pipeline_that_can_not_run_says_what_to_do() -> None:
    has = "GSTREAMER" in opencv_backends()
    says = "try it with `gst-launch-1.0`" if has else "is built without GStreamer; .*apt install python3-opencv"
    with pytest.raises(SensorError, match=says):
        await read_samples(CameraSensor("camera", device="nosuchsource ! appsink"), 1)


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("0", Kind.DEVICE),
        ("/dev/v4l/by-id/usb-*", Kind.DEVICE),
        ("rtsp://host/stream", Kind.STREAM),
        ("HTTP://host", Kind.STREAM),
        ("nvarguscamerasrc ! video/x-raw(memory:NVMM) ! appsink", Kind.PIPELINE),
        ("shots/face.mp4", Kind.FILE),
    ],
)
def test_what_a_device_is(device: str, kind: Kind) -> None:
    assert kind_of(device) is kind


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        ("rtsp://me:a:b@host:554/x", "rtsp://me:…@host:554/x"),
        ("rtsp://me:a/b@host:554/x", "rtsp://me:…@host:554/x"),
        ("rtsp://me:a@b/c@host/x", "rtsp://me:…@host/x"),
        ("rtsp://host/x@y", "rtsp://host/x@y"),
        ("rtsp://host:554/x", "rtsp://host:554/x"),
        ("http://host/video?user=me&pwd=secret", "http://host/video?user=me&pwd=…"),
        ("shots/pass=3.mp4", "shots/pass=3.mp4"),
        ("rtspsrc location=rtsp://me:a/b@host/x ! appsink", "rtspsrc location=rtsp://me:…@host/x ! appsink"),
        ("rtspsrc user-id=me user-pw=a&b ! appsink", "rtspsrc user-id=me user-pw=… ! appsink"),
        (r'rtspsrc user-pw = "a \" b" latency=0 ! appsink', "rtspsrc user-pw = … latency=0 ! appsink"),
        (r"rtspsrc user-pw=(string)a\ b latency=0 ! appsink", "rtspsrc user-pw=(string)… latency=0 ! appsink"),
    ],
)
def test_passwords_are_not_shown(device: str, shown: str) -> None:
    assert without_password(device) == shown


@pytest.mark.parametrize("device", ["nosuchsource user-pw=secret ! appsink", "rtspx://me:secret@host/x"])
async def test_passwords_are_not_in_messages(device: str) -> None:
    with pytest.raises(SensorError, match="…") as caught:
        await read_samples(CameraSensor("camera", device=device), 1)
    assert "secret" not in str(caught.value)


def test_opencv_reads_files() -> None:
    assert "FFMPEG" in opencv_backends()
