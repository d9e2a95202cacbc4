"""Which cameras and microphones are there, and what to do when one is not."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from agent.seams import SensorError
from sensors import portaudio

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Camera:
    """One node that delivers pictures."""

    device: str
    """What to write into the config: its stable path when there is one, for numbers change when devices do."""
    node: str
    """``/dev/videoN``."""
    name: str
    """What the driver calls it."""
    usable: bool
    """Whether we may open it."""


@dataclass(frozen=True, slots=True)
class Microphone:
    """One PortAudio device with inputs."""

    device: str
    """What to write into the config."""
    host: str
    """The sound system behind it, such as ``ALSA``."""
    channels: int
    rate_hz: int
    """Its own rate; others may be possible too."""
    default: bool
    """Whether ``device = "default"`` means this one."""


@dataclass(frozen=True, slots=True)
class Found(Generic[D]):
    """What was found of one kind."""

    devices: tuple[D, ...]
    advice: str
    """What to do, when there is none or one can not be used; empty when all is well."""


# linux/videodev2.h: struct v4l2_capability is 104 bytes, `device_caps` the __u32 at 88; VIDIOC_QUERYCAP = _IOR('V', 0).
_QUERYCAP = (2 << 30) | (104 << 16) | (ord("V") << 8)
_DEVICE_CAPS = 88
_CAPTURES = 0x0000_0001 | 0x0000_1000  # V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE


def find_cameras(root: Path = Path("/")) -> Found[Camera]:
    """The V4L2 cameras below `root`, whose ``sys`` and ``dev`` are read; nothing is opened for capture."""
    if sys.platform != "linux":
        return Found((), 'cameras are listed on Linux only; try `device = "0"`')
    cameras = tuple(_cameras(root))
    if not cameras:
        return Found(
            (),
            "no camera is connected (no /dev/video*); plug one in, hand /dev/video0 into the container,"
            " or give a file or an rtsp:// or http:// address as `device`",
        )
    barred = [camera.node for camera in cameras if not camera.usable]
    if barred:
        return Found(
            cameras, f"no permission to open {', '.join(barred)}; `sudo usermod -aG video $USER`, then log in again"
        )
    return Found(cameras, "")


def _cameras(root: Path) -> Iterator[Camera]:
    stable: dict[str, str] = {}
    for kind in ("by-path", "by-id"):  # by-id last: it stays when the camera moves to another socket
        for link in sorted((root / "dev/v4l" / kind).glob("*")):
            stable[link.resolve().name] = f"/dev/v4l/{kind}/{link.name}"
    entries = (root / "sys/class/video4linux").glob("video*")
    for entry in sorted(entries, key=lambda path: int(path.name.removeprefix("video"))):
        node = root / "dev" / entry.name
        name = entry / "name"
        if not node.exists() or not _captures(node, entry):
            continue
        yield Camera(
            device=stable.get(entry.name, f"/dev/{entry.name}"),
            node=f"/dev/{entry.name}",
            name=name.read_text().strip() if name.exists() else entry.name,
            usable=os.access(node, os.R_OK | os.W_OK),
        )


def _captures(node: Path, entry: Path) -> bool:
    """Whether a node delivers pictures: a USB camera has a second node for metadata alone."""
    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        try:
            answer = fcntl.ioctl(fd, _QUERYCAP, bytes(104))
        finally:
            os.close(fd)
    except OSError:  # no permission, or held: the first node of a device is the one with the pictures
        index = entry / "index"
        return not index.exists() or index.read_text().strip() == "0"
    (capabilities,) = struct.unpack_from("=I", answer, _DEVICE_CAPS)
    return bool(capabilities & _CAPTURES)


def find_microphones() -> Found[Microphone]:
    """The inputs that PortAudio lists. Lists afresh where no stream is open."""
    try:
        inputs = portaudio.inputs()
    except SensorError as error:
        return Found((), str(error))
    microphones = tuple(
        Microphone(
            device=device.name,
            host=device.host,
            channels=device.channels,
            rate_hz=device.rate_hz,
            default=device.default,
        )
        for device in inputs
    )
    return Found(microphones, "" if microphones else portaudio.NO_INPUT)
