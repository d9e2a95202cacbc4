"""When flashes are seen and beeps are heard: through real sensors, of the file that `tests.player` plays."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.clock import SECOND
from agent.seams import Sensor
from agent.types import AUDIO_RATE_HZ, Audio, Frame, Sample
from sensors.camera import CameraSensor
from sensors.microphone import MicrophoneSensor
from tests.player import EVERY_S, FPS, RATE_HZ, Player
from tests.pulse import Pulse

EVERY_NS = EVERY_S * SECOND
QUIET_S = 0.2
"""So long it must have been quiet before what is a beep's onset."""


@dataclass(slots=True)
class Watching:
    """Rising edges of brightness."""

    onsets: list[int] = field(default_factory=list)
    """Stamps of the first bright frames, in ns."""
    _dark: bool = False

    def take(self, sample: Sample) -> None:
        assert isinstance(sample.payload, Frame)
        bright = float(sample.payload.bgr.mean()) > 128
        if bright and self._dark:
            self.onsets.append(sample.t_ns)
        self._dark = not bright


@dataclass(slots=True)
class Listening:
    """Rising edges of loudness: where |x| first exceeds 0.1 after `QUIET_S`."""

    onsets: list[int] = field(default_factory=list)
    """In ns, between the ends of the block in proportion to the count of samples."""
    _quiet: int = 0

    def take(self, sample: Sample) -> None:
        assert isinstance(sample.payload, Audio)
        loud = np.flatnonzero(np.abs(sample.payload.pcm) > 0.1)
        count = len(sample.payload.pcm)
        if len(loud) == 0:
            self._quiet += count
            return
        if self._quiet + int(loud[0]) >= QUIET_S * AUDIO_RATE_HZ:
            self.onsets.append(sample.t_ns + int(loud[0]) * (sample.end_ns - sample.t_ns) // count)
        self._quiet = count - 1 - int(loud[-1])


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one playing."""

    begin_ns: int
    stamps: dict[str, list[int]]
    """Of the flashes, by camera (``jpeg``, ``ts``), and of the beeps (``sound``)."""
    late_ns: dict[str, list[int]]
    """How late the player handed over each frame and block, by stream."""

    def errors(self, stream: str) -> dict[int, int]:
        """By event: its stamp less the instant at which it happened, in ns.

        Sound and frames with a PTS happen when they are due; a frame without, when the player sent it.
        """
        found = {}
        for stamp in self.stamps[stream]:
            event = round((stamp - self.begin_ns) / EVERY_NS)
            late_ns = self.late_ns["jpeg"][event * EVERY_S * FPS] if stream == "jpeg" else 0
            found[event] = stamp - self.begin_ns - event * EVERY_NS - late_ns
        return found

    def offsets(self, camera: str) -> dict[int, int]:
        """By event: how much later than the beep the flash seems to be, in ns; of events with both."""
        flashes, beeps = self.errors(camera), self.errors("sound")
        return {event: flashes[event] - beeps[event] for event in flashes if event in beeps}


async def play(pulse: Pulse, file: Path, *, seconds: float) -> Heard:
    """Play the file with the flashes, `seconds` long, to two cameras and a microphone at the same time."""
    pipe = pulse.pipe_source(rate_hz=RATE_HZ)
    player = await asyncio.to_thread(Player, file, pipe=pipe)
    try:
        # The file's last events are left out: the streams end there.
        end_ns = player.begin_ns + round((seconds - EVERY_S / 2) * SECOND)
        senses: dict[str, Watching | Listening] = {"jpeg": Watching(), "ts": Watching(), "sound": Listening()}
        async with asyncio.TaskGroup() as work:
            work.create_task(_read(CameraSensor("jpeg", device=player.jpeg_url), senses["jpeg"], end_ns))
            work.create_task(_read(CameraSensor("ts", device=player.ts_url), senses["ts"], end_ns))
            work.create_task(_read(MicrophoneSensor("microphone"), senses["sound"], end_ns))
        late_ns = await asyncio.to_thread(player.finish)
    finally:
        player.close()
    return Heard(player.begin_ns, {name: sense.onsets for name, sense in senses.items()}, late_ns)


async def _read(sensor: Sensor, sense: Watching | Listening, end_ns: int) -> None:
    async with aclosing(sensor.stream()) as stream:
        async for item in stream:
            if isinstance(item, Sample):
                sense.take(item)
                if item.end_ns >= end_ns:
                    return
