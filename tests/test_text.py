import asyncio
import fcntl
import json
import os
import sys
import termios
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND, RealClock, VirtualClock
from agent.delivery.policy import Delivery, NeverDrop, Queue
from agent.seams import SensorError
from agent.types import Modality, Sample, Text, Watermark
from sensors.message import Message, Unreadable, parse, wall_time_ns
from sensors.text import HEARTBEAT_NS, MAX_BYTES, StdinSensor, TextInbox
from tests.reading import read_samples, read_until

NOW = 1_000 * SECOND
WALL = 1_800_000_000 * SECOND
"""Wall clock at NOW: 2027-01-15T08:00:00Z."""


def make_inbox(
    clock: VirtualClock | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    max_rate_hz: float | None = None,
    delivery: Delivery | None = None,
) -> TextInbox:
    return TextInbox(
        "text",
        clock=clock or VirtualClock(NOW),
        mono_ns=lambda wall_ns: wall_ns - WALL + NOW,
        max_bytes=max_bytes,
        max_rate_hz=max_rate_hz,
        delivery=delivery or NeverDrop(),
    )


async def taken(inbox: TextInbox, *payloads: bytes) -> list[Sample]:
    """The samples that come of these payloads."""
    for payload in payloads:
        inbox.put(payload, NOW)
    inbox.close()
    return await read_samples(inbox, 100)


def test_its_source_is_awaited_and_may_be_late() -> None:
    (source,) = make_inbox().sources
    assert (source.name, source.modality, source.awaited) == ("text", Modality.TEXT, True)
    assert source.late_by_ns == 10 * SECOND


@pytest.mark.parametrize(
    ("payload", "text", "lang"),
    [
        (b" hello\n", "hello", None),
        ("\ufeffgrüß dich".encode(), "grüß dich", None),
        (b'{"text": "hola", "lang": "es-MX", "source": "kiosk", "more": []}', "hola", "es-MX"),
        (b'"quoted"', '"quoted"', None),
    ],
)
async def test_what_a_payload_says(payload: bytes, text: str, lang: str | None) -> None:
    inbox = make_inbox()
    (sample,) = await taken(inbox, payload)
    assert isinstance(sample.payload, Text)
    assert (sample.payload.text, sample.payload.lang, sample.payload.origin) == (text, lang, "message")
    assert (sample.t_ns, sample.end_ns, sample.arrival_ns) == (NOW, NOW, NOW)
    assert not inbox.drops


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe\x00", "utf8"),
        (b'{"text": "\\ud800"}', "utf8"),
        (b'{"text": ', "json"),
        (b'{"a":' * 10_000, "json"),
        (b'{"lang": "en"}', "field"),
        (b'{"text": 7}', "field"),
        (b'{"text": "  "}', "empty"),
        (b"", "empty"),
        (b"x" * 10_000_000, "size"),
    ],
)
async def test_what_is_left_out_is_counted(payload: bytes, reason: str) -> None:
    inbox = make_inbox()
    (sample,) = await taken(inbox, payload, b"still here")
    assert isinstance(sample.payload, Text)
    assert sample.payload.text == "still here"
    assert inbox.drops == {reason: 1}


@pytest.mark.parametrize(
    ("stamp", "t_ns"),
    [
        ("2027-01-15T07:59:58.5Z", NOW - 1500 * MS),
        ("2027-01-15T09:59:58+02:00", NOW - 2 * SECOND),
        (1_799_999_999, NOW - SECOND),
        (1_799_999_999_250, NOW - 750 * MS),
        (1_800_000_000.5, NOW),  # half a second ahead of us: its clock is fast
    ],
)
async def test_a_plausible_stamp_is_when_it_was_said(stamp: object, t_ns: int) -> None:
    inbox = make_inbox()
    (sample,) = await taken(inbox, json.dumps({"text": "now", "time": stamp}).encode())
    assert sample.t_ns == sample.end_ns == pytest.approx(t_ns, abs=200)  # a double has 238 ns steps there
    assert sample.t_ns <= sample.arrival_ns == NOW
    assert not inbox.drops


@pytest.mark.parametrize(
    "stamp", [0, "1970-01-01T00:00:00Z", 1_799_999_980, 1_800_000_002, "soon", "2027-01-15T08:00:00", True, 1e308, [1]]
)
async def test_an_implausible_stamp_gives_way_to_arrival(stamp: object) -> None:
    inbox = make_inbox()
    (sample,) = await taken(inbox, json.dumps({"text": "now", "time": stamp}).encode())
    assert sample.t_ns == NOW
    assert inbox.drops == {"stamp": 1}


async def test_a_lang_that_is_none_is_ignored_and_counted() -> None:
    inbox = make_inbox()
    (sample,) = await taken(inbox, b'{"text": "hi", "lang": "not a tag"}')
    assert isinstance(sample.payload, Text)
    assert sample.payload.lang is None
    assert inbox.drops == {"lang": 1}


