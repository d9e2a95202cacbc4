"""A microphone that goes and comes back, changes its rate, or delivers what is no sound; on a real sound server."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from agent.clock import MS, SECOND
from agent.types import AUDIO_RATE_HZ, F32, Absence, Audio, Modality, Sample
from sensors.microphone import Block, MicrophoneSensor, Timeline
from tests.faults.living import living
from tests.pulse import PLAY_RATE_HZ, Pulse, sound_server
from tests.scripted import ScriptedEncoder, happy

AUDIO = Modality.AUDIO


@pytest.fixture
def ears() -> Iterator[Pulse]:
    """A sound server of the test's own, whose microphone it takes away."""
    with sound_server() as server:
        yield server


def ctl(*words: str) -> str:
    return subprocess.run(["pactl", *words], capture_output=True, text=True, check=True).stdout.strip()


def plug_in(rate_hz: int) -> str:
    """Add a microphone of that rate, as the default; returns what unplugs it."""
    module = ctl("load-module", "module-null-sink", "sink_name=usb", f"rate={rate_hz}", "channels=1")
    ctl("set-default-source", "usb.monitor")
    return module


def tone(hz: float, seconds: float) -> F32:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * PLAY_RATE_HZ)) / PLAY_RATE_HZ)).astype(np.float32)


def loud(sample: Sample) -> bool:
    return isinstance(sample.payload, Audio) and float(np.abs(sample.payload.pcm).max()) > 0.1


def pitch_hz(samples: list[Sample]) -> float:
    pcm = np.concatenate([sample.payload.pcm for sample in samples if isinstance(sample.payload, Audio)])
    return float(np.argmax(np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))) * AUDIO_RATE_HZ / len(pcm))


def unplug_others() -> None:
    """Take away the sound server's own sink, whose monitor would stand in for a microphone that is gone."""
    ctl(
        "unload-module",
        next(line.split()[0] for line in ctl("list", "short", "modules").splitlines() if "speaker" in line),
    )


async def test_a_microphone_that_is_unplugged_and_plugged_in_at_another_rate(ears: Pulse) -> None:
    """The only one there is: its module is unloaded, then loaded again, at 44.1 instead of 48 kHz."""
    usb = plug_in(48_000)
    unplug_others()
    sensor = MicrophoneSensor("microphone", stall_ns=SECOND)
    async with living([sensor], ScriptedEncoder(AUDIO, happy)) as seen:
        await seen.until_decided(lambda decision: AUDIO in decision.modalities)
        await asyncio.to_thread(ctl, "unload-module", usb)
        await seen.until_decided(lambda decision: decision.missing.get(AUDIO) is Absence.FAILED)
        await seen.until(lambda: seen.failures("microphone") >= 2)
        await asyncio.to_thread(plug_in, 44_100)
        failures = seen.failures("microphone")
        await seen.until_decided(lambda decision: AUDIO in decision.modalities)
        assert seen.failures("microphone") <= failures + 1
        listening = asyncio.create_task(seen.until_samples(40, loud))
        await asyncio.to_thread(ears.play, tone(440, 3))
        assert pitch_hz(await listening) == pytest.approx(440, abs=8)
    ends = [sample.end_ns for sample in seen.samples]
    assert ends == sorted(ends), "time ran backwards"


def block(first: int, pcm: F32, *, rate_hz: int) -> Block:
    arrival_ns = 5 * SECOND + (first + len(pcm)) * SECOND // rate_hz
    return Block(pcm, first, 20 * MS, arrival_ns, lost=False, rate_hz=rate_hz, started_ns=0)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pcm: np.full_like(pcm, np.nan), "nan"),
        (lambda pcm: np.full_like(pcm, np.inf), "nan"),
        (lambda pcm: np.where(np.arange(len(pcm)) == 7, -np.inf, pcm).astype(np.float32), "nan"),
        (lambda pcm: pcm[:0], None),
        (lambda pcm: np.full_like(pcm, 3e38), None),
    ],
    ids=["NaN", "infinite", "one value infinite", "empty", "overflow"],
)
def test_sound_that_is_none_is_left_out_and_what_follows_is_finite(
    spoil: Callable[[F32], F32], reason: str | None, rate_hz: int
) -> None:
    drops: Counter[str] = Counter()
    size = rate_hz // 50
    timeline, hum = Timeline("microphone", drops), np.full(size, 0.1, np.float32)
    samples = [timeline.place(block(n * size, spoil(hum) if n % 10 == 9 else hum, rate_hz=rate_hz)) for n in range(60)]
    heard = [sample for sample in samples if sample is not None]
    assert len(heard) >= 20
    for sample in heard:
        assert isinstance(sample.payload, Audio)
        assert np.isfinite(sample.payload.pcm).all()
        assert np.abs(sample.payload.pcm).max() <= 1, "beyond full scale"
    ends = [sample.end_ns for sample in heard]
    assert ends == sorted(ends)
    assert not reason or drops[reason] > 0
