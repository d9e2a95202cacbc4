"""Lip-sync: a file with a flash and a beep each second, through the real camera and microphone paths, for five minutes.

Prints how far the stamps of the flash and the beep of an event are apart, through motion JPEG (no time in the stream)
and through an MPEG transport stream (PTS), how far each is from when it happened, and the drift over the whole.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.lipsync import play
from tests.player import make_flashes
from tests.pulse import Pulse

SECONDS = float(os.environ.get("LIPSYNC_SECONDS", "300"))


def said(what: str, ms: Mapping[int, float]) -> None:
    values = np.array(list(ms.values()))
    drift = np.polyfit(list(ms), values, 1)[0] * SECONDS
    p95 = np.percentile(np.abs(values), 95)
    print(
        f"{what:24} {len(values)} events: median {np.median(values):+.2f} ms, p95 {p95:.2f} ms, "
        f"max {np.abs(values).max():.2f} ms, drift {drift:+.2f} ms over {SECONDS:g} s"
    )


def main() -> None:
    logging.disable(logging.WARNING)
    pulse = Pulse()
    os.environ.update(pulse.env)
    try:
        pulse.start()
        with tempfile.TemporaryDirectory() as folder:
            file = make_flashes(Path(folder) / "flashes.mkv", seconds=SECONDS)
            heard = asyncio.run(play(pulse, file, seconds=SECONDS))
    finally:
        pulse.close()
    for name in ("jpeg", "ts"):
        said(f"flash less beep, {name}", {event: ns / 1e6 for event, ns in heard.offsets(name).items()})
    for name in heard.stamps:
        said(f"{name} less the truth", {event: ns / 1e6 for event, ns in heard.errors(name).items()})
    for name, late in heard.late_ns.items():
        p50, p99 = np.percentile(np.array(late) / 1e6, [50, 99])
        print(f"the player was late with {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max(late) / 1e6:.2f} ms")
