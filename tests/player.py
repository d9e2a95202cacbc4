"""Plays a file with flashes and beeps as two cameras and a microphone would deliver it, at instants that are known.

A player of the shelf has a delay of its own between picture and sound, which nobody can tell from that of what is
tested. This one is a process that does what the hardware would: it sends each frame over HTTP at the instant at which
it is due, both as motion JPEG (which carries no time) and as an MPEG transport stream (with PTS), and writes each block
of sound into the pipe of a PulseAudio source when its last sample is due. What is at `t` in the file happens at
`begin_ns + t` on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.mosquitto import free_port

FPS = 25
RATE_HZ = 48_000
EVERY_S = 1
"""A flash and a beep at each multiple of this."""
LASTS_S = 0.12
HEAD_START_S = 1.0
_BLOCK = 480
"""Samples that the microphone's converter hands over at once: 10 ms."""


def make_flashes(path: Path, *, seconds: float) -> Path:
    """A Matroska file of motion JPEG at `FPS` and PCM at `RATE_HZ`: black and silent but for `LASTS_S` every second."""
    lit, loud = round(LASTS_S * FPS), round(LASTS_S * RATE_HZ)
    flash = f"drawbox=color=white:t=fill:enable='lt(mod(n,{EVERY_S * FPS}),{lit})'"
    beep = f"0.5*sin(2*PI*1000*n/{RATE_HZ})*lt(mod(n,{EVERY_S * RATE_HZ}),{loud})"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"color=black:size=160x120:rate={FPS},{flash}"]
    command += ["-f", "lavfi", "-i", f"aevalsrc='{beep}':s={RATE_HZ}", "-t", str(seconds), "-threads", "1"]
    subprocess.run([*command, "-c:v", "mjpeg", "-c:a", "pcm_s16le", "-f", "matroska", str(path)], check=True)
    return path


class Player:
    """The player's process. `begin_ns` is known once it is made; it ends with the file, or when it is closed."""

    def __init__(self, file: Path, *, pipe: Path) -> None:
        self.ports = free_port(), free_port()
        self.jpeg_url, self.ts_url = (f"http://127.0.0.1:{port}/" for port in self.ports)
        command = [sys.executable, "-m", "tests.player", str(file), str(pipe), *map(str, self.ports)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.begin_ns = int(self._process.stdout.readline())

    def finish(self) -> dict[str, list[int]]:
        """Wait until the file is at its end. How late each frame and each block was handed over, in ns, by stream."""
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _ffmpeg(*words: str) -> bytes:
    return subprocess.run(["ffmpeg", "-v", "error", *words], check=True, stdout=subprocess.PIPE).stdout


def _sound(file: str) -> Iterator[tuple[float, bytes]]:
    pcm = _ffmpeg("-i", file, "-map", "0:a", "-f", "s16le", "-")
    for first in range(0, len(pcm) // 2, _BLOCK):
        yield (first + _BLOCK) / RATE_HZ, pcm[2 * first : 2 * (first + _BLOCK)]


def _jpegs(file: str) -> Iterator[tuple[float, bytes]]:
    pictures = _ffmpeg("-i", file, "-map", "0:v", "-c:v", "copy", "-f", "image2pipe", "-").split(b"\xff\xd9")[:-1]
    for n, picture in enumerate(pictures):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture) + 2}\r\n\r\n"
        yield n / FPS, head.encode() + picture + b"\xff\xd9\r\n"


def _transport(file: str) -> Iterator[tuple[float, bytes]]:
    """The packets of each frame, with those of the tables before it."""
    options = ["-map", "0:v", "-c:v", "mpeg2video", "-q:v", "5", "-bf", "0", "-g", "10", "-threads", "1"]
    stream = _ffmpeg("-i", file, *options, "-f", "mpegts", "-")
    packets = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    frames: list[bytes] = []
    tables = b""
    for packet in packets:
        begins, pid = packet[1] & 0x40, (packet[1] & 0x1F) << 8 | packet[2]
        if pid != 0x100:  # the first stream's PID, by FFmpeg's muxer
            tables += packet
        elif begins:
            frames.append(tables + packet)
            tables = b""
        else:
            frames[-1] += packet
    return ((n / FPS, frame) for n, frame in enumerate(frames))


def _serve(port: int, kind: str, ready: threading.Barrier) -> Iterator[socket.socket | None]:
    """The one client that is connected, asked for before each frame; None while there is none."""
    server = socket.create_server(("127.0.0.1", port))
    server.setblocking(False)
    ready.wait()
    client: socket.socket | None = None
    while True:
        try:
            new, _ = server.accept()
        except BlockingIOError:
            pass
        else:
            new.setblocking(True)
            new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            new.recv(65_536)
            new.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
            client = new
        yield client


def _paced(items: Iterable[tuple[float, bytes]], begin_ns: int) -> Iterator[tuple[bytes, int]]:
    """Each item when it is due, and how late that is, in ns."""
    for due_s, data in items:
        due_ns = begin_ns + round(due_s * 1e9)
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        yield data, time.monotonic_ns() - due_ns


def _film(items: list[tuple[float, bytes]], clients: Iterator[socket.socket | None], begin: list[int]) -> list[int]:
    client = next(clients)
    late = []
    for data, late_ns in _paced(items, begin[0]):
        late.append(late_ns)
        client = next(clients)
        if client is not None:
            try:
                client.sendall(data)
            except OSError:  # it has seen enough
                client = None
    return late


def main(file: str, pipe: str, jpeg_port: str, ts_port: str) -> None:
    """Play; the instant at which it begins is the first line on standard output, how late all was the second."""
    sound, jpegs, transport = list(_sound(file)), list(_jpegs(file)), list(_transport(file))
    microphone = os.open(pipe, os.O_WRONLY)
    ready = threading.Barrier(3)
    begin: list[int] = []
    late: dict[str, list[int]] = {}

    def film(name: str, items: list[tuple[float, bytes]], port: str, kind: str) -> None:
        late[name] = _film(items, _serve(int(port), kind, ready), begin)

    cameras = [
        threading.Thread(target=film, args=("jpeg", jpegs, jpeg_port, "multipart/x-mixed-replace;boundary=frame")),
        threading.Thread(target=film, args=("ts", transport, ts_port, "video/mp2t")),
    ]
    begin.append(time.monotonic_ns() + round(HEAD_START_S * 1e9))
    for camera in cameras:
        camera.start()
    ready.wait()
    print(begin[0], flush=True)
    late["sound"] = []
    for data, late_ns in _paced(sound, begin[0]):
        os.write(microphone, data)
        late["sound"].append(late_ns)
    for camera in cameras:
        camera.join()
    print(json.dumps(late), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
