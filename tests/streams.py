"""Video files and video servers: of HTTP by ffmpeg, of RTSP by GStreamer."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.mosquitto import free_port


def make_video(path: Path, *, seconds: float = 1.0, fps: int = 10, size: str = "160x120") -> Path:
    """A test picture with frame n at n / fps."""
    source = f"testsrc=duration={seconds}:size={size}:rate={fps}"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-threads", "1"]
    subprocess.run([*command, "-c:v", "mpeg4", "-q:v", "5", str(path)], check=True)
    return path


class RtspServer:
    """GStreamer's RTSP server with a camera in H.264 at `fps`, at `address`; `user` is ``NAME:PASSWORD``."""

    def __init__(self, *, fps: int = 20, user: str = "") -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}/camera"
        account = user.split(":") if user else []
        script = Path(__file__).with_name("rtsp_server.py")
        self._command = ["/usr/bin/python3", str(script), str(self.port), str(fps), *account]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve; it listens when this returns."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"listens\n":
            raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.wait()}")

    def cut(self) -> None:
        """Cut the stream, as pulling the plug would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class VideoServer:
    """ffmpeg, serving video over HTTP to one client, at `fps`, for ever.

    `container` is ``mpjpeg``, as cheap network cameras do and without time stamps, or ``mpegts``, with them.
    """

    def __init__(self, *, fps: int = 20, container: str = "mpjpeg") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._fps = fps
        self._container = container
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to listen; a client may have to try until it does."""
        source = f"testsrc=size=160x120:rate={self._fps}"
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            source,
            "-threads",
            "1",
            "-g",
            "10",
            "-flush_packets",
            "1",
        ]
        command += ["-f", self._container, "-listen", "1", self.url]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Cut the stream, as pulling the plug would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def left(self, patience_s: float = 20.0) -> bool:
        """Whether the client has closed the connection, or does within that time: the server ends with it."""
        assert self._process is not None
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True
