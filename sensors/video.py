"""Opening moving pictures with OpenCV, be they a device, a file, a stream or a pipeline, and reading their time."""

from __future__ import annotations

import glob
import os
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2

from agent.clock import MS, SECOND
from agent.seams import SensorError
from sensors.devices import find_cameras

# OpenCV and the FFmpeg inside it write to stderr past our log, a line per damaged picture. Whoever wants to see that
# sets these variables. FFmpeg's is read when the first video is opened; -8 is AV_LOG_QUIET.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ and hasattr(cv2.utils, "logging"):  # Debian's build has no such module
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

CUT_OFF_NS = 2 * SECOND
"""A video that ends this much before it said it would is damaged; less is the rounding of its average frame rate."""
NETWORK = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "tcp://", "srt://", "rtp://")


class Kind(StrEnum):
    """What a `device` of the config turns out to be."""

    DEVICE = "device"
    FILE = "file"
    STREAM = "stream"
    PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class Format:
    """What is asked of a camera; None leaves it to the device. Devices give the nearest they have."""

    width: int | None = None
    """Pixels."""
    height: int | None = None
    """Pixels."""
    fps: float | None = None
    """Frames per second."""
    fourcc: str | None = None
    """Four letters, such as ``MJPG``, which many USB cameras need for more than VGA at full rate."""

    def __str__(self) -> str:
        size = f"{self.width or '?'}x{self.height or '?'}"
        return f"{size} fps={'?' if self.fps is None else f'{self.fps:.4g}'}" + (
            f" {self.fourcc}" if self.fourcc else ""
        )


def kind_of(device: str) -> Kind:
    """Tell an index or ``/dev`` path, a URL, a GStreamer pipeline and a file apart."""
    if " ! " in device:
        return Kind.PIPELINE
    if device.lower().startswith(NETWORK):
        return Kind.STREAM
    if device.isdecimal() or device.startswith("/dev/"):
        return Kind.DEVICE
    return Kind.FILE


def opencv_backends() -> tuple[str, ...]:
    """What this build of OpenCV reads video with: of ``FFMPEG``, ``GSTREAMER``, ``V4L2`` those that are there."""
    registry = cv2.videoio_registry
    built_in = {registry.getBackendName(backend) for backend in registry.getBackends() if registry.hasBackend(backend)}
    return tuple(name for name in ("FFMPEG", "GSTREAMER", "V4L2") if name in built_in)


def open_video(name: str, device: str, *, wanted: Format, timeout_ns: int) -> Any:
    """An opened ``cv2.VideoCapture``; blocks, for a stream up to `timeout_ns`.

    Raises `SensorError` with what was found instead and what to do.
    """
    match kind_of(device):
        case Kind.PIPELINE:
            capture = _open_pipeline(name, device)
        case Kind.STREAM:
            capture = _open_stream(name, device, timeout_ns=timeout_ns)
        case Kind.FILE:
            capture = open_file(name, Path(device))
        case Kind.DEVICE:
            capture = _open_device(name, device, wanted)
    return capture


def as_opened(capture: Any, device: str, wanted: Format) -> str:
    """What was asked for, and what is there."""
    got, backend = _format(capture), capture.getBackendName()
    return f"asked for {wanted} of {without_password(device)}, got {got} ({backend})"


def open_file(name: str, path: Path) -> Any:
    """As `open_video`, for a file. Raises `SensorError` when it is missing, empty or no video."""
    if not path.exists():
        shown = without_password(str(path))  # it may be an address with a scheme that we do not know
        raise SensorError(f"{name}: there is no file {shown}; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise SensorError(f"{name}: {path} is empty; copy or record it again")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise SensorError(
            f"{name}: {path} can not be read as video: it is damaged, was cut off while it was written, or is in a"
            " format that FFmpeg does not know; `ffprobe` on it says more"
        )
    return capture


def video_ns(capture: Any) -> int:
    """How long an opened video says that it is; 0 where it does not."""
    frames: float = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps: float = capture.get(cv2.CAP_PROP_FPS)
    return round(max(0, frames) / (fps or 25) * SECOND)


def pts_ns(capture: Any) -> int:
    """The PTS of the frame that was grabbed last, in ns from the start of the stream; of a V4L2 device its stamp."""
    position_ms: float = capture.get(cv2.CAP_PROP_POS_MSEC)
    return round(position_ms * MS)


