import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.clock import MS, SECOND
from agent.seams import SensorError
from agent.types import AUDIO_RATE_HZ, F32, Audio, Modality, Sample, Watermark
from sensors import portaudio
from sensors.devices import find_microphones
from sensors.microphone import Block, MicrophoneSensor, Timeline
from sensors.resample import Resampler
from tests.pulse import PLAY_RATE_HZ, Pulse
from tests.reading import left_behind, read_samples, read_till_back, read_till_lost, read_until


def tone(hz: float, seconds: float) -> F32:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * PLAY_RATE_HZ)) / PLAY_RATE_HZ)).astype(np.float32)


def joined(samples: list[Sample]) -> F32:
    return np.concatenate([sample.payload.pcm for sample in samples if isinstance(sample.payload, Audio)])


def loud(sample: Sample | Watermark) -> bool:
    assert isinstance(sample, Sample)
    assert isinstance(sample.payload, Audio)
    return float(np.sqrt(np.mean(sample.payload.pcm**2))) > 0.1


def strongest_hz(pcm: F32) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * AUDIO_RATE_HZ / len(pcm))


async def test_a_tone_is_heard_at_its_pitch_when_it_is_played(pulse: Pulse) -> None:
    sensor = MicrophoneSensor("microphone")
    assert sensor.sources[0].modality is Modality.AUDIO
    played_ns = 0

    def enough(items: list[Sample | Watermark]) -> bool:
        nonlocal played_ns
        if len(items) == 50:
            played_ns = time.monotonic_ns()
            pulse.play(tone(440, 2))
        return sum(map(loud, items)) >= 50

    items = await read_until(sensor, enough)
    samples = [item for item in items if isinstance(item, Sample)]
    heard = [sample for sample in samples if loud(sample)]
    assert strongest_hz(joined(heard)) == pytest.approx(440, abs=4)
    # Not before it was played; how long the player takes to start is up to the machine.
    assert played_ns - 20 * MS < heard[0].t_ns < played_ns + 2 * SECOND
    assert all(after.t_ns == before.end_ns for before, after in pairwise(samples))
    assert all(sample.end_ns <= sample.arrival_ns + 20 * MS for sample in samples)
    seconds = (samples[-1].end_ns - samples[0].t_ns) / SECOND
    assert len(joined(samples)) / AUDIO_RATE_HZ == pytest.approx(seconds, rel=0.05)
    assert not sensor.drops


async def test_the_server_dies_and_comes_back(pulse: Pulse) -> None:
    sensor = MicrophoneSensor("microphone")
    with pytest.raises(SensorError, match=r"microphone: (lost 'default'|delivered nothing)"):
        await read_till_lost(sensor, cut=pulse.kill)
    with pytest.raises(SensorError, match="microphone: "):
        await read_samples(sensor, 1)
    pulse.start()
    samples, _ = await read_till_back(sensor, 5)
    assert len(samples) == 5