async def test_of_too_many_in_a_queue_the_oldest_go() -> None:
    inbox = make_inbox(delivery=Queue(3))
    samples = await taken(inbox, *(str(n).encode() for n in range(10)))
    assert [sample.payload.text for sample in samples if isinstance(sample.payload, Text)] == ["7", "8", "9"]
    assert inbox.drops == {"overflow": 7}


async def test_of_too_many_that_are_never_dropped_the_new_are_refused_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inbox = make_inbox(delivery=NeverDrop(3))
    for _ in range(2):  # a flood, and another after it was read
        samples = await taken(inbox, *(str(n).encode() for n in range(10)))
        assert texts(samples) == ["0", "1", "2"]
    assert inbox.drops == {"refused": 14}
    assert len([record for record in caplog.records if "3 messages wait" in record.getMessage()]) == 2


async def test_who_can_wait_has_room_once_something_was_taken() -> None:
    inbox = make_inbox(delivery=NeverDrop(1))
    async with asyncio.timeout(20), aclosing(inbox.stream()) as stream:
        await inbox.room()
        inbox.put(b"one", NOW)
        waiting = asyncio.create_task(inbox.room())
        await _settle()
        assert not waiting.done()
        await anext(stream)
        await waiting


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)
messages = st.dictionaries(st.sampled_from(["text", "time", "lang", "source", "x"]), json_values)
stamped = st.fixed_dictionaries({"text": st.text(), "time": st.integers() | st.floats() | st.datetimes().map(str)})
payloads = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary().map(lambda tail: b"{" + tail)
    | (messages | stamped).map(lambda message: json.dumps(message).encode())
)


def read(payload: bytes) -> Message | str:
    try:
        return parse(payload)
    except Unreadable as error:
        return error.reason


@given(payloads)
def test_parsing_reads_or_refuses_and_nothing_else(payload: bytes) -> None:
    message = read(payload)
    if isinstance(message, str):
        assert message in {"utf8", "json", "field", "empty"}
    else:
        assert message.text == message.text.strip() != ""
        assert message.text.encode()
        assert message.wall_ns is None or isinstance(message.wall_ns, int)


@given(st.lists(payloads, max_size=20))
def test_whatever_comes_is_taken_or_counted(batch: list[bytes]) -> None:
    inbox = make_inbox(max_bytes=40)
    samples = asyncio.run(taken(inbox, *batch))
    corrected = inbox.drops["stamp"] + inbox.drops["lang"]
    assert len(samples) + inbox.drops.total() - corrected == len(batch)
    assert all(NOW - 10 * SECOND <= sample.t_ns <= sample.arrival_ns for sample in samples)


