"""Recordings as files: what is written comes out, other readers accept it, and damage is told in words."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mcap.reader import make_reader
from mcap.writer import Writer
from mcap_protobuf.decoder import DecoderFactory

from agent.recording import schemas
from agent.recording.format import Told
from agent.types import Audio, Frame, Sample
from sensors.session import open_session
from sensors.session_files import SessionError
from sensors.session_mcap import McapSession
from tests import recordings
from tests.recordings import SOURCES, START_NS, WALL_NS, opened, raw, recorded_live, sensed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two seconds, whole and exact."""
    out = tmp_path_factory.mktemp("out")
    asyncio.run(recorded_live(recordings.settings(out), seconds=2))
    (folder,) = out.iterdir()
    return folder


def drained(path: Path) -> int:
    """How many entries there are, every picture looked at."""
    count = 0
    for entry in McapSession.open(path).entries():
        if isinstance(entry.what, Sample) and isinstance(entry.what.payload, Frame):
            assert entry.what.payload.bgr.size
        count += 1
    return count


def test_what_sensors_delivered_comes_out_bit_by_bit(folder: Path) -> None:
    session = open_session(folder)
    assert session.sources == SOURCES
    assert (session.start_ns, session.start_wall_ns) == (START_NS, WALL_NS)
    fed = [item for item in sensed(2) if isinstance(item, Sample)]
    found = [event for event in session.events() if isinstance(event, Sample)]
    assert sorted(map(raw, found)) == sorted(map(raw, fed))
    assert [event.arrival_ns for event in found] == sorted(event.arrival_ns for event in fed)


def test_the_official_readers_accept_it(folder: Path) -> None:
    """The `mcap` library with its checksums, Foxglove's own message classes, and JSON Schema's own validator."""
    messages: dict[str, Any] = {"/camera": CompressedImage, "/microphone": RawAudio, "/text": Log, "/speech": Log}
    named = ("ORDER", "WINDOW", "DECISION", "EVENT", "METRICS")
    rows = {f"/attune/{name.lower()}": vars(schemas)[name] for name in named}
    seen: set[str] = set()
    with (folder / "0001.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        assert summary
        assert summary.statistics
        for schema, channel, message in reader.iter_messages():
            assert schema
            seen.add(channel.topic)
            if channel.topic in messages:
                assert schema.name == messages[channel.topic].DESCRIPTOR.full_name
                stamp = messages[channel.topic].FromString(message.data).timestamp
                assert stamp.seconds * 10**9 + stamp.nanos == message.publish_time
            else:
                assert json.loads(schema.data) == rows[channel.topic]
                Draft202012Validator(rows[channel.topic]).validate(json.loads(message.data))
        assert {message.DESCRIPTOR.name for *_, message in reader.iter_decoded_messages("/camera")} == {
            "CompressedImage"
        }
        (config,) = reader.iter_attachments()
        assert json.loads(config.data)["agent"]["node"] == "test"
    assert seen >= {*messages, "/attune/order", "/attune/window", "/attune/decision"}
    for schema_ in rows.values():
        Draft202012Validator.check_schema(schema_)


async def test_sixteen_bits_and_jpeg_are_near(tmp_path: Path) -> None:
    await recorded_live(recordings.settings(tmp_path, frames="jpeg", quality=100, audio="pcm"), seconds=1)
    given_ = {(s.source, s.t_ns): s for s in sensed(1) if isinstance(s, Sample)}
    found = [event for event in opened(tmp_path).events() if isinstance(event, Sample)]
    assert len(found) == len(given_)
    for sample in found:
        match sample.payload, given_[sample.source, sample.t_ns].payload:
            case Audio(pcm), Audio(was):
                assert np.abs(pcm - was).max() <= 1 / 32767
            case Frame(bgr), Frame(was_bgr):
                assert bgr.shape == was_bgr.shape
                # Random colours lose most of their colour, not of their light.
                assert abs(float(bgr.mean()) - float(was_bgr.mean())) < 3


async def test_opus_keeps_the_place_of_every_sample(tmp_path: Path) -> None:
    """Blocks come out as long as they were, at their stamps; noise itself is not what Opus keeps."""
    await recorded_live(recordings.settings(tmp_path, audio="opus"), seconds=2)
    session = opened(tmp_path)
    sound = [e.what for e in session.entries() if isinstance(e.what, Sample) and e.what.source == "microphone"]
    assert [(s.t_ns, s.end_ns, s.arrival_ns) for s in sound] == [
        (s.t_ns, s.end_ns, s.arrival_ns) for s in sensed(2) if isinstance(s, Sample) and s.source == "microphone"
    ]
    assert {len(s.payload.pcm) for s in sound if isinstance(s.payload, Audio)} == {320}
    assert all(told.lost == 0 for told in (e.what for e in session.entries()) if isinstance(told, Told))


def test_a_tone_comes_out_of_opus_in_its_place() -> None:
    from foxglove_schemas_protobuf.CompressedAudio_pb2 import CompressedAudio

    from agent.recording.codec import OpusReader, OpusWriter

    tone = (0.5 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 900, 16_000)) / 16_000)).astype(np.float32)
    writer, reader = OpusWriter(), OpusReader()
    packets = [packet for i in range(0, 16_000, 333) for packet in writer.feed(tone[i : i + 333], 0)]
    packets += writer.close(0)
    heard = np.concatenate([reader.feed(CompressedAudio.FromString(packet).data) for packet in packets])[:16_000]
    assert np.corrcoef(tone[800:-800], heard[800:-800])[0, 1] > 0.95


