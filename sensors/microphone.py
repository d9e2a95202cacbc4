"""Sound from a microphone, through PortAudio."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.clock import MS, SECOND
from agent.delivery.policy import MaxAge, Queue
from agent.health.repeats import Repeats
from agent.seams import SensorError
from agent.types import AUDIO_RATE_HZ, F32, Audio, Modality, Sample, Source, Watermark
from sensors import portaudio
from sensors.bridge import Bridge, Bridges
from sensors.resample import Resampler
from sensors.soundline import AudioClockFit, DelayGuard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What PortAudio's callback hands over."""

    pcm: F32
    """(T,), at the device's rate."""
    first: int
    """Count of its first sample since the stream was opened."""
    delay_ns: int
    """How long before ``arrival_ns`` its first sample was taken, in PortAudio's words."""
    arrival_ns: int
    lost: bool
    """Whether PortAudio lost sound before it."""
    rate_hz: int
    started_ns: int
    """When the stream was told to start: none of its sound is older."""

    @property
    def end_ns(self) -> int:
        """By which the hand-over judges its age: its last sample has only just been taken when the callback comes.

        When it really was taken `Timeline` finds out.
        """
        return self.arrival_ns


class MicrophoneSensor:
    """A `Sensor` of one audio source: blocks of `block_ns`, mono at `AUDIO_RATE_HZ`; spans neither overlap nor gap.

    `device` is a glob on the name, or ``default``. A device that can not do 16 kHz is taken at its own rate and
    resampled. The first 0.2 s of a stream are left out, in which the delay that PortAudio claims is looked over.

    `drops` counts by reason: ``overflow`` and ``aged`` (the loop was slow), ``overrun`` (PortAudio lost sound),
    ``jump`` (the stream's time jumped by more than 50 ms, and the fit started again), ``nan`` (blocks with values that
    are no numbers).
    """

    QUEUE = 50
    """Blocks between the callback and the loop: a second."""

    def __init__(
        self,
        name: str,
        *,
        device: str = "default",
        block_ns: int = 20 * MS,
        stall_ns: int = 5 * SECOND,
        delivery: Queue | MaxAge = Queue(QUEUE),  # noqa: B008 - frozen
    ) -> None:
        """`delivery` may not thin sound out, and PortAudio's callback can not wait."""
        self.name = name
        self.sources = (Source(name, Modality.AUDIO),)
        self.drops: Counter[str] = Counter()
        self._device = device
        self._block_ns = block_ns
        self._bridges = Bridges(name, drive=self._drive, delivery=delivery, stall_ns=stall_ns, drops=self.drops)
        self._started_ns = 0
        self._repeats = Repeats()

    @property
    def held(self) -> bool:
        """See `agent.seams.Abandons`."""
        return self._bridges.hanging

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        timeline = Timeline(self.name, self.drops)
        try:
            async with self._bridges.items() as blocks:
                async for block in blocks:
                    if isinstance(block, Watermark):
                        yield block
                        continue
                    sample = timeline.place(block)
                    if sample is not None:
                        yield sample
        finally:
            if self._bridges.hanging:
                portaudio.forsake()

    def _drive(self, bridge: Bridge[Block]) -> None:
        """In the driver's thread: opening, stopping and closing block, and hang with a sound server that hangs."""
        with portaudio.open_input(self.name, self._device, settings=self._settings(bridge)) as stream:
            got = f"{stream.samplerate:g} Hz, {stream.channels} channels, a latency of {1000 * stream.latency:.0f} ms"
            opened = f"asked for {AUDIO_RATE_HZ} Hz of {self._device!r}, got {got}"
            if message := self._repeats.due(opened, time.monotonic_ns()):
                log.info("%s: %s", self.name, message)
            self._started_ns = time.monotonic_ns()
            stream.start()
            while not bridge.stopping.wait(0.1):
                if not stream.active:
                    raise SensorError(
                        f"{self.name}: lost {self._device!r}; it was unplugged, or the sound server has ended"
                    )
            stream.abort(ignore_errors=True)

    def _settings(self, bridge: Bridge[Block]) -> Any:
        """The arguments of ``sounddevice.InputStream`` for an input, and the callback that feeds `bridge`."""

        def of(sounddevice: Any, device: portaudio.Input) -> dict[str, Any]:
            rate_hz, channels = _supported(sounddevice, device)
            blocksize = self._block_ns * rate_hz // SECOND
            count = 0

            def callback(indata: F32, frames: int, when: Any, status: Any) -> None:
                nonlocal count
                now_ns = time.monotonic_ns()
                block = Block(
                    pcm=_mono(indata),
                    first=count,
                    delay_ns=round((when.currentTime - when.inputBufferAdcTime) * SECOND),
                    arrival_ns=now_ns,
                    lost=bool(status.input_overflow),
                    rate_hz=rate_hz,
                    started_ns=self._started_ns,
                )
                count += frames
                bridge.put(block)

            return {
                "samplerate": rate_hz,
                "channels": channels,
                "dtype": "float32",
                "blocksize": blocksize,
                "latency": "low",
                "callback": callback,
            }

        return of