def test_a_flood_is_thinned_out_before_anything_is_read_of_it() -> None:
    inbox = make_inbox(max_rate_hz=50, delivery=NeverDrop(1000))
    for n in range(2000):  # 1,000 a second for two seconds
        inbox.put(b"hello", NOW + n * SECOND // 1000)
    inbox.close()
    samples = asyncio.run(read_samples(inbox, 1000))
    assert 145 <= len(samples) <= 150, "a second's worth at once, and then as the time goes"
    assert inbox.drops == {"rate": 2000 - len(samples)}


@given(st.integers(1_000_000_000, 4_000_000_000), st.sampled_from([1, 1000, 10**6, 10**9]))
def test_the_unit_of_a_number_follows_from_its_size(seconds: int, per_second: int) -> None:
    assert wall_time_ns(seconds * per_second) == seconds * SECOND


def test_a_message_is_read_once_for_all() -> None:
    assert parse(b'{"text": "a", "time": 1.5e9, "lang": "en"}') == Message(
        "a", lang="en", wall_ns=1_500_000_000 * SECOND
    )


async def _settle() -> None:
    """Let the loop turn until nothing but the clock can wake it."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_silence_beats_every_tenth_of_a_second_of_clock_time() -> None:
    clock = VirtualClock(NOW)
    inbox = make_inbox(clock)
    items: list[Sample | Watermark] = []

    async def listen(stream: AsyncGenerator[Sample | Watermark, None]) -> None:
        async with aclosing(stream):
            async for item in stream:
                items.append(item)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        listener = group.create_task(listen(inbox.stream()))
        await _settle()
        for n in range(1, 4):
            clock.advance_to(NOW + n * HEARTBEAT_NS)
            await _settle()
        assert items == [Watermark("text", NOW + n * HEARTBEAT_NS) for n in range(4)]
        clock.advance_to(NOW + 3 * HEARTBEAT_NS + MS)
        inbox.put(b"hi", clock.now_ns())
        await _settle()
        sample, beat = items[4:]
        assert isinstance(sample, Sample)
        assert beat == Watermark("text", sample.end_ns)
        listener.cancel()


async def test_the_inbox_can_be_read_again_after_it_was_left() -> None:
    inbox = make_inbox()
    await read_until(inbox, lambda items: len(items) == 1)
    (sample,) = await taken(inbox, b"later")
    assert isinstance(sample.payload, Text)


def stdin(fd: int) -> StdinSensor:
    return StdinSensor("stdin", clock=RealClock(), mono_ns=lambda wall_ns: wall_ns, fd=fd)


def texts(items: list[Sample]) -> list[str]:
    return [item.payload.text for item in items if isinstance(item.payload, Text)]


async def test_lines_come_as_they_are_written_and_end_with_the_input() -> None:
    reader, writer = os.pipe()
    os.write(writer, b'one\n\n{"text": "two"}\nthr')
    sensor = stdin(reader)
    try:
        async with asyncio.timeout(20), aclosing(sensor.stream()) as stream:
            got: list[Sample] = []
            async for item in stream:
                if isinstance(item, Sample):
                    got.append(item)
                    if len(got) == 2:
                        os.write(writer, b"ee")
                        os.close(writer)
    finally:
        os.close(reader)
    assert texts(got) == ["one", "two", "three"]
    assert all(abs(sample.t_ns - RealClock().now_ns()) < 20 * SECOND for sample in got)


async def test_a_file_as_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"first\n" + b"x" * 70_000 + b"\n\xff\nlast")
    sensor = stdin(fd := os.open(path, os.O_RDONLY))
    try:
        assert texts(await read_samples(sensor, 100)) == ["first", "last"]
    finally:
        os.close(fd)
    assert sensor.drops == Counter(size=1, utf8=1)


async def test_who_writes_faster_than_is_read_waits_and_loses_nothing() -> None:
    lines = [f"line {n}" for n in range(9_999)]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "\n".join(lines).encode()
    room = os.write(writer, text)  # as much as the pipe holds
    assert room < len(text)
    sensor = StdinSensor("stdin", clock=RealClock(), mono_ns=lambda wall_ns: wall_ns, fd=reader, delivery=NeverDrop(2))
    try:
        async with asyncio.timeout(60), aclosing(sensor.stream()) as stream:
            got = [await anext(stream) for _ in range(5)]
            await _settle()
            assert unread(reader) >= room - 2 * StdinSensor.CHUNK
            rest = asyncio.create_task(asyncio.to_thread(write_all, writer, text[room:]))
            got += [item async for item in stream]
            await rest
    finally:
        os.close(reader)
    assert texts([item for item in got if isinstance(item, Sample)]) == lines
    assert not sensor.drops


def unread(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def write_all(fd: int, content: bytes) -> None:
    os.set_blocking(fd, True)
    with os.fdopen(fd, "wb") as pipe:
        pipe.write(content)


async def test_a_queue_reads_on_and_lets_the_oldest_lines_go(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{n}\n" for n in range(100)))
    fd = os.open(path, os.O_RDONLY)
    sensor = StdinSensor("stdin", clock=RealClock(), mono_ns=lambda wall_ns: wall_ns, fd=fd, delivery=Queue(3))
    try:
        assert texts(await read_samples(sensor, 100)) == ["97", "98", "99"]
    finally:
        os.close(fd)
    assert sensor.drops == {"overflow": 97}


async def test_nothing_as_standard_input_ends_at_once() -> None:
    sensor = stdin(fd := os.open(os.devnull, os.O_RDONLY))
    try:
        assert await read_samples(sensor, 1) == []
    finally:
        os.close(fd)


async def test_no_standard_input_is_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    sensor = StdinSensor("stdin", clock=RealClock(), mono_ns=lambda wall_ns: wall_ns)
    assert await read_samples(sensor, 1) == []


async def test_a_terminal_that_can_not_be_read_is_an_error_each_time() -> None:
    ours, theirs = os.openpty()
    os.write(theirs, b"last words\n")
    os.close(theirs)  # reading ours is EIO from now on, as in the background of a terminal, and it is always ready
    sensor = stdin(ours)
    got: list[Sample] = []

    def keep(items: list[Sample | Watermark]) -> bool:
        got.extend(item for item in items[-1:] if isinstance(item, Sample))
        return False

    try:
        for _ in range(2):
            with pytest.raises(SensorError, match=r"stdin: standard input can not be read \(.*Errno 5.*< /dev/null"):
                await read_until(sensor, keep)
    finally:
        os.close(ours)
    assert texts(got) == ["last words"]


async def test_a_folder_as_standard_input_is_an_error(tmp_path: Path) -> None:
    sensor = stdin(fd := os.open(tmp_path, os.O_RDONLY))
    try:
        with pytest.raises(SensorError, match=r"stdin: standard input can not be read \(.*Is a directory"):
            await read_samples(sensor, 1)
    finally:
        os.close(fd)


async def test_a_bug_while_a_file_is_read_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"text": "a", "time": 1.5e9}\n')
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(ZeroDivisionError):
            await read_samples(StdinSensor("stdin", clock=RealClock(), mono_ns=lambda wall_ns: wall_ns // 0, fd=fd), 1)
    finally:
        os.close(fd)