def test_cut_off_anywhere_all_whole_chunks_are_read(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "0001.mcap").read_bytes()
    everything = drained(folder)
    found = []
    for share in (0.3, 0.6, 0.9, 0.99, 0.999):
        path = tmp_path / f"{share}.mcap"
        path.write_bytes(whole[: int(len(whole) * share)])
        found.append(drained(path))
        (survey,) = McapSession.open(path).survey()
        assert survey.cut_off_at is not None
        assert survey.cut_off_at <= survey.nbytes
    assert found == sorted(found)
    assert found[-1] == everything


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no mcap at all, but long enough", "no MCAP"),
        (b"\x89MCAP0\r\n", "cut off"),
        (b"\x89", "cut off"),
    ],
)
def test_no_recording_at_all_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "0001.mcap"
    path.write_bytes(content)
    with pytest.raises(SessionError, match=said):
        open_session(path)


def test_somebody_elses_mcap_is_said(tmp_path: Path) -> None:
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        writer.add_message(writer.register_channel("/x", "json", 0), 1, b"{}", 1)
        writer.finish()  # type: ignore[no-untyped-call]
    with pytest.raises(SessionError, match="not of Attune"):
        open_session(path)


def harmless(path: Path, most: int) -> None:
    """What is read of it is no more than there was, or it is said in words that it is damaged."""
    try:
        assert drained(path) <= most
        for decision in McapSession.open(path).published():
            assert decision
    except SessionError as error:
        assert str(path) in str(error)  # noqa: PT017 - most examples raise nothing


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_told_in_words_or_does_no_harm(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((folder / "0001.mcap").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 3000))
        content[at] = data.draw(st.integers(0, 255))
    begin = data.draw(st.integers(0, len(content)))
    del content[begin : begin + data.draw(st.integers(0, 3) | st.integers(0, len(content)))]  # to the end, or within
    path = tmp_path / "damaged.mcap"
    path.write_bytes(content)
    harmless(path, drained(folder))


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 10**15, 1e308, float("inf"), "", "9" * 40, "camera", [], {}, [["camera", 0, 10**15]]]
)
NESTED = b"[" * 100_000


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_that_nobody_wrote_are_told_in_words(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Whole by every checksum, but with one value, one message or one field of the head that makes no sense."""
    path, number = tmp_path / "odd.mcap", data.draw(st.integers(0, 400))

    def odd(content: bytes) -> bytes:
        try:
            row = json.loads(content)
        except ValueError:
            return data.draw(st.binary(max_size=40))
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(st.just(NESTED) | st.binary(max_size=9))
        inner = row
        while isinstance(inner, dict) and inner:
            key = data.draw(st.sampled_from(sorted(inner)))
            if not isinstance(inner[key], dict) or data.draw(st.booleans()):
                inner[key] = data.draw(ODD)
                break
            inner = inner[key]
        return json.dumps(row).encode()

    with path.open("wb") as file, (folder / "0001.mcap").open("rb") as was:
        reader, writer = make_reader(was), Writer(file)
        writer.start()
        (head,) = reader.iter_metadata()
        fields = dict(head.metadata)
        if number % 4 == 0:
            name = data.draw(st.sampled_from(sorted(fields)))
            fields[name] = odd(fields[name].encode()).decode(errors="replace")
        writer.add_metadata(head.name, fields)
        channels: dict[int, int] = {}
        for at, (schema, channel, message) in enumerate(reader.iter_messages(log_time_order=False)):
            assert schema
            if channel.id not in channels:
                known = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, known)
            content = odd(message.data) if at == number else message.data
            writer.add_message(channels[channel.id], message.log_time, content, message.publish_time)
        writer.finish()  # type: ignore[no-untyped-call]
    harmless(path, drained(folder))
