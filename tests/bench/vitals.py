"""What it costs to look at each frame and block, and for how long a live camera may seem frozen."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from agent.clock import MS
from agent.health.vitals import COLUMNS, ROWS, Vitals
from agent.types import U8, Audio, Frame, Sample, Source

WIDTH, HEIGHT, FPS, SECONDS = 640, 480, 25, 40
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
CODECS = {
    "Motion JPEG": ("-c:v", "mjpeg", "-q:v", "10", "-pix_fmt", "yuvj420p"),
    "H.264 crf 23, key frame every 2 s": (*H264, "-crf", "23", "-g", str(2 * FPS)),
    "H.264 crf 32, key frame every 2 s": (*H264, "-crf", "32", "-g", str(2 * FPS)),
    "H.264 crf 32, key frame every 10 s": (*H264, "-crf", "32", "-g", str(10 * FPS)),
}


def main() -> None:
    rng = np.random.default_rng(0)
    for width, height in ((640, 480), (1920, 1080)):
        pictures = [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(8)]
        frames = [Sample("s", Frame(pictures[i % 8]), i * 33 * MS, i * 33 * MS, i * 33 * MS) for i in range(600)]
        print(f"a frame of {width} x {height}: {_look_us(frames):.0f} us (median)")
    sounds = [rng.normal(0, 0.1, 320).astype(np.float32) for _ in range(8)]
    blocks = [Sample("s", Audio(sounds[i % 8]), i * 20 * MS, (i + 1) * 20 * MS, (i + 1) * 20 * MS) for i in range(3000)]
    print(f"a block of 20 ms: {_look_us(blocks):.0f} us (median)")
    with tempfile.TemporaryDirectory() as folder:
        for codec, words in CODECS.items():
            longest = [_longest_s(_film(Path(folder), words, noise)) for noise in (0.5, 1.0, 2.0)]
            said = ", ".join(f"{seconds:.2f}" for seconds in longest)
            print(f"{codec}: the grid stands still for at most {said} s with noise of 0.5, 1, 2 of 255")


def _look_us(samples: Sequence[Sample]) -> float:
    vitals, took = Vitals([Source("s", samples[0].modality)]), []
    for sample in samples:
        begin = time.perf_counter_ns()
        vitals.look(sample)
        took.append(time.perf_counter_ns() - begin)
    return float(np.median(took)) / 1000


def _scene(noise: float) -> Iterator[U8]:
    """A scene in which nothing moves, as a sensor with that much temporal noise sees it."""
    rng = np.random.default_rng(1)
    blobs = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 8)
    still = (blobs - blobs.min()) / (blobs.max() - blobs.min()) * 200 + 20
    seen = [np.rint(still + noise * rng.standard_normal(still.shape, np.float32)) for _ in range(60)]
    for i in rng.integers(60, size=SECONDS * FPS):
        yield np.clip(seen[i], 0, 255).astype(np.uint8)


def _film(folder: Path, words: Sequence[str], noise: float) -> Path:
    path = folder / "still.mkv"
    raw = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-")
    command = ["ffmpeg", "-y", "-loglevel", "error", "-threads", "1", *raw, *words, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        for bgr in _scene(noise):
            process.stdin.write(bgr.tobytes())
        process.stdin.close()
    assert process.returncode == 0
    return path


def _longest_s(path: Path) -> float:
    film, before, run, longest = cv2.VideoCapture(str(path)), None, 0, 0
    while True:
        ok, bgr = film.read()
        if not ok:
            film.release()
            return longest / FPS
        grid = bgr[:: -(-HEIGHT // ROWS), :: -(-WIDTH // COLUMNS)].copy()
        run = run + 1 if before is not None and np.array_equal(grid, before) else 0
        before, longest = grid, max(longest, run)
