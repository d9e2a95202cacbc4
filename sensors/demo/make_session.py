"""Makes the bundled session from the story, the portrait and a voice.

    python -m sensors.demo.make_session --speech DIR [--kokoro DIR]

1. `speech` speaks the lines that DIR does not hold yet as ``line-N.wav``: with Kokoro-82M where its folder is given,
   with espeak-ng otherwise (programs: `espeak-ng`).
2. `speech` sets them into a quiet room: ``audio.flac``, 16 kHz, mono.
3. `picture` renders the portrait: ``video.mp4``, 640 x 480, 15 frames a second, H.264 (program: `ffmpeg`).
4. ``text.jsonl`` and ``session.toml`` are written from `story`.

The same speech files give the same session. `story` says what happens when, ORIGIN.md where the material is from.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import soundfile

from sensors.demo import picture, speech, story

HERE = Path(__file__).parent

NOTES = (
    "Portrait: NASA, Eileen Collins, public domain. Speech: synthetic, Kokoro-82M (Apache-2.0). Made by"
    " sensors/demo/make_session.py; see ORIGIN.md beside it. The story is in story.py."
)


def main(argv: Sequence[str]) -> int:
    """Make the session and say what was made."""
    parser = argparse.ArgumentParser(
        prog="python -m sensors.demo.make_session", description="Makes the bundled session."
    )
    parser.add_argument(
        "--speech", type=Path, required=True, help="folder of line-N.wav; missing lines are spoken into it"
    )
    parser.add_argument(
        "--kokoro", type=Path, help="folder with kokoro.onnx, vocab.json, voice.bin; else espeak-ng speaks"
    )
    parser.add_argument("--portrait", type=Path, default=HERE / "portrait.png", help="512 x 512 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the session (default: %(default)s)")
    asked = parser.parse_args(argv)

    portrait = cv2.imread(str(asked.portrait))
    if portrait is None or portrait.shape != (512, 512, 3):
        found = "no picture" if portrait is None else f"{portrait.shape[1]} x {portrait.shape[0]}"
        parser.error(f"--portrait {asked.portrait}: a picture of 512 x 512 is needed, found {found}")
    voice = speech.Kokoro(asked.kokoro) if asked.kokoro else speech.Espeak()
    speech.record(asked.speech, voice)
    sound = speech.sound_track(asked.speech)

    asked.out.mkdir(parents=True, exist_ok=True)
    soundfile.write(asked.out / "audio.flac", sound, speech.RATE_HZ, subtype="PCM_16")
    write_video(asked.out / "video.mp4", picture.frames(np.asarray(portrait, np.uint8), sound))
    write_texts(asked.out / "text.jsonl")
    write_description(asked.out / "session.toml")
    for name in ("video.mp4", "audio.flac", "text.jsonl", "session.toml"):
        print(f"{asked.out / name}: {(asked.out / name).stat().st_size:,} bytes")
    return 0


def write_video(path: Path, frames: Iterable[picture.U8]) -> None:
    """Encode `frames` at a constant rate; frame n has the presentation time n / FPS. A key frame starts each second."""
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{picture.WIDTH}x{picture.HEIGHT}", "-r", f"{picture.FPS}"]
    # Without B-frames the order of decoding is that of time. One thread, because the result depends on their number.
    codec = ["-c:v", "libx264", "-preset", "slow", "-crf", "22", "-bf", "0", "-g", f"{picture.FPS}", "-threads", "1"]
    form = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-fflags", "+bitexact", "-flags", "+bitexact"]
    command = ["ffmpeg", "-v", "error", "-y", *source, "-i", "-", *codec, *form, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for frame in frames:
            encoder.stdin.write(frame.tobytes())
    if encoder.returncode:
        raise subprocess.CalledProcessError(encoder.returncode, command)


def write_texts(path: Path) -> None:
    """One JSON object a line: ``t`` in seconds, ``text``, ``lang``."""
    lines = (json.dumps({"t": message.at_s, "text": message.text, "lang": "en"}) for message in story.MESSAGES)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_description(path: Path) -> None:
    """What the folder holds."""
    path.write_text(
        f'name = "demo"\nstart = {story.START}  # the instant of t = 0\nduration_s = {story.DURATION_S}\n'
        f"notes = {json.dumps(NOTES)}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