async def test_a_server_that_hangs_is_an_error_within_the_stall(pulse: Pulse) -> None:
    sensor = MicrophoneSensor("microphone", stall_ns=3 * SECOND // 2)
    try:
        with pytest.raises(SensorError, match=r"microphone: delivered nothing for 1\.5 s"):
            await read_till_lost(sensor, cut=pulse.freeze)
    finally:
        pulse.thaw()
    samples, _ = await read_till_back(sensor, 5)
    assert len(samples) == 5


async def test_opening_it_again_and_again_leaves_nothing_behind(pulse: Pulse) -> None:
    threads, files = await left_behind(MicrophoneSensor("microphone"), rounds=10)
    assert threads <= 0
    assert files <= 0


async def test_two_at_once(pulse: Pulse) -> None:
    one, other = MicrophoneSensor("one"), MicrophoneSensor("other", device="def*")
    both = await asyncio.gather(read_samples(one, 10), read_samples(other, 10))
    assert [len(samples) for samples in both] == [10, 10]


async def test_a_name_that_nobody_has_says_which_there_are(pulse: Pulse) -> None:
    with pytest.raises(SensorError, match=r"microphone: no microphone is called '\*Nobody\*'; found 'default'"):
        await read_samples(MicrophoneSensor("microphone", device="*Nobody*"), 1)


def test_what_portaudio_says_while_a_stream_is_in_use_is_a_sensors_error(pulse: Pulse) -> None:
    settings = {"samplerate": 16_000, "channels": 1}

    def use() -> None:
        with portaudio.open_input("microphone", "default", settings=lambda sounddevice, device: settings) as stream:
            stream.close()
            stream.start()

    with pytest.raises(SensorError, match=r"microphone: PortAudio failed on 'default' \(Error starting stream"):
        use()
    assert portaudio.inputs()


def test_portaudio_fails_to_start_and_comes_back(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    sounddevice = portaudio.load()

    def fail() -> None:
        raise sounddevice.PortAudioError("Error initializing PortAudio", -9999)

    with monkeypatch.context() as patch:
        patch.setattr(sounddevice, "_initialize", fail)
        assert "Error initializing PortAudio" in find_microphones().advice
        with pytest.raises(SensorError, match="microphone: PortAudio failed on 'default'"):
            portaudio.open_input("microphone", "default", settings=lambda sounddevice, device: {}).__enter__()
    assert find_microphones().devices


def test_the_microphone_is_listed(pulse: Pulse) -> None:
    found = find_microphones()
    assert found.advice == ""
    assert [(mic.device, mic.host, mic.default) for mic in found.devices] == [("default", "ALSA", True)]


@pytest.mark.parametrize(
    ("hide", "says"),
    [
        ("ctypes.util.find_library = lambda name: None", "apt install libportaudio2"),
        ("sys.modules['sounddevice'] = None", "pip install sounddevice"),
    ],
)
def test_without_portaudio_it_says_what_to_install(hide: str, says: str, tmp_path: Path) -> None:
    program = f"""
import asyncio, ctypes.util, sys
{hide}
from agent.seams import SensorError
from sensors.devices import find_microphones
from sensors.microphone import Block, MicrophoneSensor, Timeline
async def main():
    try:
        await anext(MicrophoneSensor("microphone").stream())
    except SensorError as error:
        print(error)
asyncio.run(main())
print(find_microphones().advice)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.count(says) == 2


def test_without_a_sound_server_it_says_that_there_is_no_microphone(tmp_path: Path) -> None:
    program = "from sensors.devices import find_microphones; print(find_microphones())"
    (tmp_path / "asound.conf").write_text("pcm.!default { type pulse }\n")
    env = os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert "devices=()" in ended.stdout
    assert "PortAudio lists no microphone" in ended.stdout


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_its_place_in_time(rate: int) -> None:
    """A click at half a second is at half a second afterwards, however the sound was cut into blocks."""
    sound = np.zeros(rate, np.float32)
    sound[rate // 2] = 1
    resampler, pieces, size = Resampler(rate, origin_ns=7 * SECOND), [], round(0.02 * rate)
    for begin in range(0, rate, size):
        pieces.append(resampler.feed(sound[begin : begin + size], last=begin + size >= rate))
    pcm = np.concatenate([piece.pcm for piece in pieces])
    assert len(pcm) == AUDIO_RATE_HZ
    assert abs(int(np.argmax(np.abs(pcm))) - AUDIO_RATE_HZ // 2) <= 1
    assert pieces[0].begin_ns == 7 * SECOND
    assert pieces[-1].end_ns == 8 * SECOND
    assert all(after.begin_ns == before.end_ns for before, after in pairwise(pieces))


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("size", [441, 882, 1000, 4800])
def test_resampling_as_it_streams_has_no_delay_of_its_own(rate: int, size: int) -> None:
    """Clicks at odd places, none flushed: the centre of each is where it was, to a tenth of a millisecond."""
    clicks = [rate * k // 7 for k in range(1, 14)]
    sound = np.zeros(2 * rate + 2 * size, np.float32)
    sound[clicks] = 1
    resampler, pcm, begin_ns = Resampler(rate), list[F32](), list[int]()
    for begin in range(0, len(sound) - size, size):
        piece = resampler.feed(sound[begin : begin + size])
        begin_ns.append(piece.begin_ns - sum(map(len, pcm)) * SECOND // AUDIO_RATE_HZ)
        pcm.append(piece.pcm)
    power = np.concatenate(pcm).astype(np.float64) ** 2
    assert set(begin_ns) == {0}
    for click in clicks:
        around = np.arange(round(click * AUDIO_RATE_HZ / rate) - 80, round(click * AUDIO_RATE_HZ / rate) + 80)
        centre = float(np.sum(around * power[around]) / np.sum(power[around]))
        assert centre / AUDIO_RATE_HZ == pytest.approx(click / rate, abs=1e-4)


def block(first: int, *, pcm: F32, delay_ns: int = 30 * MS, late_ns: int = 0, lost: bool = False) -> Block:
    """20 ms at 48 kHz that came `delay_ns` after it began to be taken."""
    arrival_ns = 5 * SECOND + first * SECOND // 48_000 + delay_ns + late_ns
    return Block(
        pcm=pcm, first=first, delay_ns=delay_ns, arrival_ns=arrival_ns, lost=lost, rate_hz=48_000, started_ns=0
    )


def test_a_device_at_its_own_rate_is_placed_and_resampled() -> None:
    drops: Counter[str] = Counter()
    timeline = Timeline("microphone", drops)
    t = np.arange(48_000) / 48_000
    sound = np.where(t < 0.6, 0, np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    placed = [timeline.place(block(first, pcm=sound[first : first + 960])) for first in range(0, 48_000, 960)]
    samples = [sample for sample in placed if sample is not None]
    assert all(after.t_ns == before.end_ns for before, after in pairwise(samples))
    pcm = joined(samples)
    onset_ns = samples[0].t_ns + int(np.argmax(np.abs(pcm) > 0.1)) * SECOND // AUDIO_RATE_HZ
    assert onset_ns == pytest.approx(5.6 * SECOND, abs=2 * MS)
    assert strongest_hz(pcm[-4800:]) == pytest.approx(440, abs=4)
    assert not drops


def test_lost_and_broken_blocks_are_counted_and_leave_a_gap() -> None:
    drops: Counter[str] = Counter()
    timeline = Timeline("microphone", drops)
    hum = np.full(960, 0.1, np.float32)
    samples: list[Sample] = []
    for n in range(60):
        pcm = np.full(960, np.nan, np.float32) if n == 20 else hum
        late_ns = 300 * MS if n >= 40 else 0  # 300 ms of sound went missing in the device
        sample = timeline.place(block(n * 960, pcm=pcm, late_ns=late_ns, lost=n == 40)) if n != 30 else None
        samples += [] if sample is None else [sample]
    assert drops == {"nan": 1, "overrun": 1}
    gaps = [after.t_ns - before.end_ns for before, after in pairwise(samples)]
    assert min(gaps) == 0
    # Up to 30 ms more than what was lost: what the resampler's filter held at the gap is not used.
    assert 300 * MS <= max(gaps) <= 330 * MS
    assert sum(gap > 15 * MS for gap in gaps) == 3
    assert 6460 * MS <= samples[-1].end_ns <= 6500 * MS  # the filter holds the rest