def held_frames(device: str, capture: Any) -> int:
    """How many later frames FFmpeg must have begun to receive before it hands out one of an opened stream.

    Found by counting what was sent when each frame came out (FFmpeg 8 in OpenCV 5; H.264, HEVC, MPEG-4 and MPEG-2
    alike at 10 to 50 frames/s). RTP: its parser finds the end of a picture in the next one. MPEG transport streams,
    whose packets do not say how long they are: one more. The MPEG-2 decoder: one more. RTMP says how long all is.
    """
    scheme = device.partition("://")[0].lower()
    in_container = 0 if scheme == "rtmp" else 1 if scheme in ("rtsp", "rtsps", "rtp") else 2
    return in_container + (fourcc_of(capture) == "mpg2")


def fourcc_of(capture: Any) -> str:
    """The four letters of an opened video's codec, in lower case."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("latin-1").lower()


def _open_device(name: str, device: str, wanted: Format) -> Any:
    target = _node(name, device)
    capture = cv2.VideoCapture(target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if not capture.isOpened():
        raise SensorError(
            f"{name}: {target} is there, but does not open as a camera; another program may hold it"
            f" (`fuser -v {target}`), it may be the camera's metadata node, or you may not be in the group `video`"
        )
    if wanted.fourcc is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.fourcc))
    for prop, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
        (cv2.CAP_PROP_FPS, wanted.fps),
    ):
        if value is not None:
            capture.set(prop, value)
    return capture


def _node(name: str, device: str) -> str | int:
    """The device node behind an index, a stable path or a glob on one."""
    if sys.platform != "linux" and device.isdecimal():
        return int(device)
    pattern = f"/dev/video{device}" if device.isdecimal() else device
    matches = sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if matches:
        return str(Path(matches[0]).resolve())
    found = find_cameras()
    cameras = ", ".join(f"{camera.device} ({camera.name})" for camera in found.devices)
    raise SensorError(f"{name}: there is no camera {device}; found: {cameras or 'none'}. {found.advice}".rstrip())


def _open_stream(name: str, url: str, *, timeout_ns: int) -> Any:
    timeout_ms = timeout_ns // MS
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    # FFmpeg decodes several frames at once by default, which holds each back by as many frames as there are threads.
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # OpenCV 4.6, of Debian 12 and Ubuntu 24.04, cannot be told
        options += [cv2.CAP_PROP_N_THREADS, 1]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise SensorError(
            f"{name}: {without_password(url)} does not answer with video within {timeout_ms / 1000:g} s;"
            " check address, user and password, and that `ffplay` shows it"
        )
    return capture


def _open_pipeline(name: str, pipeline: str) -> Any:
    shown = without_password(pipeline)
    if "GSTREAMER" not in opencv_backends():
        raise SensorError(
            f"{name}: {shown!r} is a GStreamer pipeline, but OpenCV {cv2.__version__} here is built without"
            " GStreamer; on Debian, Ubuntu or JetPack `apt install python3-opencv`, make the virtual environment with"
            " --system-site-packages, and uninstall opencv-python-headless from it"
        )
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SensorError(
            f"{name}: GStreamer does not start {shown!r}; it must end in `appsink`; try it with `gst-launch-1.0`"
        )
    return capture


def without_password(device: str) -> str:
    """`device` as it may be shown in a log: ``rtsp://user:secret@host`` becomes ``rtsp://user:…@host``.

    Rather hides too much, up to the last ``@``: a password may hold ``/`` and ``@``, though an address should not. In
    a pipeline, which ends an address at a space, and in a query, also what ``user-pw=…`` and its like say.
    """
    kind = kind_of(device)
    shown = (_PIPELINE_LOGIN if kind is Kind.PIPELINE else _LOGIN).sub(r"\1:…@", device)
    return shown if kind is Kind.FILE else _SECRET.sub(r"\1…", shown)


_LOGIN = re.compile(r"(:/+[^/:\[]*):.*@", re.DOTALL)  # one slash is what `Path` leaves of two
_PIPELINE_LOGIN = re.compile(r"(://[^\s/:\[]*):\S*@")
_SECRET = re.compile(
    r"((?<![a-z])(?:user-pw|proxy-pw|password|passwd|passphrase|pass|pwd|pw)\s*=\s*(?:\(\w+\)\s*)?)"
    r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|\S)+)""",
    re.IGNORECASE,
)


def _format(capture: Any) -> Format:
    return Format(
        width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        fps=float(capture.get(cv2.CAP_PROP_FPS)),
    )
