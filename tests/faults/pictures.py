"""Network cameras: motion JPEG over HTTP, as cheap ones send it, whose pictures a test chooses; transport streams."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import Iterator
from types import TracebackType
from typing import ClassVar, Self

import cv2
import numpy as np

from agent.types import U8

FPS = 25


def noise(seed: int, *, size: tuple[int, int] = (120, 160)) -> U8:
    """A picture (H, W, 3) like no other."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def black(*, size: tuple[int, int] = (120, 160)) -> U8:
    """A picture of a covered lens."""
    return np.zeros((*size, 3), np.uint8)


def jpeg(bgr: U8) -> bytes:
    """As it goes over the wire."""
    return cv2.imencode(".jpg", bgr)[1].tobytes()


class StreamServer:
    """``async with`` serves a stream over HTTP to whoever asks, each client from its beginning."""

    KIND: ClassVar[str]
    PAUSE_S: ClassVar[float] = 1 / FPS

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    def pieces(self) -> Iterator[bytes]:
        """What is sent, with a pause of `PAUSE_S` after each piece; after the last the connection is cut."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Type: {self.KIND}\r\n\r\n".encode())
            for piece in self.pieces():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.PAUSE_S)
        except (OSError, asyncio.IncompleteReadError):  # it has seen enough
            pass
        finally:
            writer.transport.abort()


class PictureServer(StreamServer):
    """Motion JPEG: noise that moves, or what `show` was given last."""

    KIND = "multipart/x-mixed-replace;boundary=frame"

    def __init__(self) -> None:
        super().__init__()
        self._moving = [jpeg(noise(seed)) for seed in range(10)]
        self._still: bytes | None = None

    def show(self, content: bytes | None) -> None:
        """Send this again and again, be it a picture or not; None for pictures that move."""
        self._still = content

    def pieces(self) -> Iterator[bytes]:
        for count in itertools.count():
            picture = self._still or self._moving[count % len(self._moving)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            yield head.encode() + picture + b"\r\n"


class TransportServer(StreamServer):
    """An MPEG transport stream of a minute, with a key frame every 10 frames."""

    KIND = "video/mp2t"

    def __init__(self) -> None:
        super().__init__()
        source = f"testsrc=duration=60:size=160x120:rate={FPS}"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg2video", "-bf", "0", "-g", "10"]
        self._stream = subprocess.run(
            [*command, "-threads", "1", "-f", "mpegts", "-"], stdout=subprocess.PIPE, check=True
        ).stdout

    def pieces(self) -> Iterator[bytes]:
        size = len(self._stream) // (60 * FPS)
        return (self._stream[at : at + size] for at in range(0, len(self._stream), size))
