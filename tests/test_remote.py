import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from agent.clock import MS, SECOND, RealClock, WallClock
from agent.config import Mqtt
from agent.config import RemoteSensor as Settings
from agent.mqtt import Address
from agent.remote.clocks import ClockId, Listening
from agent.seams import Sensor, SensorError
from agent.types import Audio, Frame, Modality, Sample, Text, Watermark
from sensors.remote import RemoteSensor
from sensors.remote_packet import Form, Packet
from sensors.remote_sender import Sender
from tests.far import FarClock, FarSensor, road, shade, told, tone
from tests.mosquitto import free_port, mosquitto

HOUR_NS = 3600 * SECOND
QUICK = [0]


def listening(broker: str) -> Listening:
    wall = WallClock()
    wall.read()
    return Listening.of(Mqtt(broker=broker), node="hub", clock=RealClock(), wall=wall)


def sensor(
    at: Listening, modality: Modality = Modality.TEXT, source: str = "notes", **settings: object
) -> RemoteSensor:
    table = {"kind": "remote", "source": source, "modality": modality, "stall": "10 s", **settings}
    return RemoteSensor(source, Settings.model_validate(table), listening=at)


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel the task, again where the client lost that: see `agent.mqtt.heed_cancellation`."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.result()


@contextlib.asynccontextmanager
async def sending(broker: str, clock: FarClock, *sensors: Sensor) -> AsyncIterator[Sender]:
    """A host that sends, until the end of the block."""
    sender = Sender(Mqtt(broker=broker), node="hub", host="pi", sensors=sensors, clock=clock)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        await stopped(task)


async def samples(of: RemoteSensor, count: int) -> list[Sample]:
    """The first so many."""
    found: list[Sample] = []
    async with asyncio.timeout(30), aclosing(of.stream()) as stream:
        async for item in stream:
            if isinstance(item, Sample):
                found.append(item)
                if len(found) == count:
                    break
    return found


def error_ns(sample: Sample) -> int:
    """How far from the truth a sample was placed that says when it was made."""
    assert isinstance(sample.payload, Text)
    return sample.end_ns - int(sample.payload.text)


async def placed(at: Listening, of: RemoteSensor, enough: Callable[[int], bool]) -> list[int]:
    """Errors of what comes until the clock is known well enough, each checked to be within the uncertainty."""
    errors: list[int] = []
    async with asyncio.timeout(60), aclosing(of.stream()) as stream:
        async for item in stream:
            if isinstance(item, Sample):
                (estimate,) = at.clocks.estimates().values()
                errors.append(error_ns(item))
                assert abs(errors[-1]) <= estimate.uncertainty_ns + MS // 100, f"{errors[-1]} ns off: {estimate}"
                assert item.end_ns <= item.arrival_ns
                if enough(estimate.uncertainty_ns):
                    break
    return errors


@pytest.mark.parametrize(
    ("there_ns", "back_ns", "within_ns"),
    [
        (QUICK, QUICK, 20 * MS),
        ([30 * MS], [2 * MS], 40 * MS),  # as far from even as it gets
        ([5 * MS, 30 * MS, 2 * MS], [20 * MS, 1 * MS], 40 * MS),
    ],
    ids=["quick", "lopsided", "jitter"],
)
async def test_samples_of_a_host_whose_clock_is_off_and_drifts_are_placed_within_the_uncertainty(
    broker: str, there_ns: Sequence[int], back_ns: Sequence[int], within_ns: int
) -> None:
    at, clock = listening(broker), FarClock(7 * HOUR_NS, ppm=100)
    async with (
        road(Address.of(broker).port, there_ns=there_ns, back_ns=back_ns) as port,
        sending(f"mqtt://127.0.0.1:{port}", clock, FarSensor("notes", Modality.TEXT, told, clock)),
    ):
        errors = await placed(at, sensor(at), lambda uncertainty_ns: uncertainty_ns < within_ns)
    assert errors
    assert abs(errors[-1]) < within_ns