def _supported(sounddevice: Any, device: portaudio.Input) -> tuple[int, int]:
    """(rate in Hz, channels): 16 kHz mono where the device can, else the nearest it has."""
    for rate_hz in (AUDIO_RATE_HZ, device.rate_hz):
        for channels in (1, device.channels):
            try:
                sounddevice.check_input_settings(
                    device=device.index, channels=channels, dtype="float32", samplerate=rate_hz
                )
            except (sounddevice.PortAudioError, ValueError):
                continue
            return rate_hz, channels
    return device.rate_hz, device.channels


def _mono(indata: F32) -> F32:
    """(T, C) to (T,), copied, since PortAudio reuses the buffer.

    Two channels are averaged. Of more, which are an array whose sum would comb the sound, the first is taken.
    """
    if indata.shape[1] == 2:
        return np.asarray(indata.mean(axis=1, dtype=np.float32))
    return indata[:, 0].copy()


class Timeline:
    """Turns blocks at the device's rate into samples at ours, placed on our clock."""

    def __init__(self, name: str, drops: Counter[str]) -> None:
        self._name = name
        self._drops = drops
        self._line = AudioClockFit()
        self._guard = DelayGuard()
        self._resampler: Resampler | None = None
        self._next = 0

    def place(self, block: Block) -> Sample | None:
        """The sample that this block completes; None at first, while claims and the resampler's filter fill."""
        begin_ns = block.first * SECOND // block.rate_hz  # in the stream's own time, as is what the resampler says
        length_ns = (block.first + len(block.pcm)) * SECOND // block.rate_hz - begin_ns
        if block.lost:
            self._drops["overrun"] += 1
            self._line.restart()
        self._measure(block, begin_ns=begin_ns, length_ns=length_ns)
        if not self._guard.settled:
            return None
        if not np.isfinite(block.pcm).all():
            self._drops["nan"] += 1
            return None
        if block.first != self._next or block.lost or self._resampler is None:
            self._resampler = Resampler(block.rate_hz, origin_ns=begin_ns)
        self._next = block.first + len(block.pcm)
        piece = self._resampler.feed(block.pcm)
        if len(piece.pcm) == 0:
            return None
        delay_ns = self._guard.delay_ns or length_ns
        t_ns, end_ns = self._line.span(piece.begin_ns, piece.end_ns, delay_ns=delay_ns, latest_ns=block.arrival_ns)
        return Sample(self._name, Audio(piece.pcm), t_ns=t_ns, end_ns=end_ns, arrival_ns=block.arrival_ns)

    def _measure(self, block: Block, *, begin_ns: int, length_ns: int) -> None:
        """Fit the line to when this block came, and hear what delay it claims; ``begin_ns`` is stream time.

        Only of a block that is not late: whether a claim counts the lateness of its callback nobody knows.
        """
        believed = self._guard.believes(block.delay_ns, age_ns=block.arrival_ns - begin_ns - block.started_ns)
        moved_ns = self._line.observe(begin_ns, block.arrival_ns)
        if moved_ns is not None:
            self._guard.move(moved_ns)
            if abs(moved_ns) > AudioClockFit.JUMP_NS:
                self._drops["jump"] += 1
                log.warning("%s: the sound's time jumped by %.0f ms; following", self._name, moved_ns / MS)
        if believed and block.arrival_ns <= self._line.at(begin_ns):
            self._guard.add(max(block.delay_ns, length_ns))