async def test_what_is_known_of_a_clock_is_published_and_kept(broker: str) -> None:
    at, clock = listening(broker), FarClock(-HOUR_NS // 60)
    async with sending(broker, clock, FarSensor("notes", Modality.TEXT, told, clock)) as sender:
        await samples(sensor(at), 1)
    async with asyncio.timeout(10), aiomqtt.Client("127.0.0.1", Address.of(broker).port) as client:
        await client.subscribe("attune/hub/clock/pi")
        message = await anext(client.messages)
    assert message.retain
    said = json.loads(message.payload)
    assert (said["host"], said["clock"]) == ("pi", sender.clock_id.session)
    assert abs(said["offset_ms"] + 60_000) <= said["uncertainty_ms"] + 0.01
    assert 0 < said["rtt_ms"] <= 2 * said["uncertainty_ms"]
    assert said["answered"] >= 1
    assert list(at.clocks.uncertainty_ms()) == ["pi"]


async def test_pictures_and_sound_come_as_they_were_and_stay_in_step(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    sensors = [FarSensor("eye", Modality.VISION, shade, clock), FarSensor("ear", Modality.AUDIO, tone, clock)]
    async with sending(broker, clock, *sensors):
        frames, blocks = await asyncio.gather(
            samples(sensor(at, Modality.VISION, "eye"), 10), samples(sensor(at, Modality.AUDIO, "ear"), 30)
        )
    for frame in frames:
        assert isinstance(frame.payload, Frame)
        assert abs(frame.payload.bgr.astype(int) - shade(0).bgr).max() <= 8
    for block in blocks:
        assert isinstance(block.payload, Audio)
        assert abs(block.payload.pcm - tone(0).pcm).max() < 1 / 32767
    gaps = [after.t_ns - before.end_ns for before, after in pairwise(blocks)]
    assert gaps == [0] * len(gaps)
    assert all(b.end_ns > a.end_ns for a, b in pairwise(frames))
    assert len(at.clocks.estimates()) == 1


async def test_a_watermark_comes_over_and_does_not_run_ahead(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    async with (
        sending(broker, clock, FarSensor("notes", Modality.TEXT, told, clock)),
        asyncio.timeout(30),
        aclosing(sensor(at).stream()) as stream,
    ):
        async for item in stream:
            if isinstance(item, Watermark):
                break
    assert item.source == "notes"
    assert item.t_ns <= time.monotonic_ns()


async def test_a_sender_that_starts_again_with_another_clock_goes_on_at_once(broker: str) -> None:
    at = listening(broker)
    notes = sensor(at)
    errors: list[int] = []
    clocks = [FarClock(5 * HOUR_NS), FarClock(0, ppm=-100)]  # a host that was started anew counts from its start
    async with asyncio.timeout(60), aclosing(notes.stream()) as stream:
        for clock in clocks:
            async with sending(broker, clock, FarSensor("notes", Modality.TEXT, told, clock)) as sender:
                async for item in stream:
                    offset = at.clocks.offset(sender.clock_id)
                    if isinstance(item, Sample) and offset is not None:
                        errors.append(error_ns(item))
                        assert abs(errors[-1]) <= offset.at(item.end_ns).uncertainty_ns + MS // 100
                        break
    assert len(errors) == 2
    assert len(at.clocks.estimates()) == 2


async def test_after_the_broker_was_away_both_sides_come_back(tmp_path: Path) -> None:
    port = free_port()
    address = f"mqtt://127.0.0.1:{port}"
    at, clock = listening(address), FarClock(HOUR_NS)
    notes = sensor(at)
    async with sending(address, clock, FarSensor("notes", Modality.TEXT, told, clock)):
        async with mosquitto(port, tmp_path) as process, asyncio.timeout(30), aclosing(notes.stream()) as stream:
            await anext(stream)
            process.terminate()
            with pytest.raises(SensorError, match=rf"notes: broker {address}"):
                async for _ in stream:
                    pass
        with pytest.raises(SensorError, match="refused"):
            await samples(notes, 1)
        async with mosquitto(port, tmp_path):
            (sample,) = await samples(notes, 1)
    (estimate,) = at.clocks.estimates().values()
    assert abs(error_ns(sample)) <= estimate.uncertainty_ns + MS


async def test_a_source_that_nobody_sends_is_an_error_that_says_where_it_was_looked_for(broker: str) -> None:
    with pytest.raises(SensorError, match=r"nothing came on attune/hub/remote/notes for 0\.2 s; .*launch.py send"):
        await samples(sensor(listening(broker), stall="200 ms"), 1)


def packet(seq: int, form: Form = Form.TEXT, payload: bytes = b"hello", t_ns: int = 5 * SECOND) -> bytes:
    return Packet(ClockId("pi", "abc"), seq, form, t_ns, t_ns, payload).bytes()


@contextlib.asynccontextmanager
async def publishing(broker: str, *payloads: bytes) -> AsyncIterator[None]:
    """Publishes these again and again, until the end of the block."""

    async def publish() -> None:
        async with aiomqtt.Client("127.0.0.1", Address.of(broker).port) as client:
            while True:
                for payload in payloads:
                    await client.publish("attune/hub/remote/notes", payload)
                await RealClock().sleep_until(time.monotonic_ns() + 20 * MS)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        await stopped(task)


async def test_a_host_that_answers_no_probes_is_left_out_and_named_as_such(broker: str) -> None:
    notes = sensor(listening(broker), stall="1500 ms")
    async with publishing(broker, packet(1)):
        with pytest.raises(SensorError, match="'unsynchronised': its host does not answer the probes"):
            await samples(notes, 1)
    assert notes.drops["unsynchronised"] > 0


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (packet(1, payload=b"x" * 2048), "'size': larger than its max_size; raise that, or let the host send less"),
        (b"\x01\x00\x02{}", "'field': not what `launch.py send` of this version sends"),
    ],
    ids=["size", "field"],
)
async def test_what_cannot_be_used_says_what_to_do_about_it(broker: str, sent: bytes, says: str) -> None:
    async with publishing(broker, sent):
        with pytest.raises(SensorError, match=re.escape(says)):
            await samples(sensor(listening(broker), stall="1 s", max_size="1 KiB"), 1)


async def test_samples_of_a_clock_that_is_too_uncertain_are_left_out(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    notes = sensor(at, stall="1 s", max_uncertainty="20 ms")
    async with (
        road(Address.of(broker).port, there_ns=[30 * MS], back_ns=[30 * MS]) as port,
        sending(f"mqtt://127.0.0.1:{port}", clock, FarSensor("notes", Modality.TEXT, told, clock)),
    ):
        with pytest.raises(SensorError, match="'uncertain': its clock is less certain than max_uncertainty, 20 ms"):
            await samples(notes, 1)
    assert set(notes.drops) <= {"uncertain", "overflow"}


async def test_whatever_comes_is_counted_and_what_is_good_among_it_goes_on(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    notes = sensor(at, max_size="1 KiB")
    bad = {
        "version": b"\x02\x00\x00",
        "header": b"\x01\xff\xff{}",
        "field": b"\x01\x00\x02{}",
        "size": packet(1, payload=b"x" * 1024),
        "modality": packet(1, Form.PCM, b"\0\0"),
        "span": packet(1).replace(b'"end_ns":"5000000000"', b'"end_ns":"4999999999"'),
    }
    good = FarSensor("notes", Modality.TEXT, told, clock)
    async with sending(broker, clock, good), publishing(broker, *bad.values()):
        await samples(notes, 5)
        async with asyncio.timeout(60):
            while not all(notes.drops[reason] for reason in bad):
                await samples(notes, 5)
    assert set(notes.drops) - {"overflow", "uncertain"} == set(bad)  # those two where the machine is slow


async def test_a_sample_that_the_broker_kept_is_not_news(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    async with aiomqtt.Client("127.0.0.1", Address.of(broker).port) as client:
        await client.publish("attune/hub/remote/notes", packet(1), qos=1, retain=True)
    notes = sensor(at)
    async with sending(broker, clock, FarSensor("notes", Modality.TEXT, told, clock)):
        await samples(notes, 3)
    assert notes.drops["retained"] == 1


async def test_what_the_broker_does_not_take_waits_within_its_bound_and_the_end_does_not_wait_for_it() -> None:
    clock = FarClock(0)
    eye = FarSensor("eye", Modality.VISION, shade, clock, count=20)
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{free_port()}")
    sender = Sender(settings, node="hub", host="pi", sensors=[eye], clock=clock)
    async with asyncio.timeout(30):
        await sender.run()
    assert sender.dropped() == {"eye.overflow": 18}
    assert sender.sent == {}


async def test_a_picture_of_which_no_jpeg_can_be_made_is_counted_and_the_next_is_sent(broker: str) -> None:
    def half_of_them(here_ns: int) -> Frame:
        return shade(here_ns) if here_ns // FarSensor.EVERY_NS % 2 else Frame(np.zeros((0, 160, 3), np.uint8))

    at, clock = listening(broker), FarClock(HOUR_NS)
    async with sending(broker, clock, FarSensor("eye", Modality.VISION, half_of_them, clock)) as sender:
        await samples(sensor(at, Modality.VISION, "eye"), 3)
    assert sender.dropped()["eye.encode"] >= 2


async def test_the_end_of_its_sensors_is_the_end_of_a_sender_once_all_is_sent(broker: str) -> None:
    at, clock = listening(broker), FarClock(HOUR_NS)
    notes = FarSensor("notes", Modality.TEXT, told, clock, count=40)
    sender = Sender(Mqtt(broker=broker), node="hub", host="pi", sensors=[notes], clock=clock)
    async with asyncio.timeout(30):
        await asyncio.gather(sender.run(), samples(sensor(at), 20))
    assert sender.sent == {"notes": 40}
    assert sender.dropped() == {}
