import json
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from agent.delivery.rate import RateLimit
from agent.remote.clocks import ClockId
from agent.remote.offset import OffsetFilter
from agent.types import Audio, Frame, Modality, Sample, Text
from sensors.remote_line import RemoteLine
from sensors.remote_packet import (
    MAX_HEADER,
    Answer,
    BadPacket,
    Form,
    Packet,
    Question,
    parse,
    parse_answer,
    parse_question,
)
from sensors.remote_payload import (
    MAX_PIXELS,
    decode_jpeg,
    decode_pcm,
    decode_text,
    encode_payload,
    jpeg_size,
)

PI = ClockId("pi", "4f1c")
levels = st.text(st.characters(exclude_categories=("Cc", "Cs", "Z"), exclude_characters="/+#"), min_size=1, max_size=20)
stamps = st.integers(0, 2**62)


def reason_of(data: bytes) -> str:
    with pytest.raises(BadPacket) as caught:
        parse(data)
    return caught.value.reason


def wire(**changes: object) -> bytes:
    """A packet whose header was changed; None takes a field out."""
    fields = {"host": "pi", "clock": "4f1c", "seq": 17, "form": "text", "t_ns": "81", "end_ns": "92"} | changes
    header = json.dumps({key: value for key, value in fields.items() if value is not None}).encode()
    return struct.pack(">BH", 1, len(header)) + header + b"hello"


def test_the_layout() -> None:
    assert parse(wire()) == Packet(PI, 17, Form.TEXT, 81, 92, b"hello")
    assert Packet(PI, 1, Form.WATERMARK, 5, 5).bytes() == (
        b'\x01\x00\x4f{"host":"pi","clock":"4f1c","seq":1,"form":"watermark","t_ns":"5","end_ns":"5"}'
    )


@given(levels, st.integers(0, 2**40), st.sampled_from(Form), stamps, st.integers(0, 60 * SECOND), st.binary())
def test_what_was_written_is_read(host: str, seq: int, form: Form, t_ns: int, span_ns: int, payload: bytes) -> None:
    packet = Packet(ClockId(host, "s"), seq, form, t_ns, t_ns + span_ns, payload, "de-CH")
    assert parse(packet.bytes()) == packet


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "version"),
        (b"\x02\x00\x02{}", "version"),
        (b"\x01\x00", "header"),
        (b"\x01\x00\x09{}", "header"),
        (b"\x01\x00\x02[]", "header"),
        (b"\x01\x00\x02{\xff", "header"),
        (b"\x01\xff\xff" + b"[" * 65535, "header"),
        (wire(lang="x" * MAX_HEADER), "header"),
        (wire(host=None), "field"),
        (wire(host="a/b"), "field"),
        (wire(host="\ud800"), "field"),
        (wire(host="x" * 129), "field"),
        (wire(clock="a b"), "field"),
        (wire(seq=-1), "field"),
        (wire(seq=True), "field"),
        (wire(seq=1.0), "field"),
        (wire(form="gif"), "field"),
        (wire(form=["text"]), "field"),
        (wire(t_ns=81), "field"),
        (wire(t_ns="-1"), "field"),
        (wire(t_ns="٣"), "field"),
        (wire(end_ns="9" * 19), "field"),
        (wire(lang="!"), "field"),
        (wire(end_ns="80"), "span"),
        (wire(end_ns=str(81 + 61 * SECOND)), "span"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.binary()
    | st.binary().map(lambda rest: b"\x01" + rest)
    | st.dictionaries(st.sampled_from(("host", "clock", "seq", "form", "t_ns", "end_ns", "lang")), json_values).map(
        lambda fields: wire(**fields)
    )
)
def test_reading_a_sample_raises_its_own_error_alone(data: bytes) -> None:
    try:
        packet = parse(data)
    except BadPacket:
        return
    assert packet.t_ns <= packet.end_ns


@given(
    st.binary()
    | st.dictionaries(st.sampled_from(("clock", "id", "t1_ns", "t2_ns")), json_values).map(
        lambda fields: json.dumps(fields).encode()
    )
)
def test_reading_a_probe_or_an_answer_raises_its_own_error_alone(data: bytes) -> None:
    for read in (parse_question, parse_answer):
        try:
            said = read(data)
        except BadPacket:
            continue
        assert said.number >= 0


def test_probes_and_answers_are_read_as_they_were_written() -> None:
    assert parse_question(Question("s", 7).bytes()) == Question("s", 7)
    assert parse_answer(Answer("s", 7, 2**62, 2**62 + 1).bytes()) == Answer("s", 7, 2**62, 2**62 + 1)


def jpeg(width: int, height: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def refused(data: bytes) -> str:
    with pytest.raises(BadPacket) as caught:
        decode_jpeg(data)
    return caught.value.reason


def test_a_picture_that_claims_to_be_huge_is_not_decoded() -> None:
    small = jpeg(64, 48)
    assert jpeg_size(small) == (64, 48)
    at = small.index(b"\xff\xc0") + 5
    huge = small[:at] + struct.pack(">HH", 65500, 65500) + small[at + 4 :]
    assert refused(huge) == "pixels"
    assert MAX_PIXELS == 4096 * 4096


def test_a_marker_without_a_length_cannot_hide_the_frame_header() -> None:
    """A decoder goes on right behind TEM; to skip by the two bytes there would be to look at another frame header."""
    small = jpeg(64, 48)
    hiding = b"\xff\xd8\xff\x01" + small[2:]
    skipped_to = 4 + int.from_bytes(small[2:4])
    with pytest.raises(BadPacket, match="payload"):
        jpeg_size(hiding.ljust(skipped_to, b"\0") + small[small.index(b"\xff\xc0") :])


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_a_damaged_picture_raises_its_own_error_alone(noise: bytes, at: int, value: int) -> None:
    whole = jpeg(16, 16)
    at %= len(whole)
    for data in (b"\xff\xd8" + noise, whole[:at], whole[:at] + bytes([value]) + whole[at + 1 :]):
        try:
            payload = decode_jpeg(data)
        except BadPacket as error:
            assert error.reason in ("payload", "pixels")  # noqa: PT017 - either is right
        else:
            assert isinstance(payload, Frame)


def test_a_picture_of_another_format_is_refused() -> None:
    assert refused(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()) == "payload"


def test_payloads_survive_the_way() -> None:
    pcm = np.array([0, 0.25, -1, 1, 1.5], np.float32).repeat(64)
    form, data = encode_payload(Sample("m", Audio(pcm), 0, 20 * MS, 20 * MS), quality=80)
    back = decode_pcm(data, 20 * MS)
    assert form is Form.PCM
    assert isinstance(back, Audio)
    np.testing.assert_allclose(back.pcm, np.clip(pcm, -1, 1), atol=1 / 32767)
    form, data = encode_payload(Sample("t", Text("grüezi"), 0, 0, 0), quality=80)
    assert (form, decode_text(data)) == (Form.TEXT, "grüezi")


@pytest.mark.parametrize(
    ("data", "span_ns", "reason"),
    [(b"", 0, "payload"), (b"\0", 0, "payload"), (b"\0\0" * 320, 9 * MS, "span"), (b"\0\0" * 320, 41 * MS, "span")],
)
def test_sound_has_whole_samples_and_lasts_as_long_as_it_says(data: bytes, span_ns: int, reason: str) -> None:
    with pytest.raises(BadPacket, match=reason):
        decode_pcm(data, span_ns)


@pytest.mark.parametrize("data", [b"", b"  \n", b"\xff"])
def test_a_text_says_something(data: bytes) -> None:
    with pytest.raises(BadPacket, match="payload"):
        decode_text(data)


def exactly(ahead_ns: int, rtt_ns: int = 2 * MS) -> OffsetFilter:
    """A clock that is ahead by so much, probed at our 0."""
    offset = OffsetFilter()
    offset.add(-rtt_ns // 2, ahead_ns, ahead_ns, rtt_ns // 2)
    return offset


def block(seq: int, t_ns: int, end_ns: int, clock: ClockId = PI) -> Packet:
    return Packet(clock, seq, Form.PCM, t_ns, end_ns)


def line(modality: Modality = Modality.AUDIO, max_uncertainty_ns: int = 50 * MS) -> RemoteLine:
    return RemoteLine(max_uncertainty_ns=max_uncertainty_ns, in_order=modality is not Modality.TEXT)


def test_blocks_that_follow_one_another_do_so_when_the_estimate_has_moved() -> None:
    places = line()
    first = places.place(block(1, 9 * SECOND, 9 * SECOND + 20 * MS), exactly(9 * SECOND), SECOND)
    t_ns, end_ns = places.place(block(2, 9 * SECOND + 20 * MS, 9 * SECOND + 40 * MS), exactly(9 * SECOND + MS), SECOND)
    assert first == (0, 20 * MS)
    assert t_ns == 20 * MS
    assert end_ns == pytest.approx(39 * MS, abs=10_000)


def test_ends_rise_even_when_the_estimate_falls_back_further() -> None:
    places = line()
    places.place(block(1, 9 * SECOND, 9 * SECOND + 20 * MS), exactly(9 * SECOND), SECOND)
    t_ns, end_ns = places.place(
        block(2, 9 * SECOND + 20 * MS, 9 * SECOND + 40 * MS), exactly(9 * SECOND + 30 * MS), SECOND
    )
    assert t_ns <= end_ns == 20 * MS + 1


def reason_for(places: RemoteLine, packet: Packet, offset: OffsetFilter, arrival_ns: int) -> str:
    with pytest.raises(BadPacket) as caught:
        places.place(packet, offset, arrival_ns)
    return caught.value.reason


def test_what_is_not_placed_says_why() -> None:
    places, offset = line(), exactly(9 * SECOND)
    places.place(block(5, 9 * SECOND, 9 * SECOND + 20 * MS), offset, SECOND)
    assert reason_for(places, block(5, 9 * SECOND, 9 * SECOND + 40 * MS), offset, SECOND) == "order"
    assert reason_for(places, block(6, 9 * SECOND, 9 * SECOND + 20 * MS), offset, SECOND) == "order"
    assert reason_for(places, block(6, 11 * SECOND, 11 * SECOND), offset, SECOND) == "stamp"
    assert (
        reason_for(line(max_uncertainty_ns=MS), block(1, 9 * SECOND, 9 * SECOND), exactly(9 * SECOND, 3 * MS), SECOND)
        == "uncertain"
    )


def test_nothing_ends_after_it_came() -> None:
    assert line().place(block(1, 9 * SECOND, 9 * SECOND + MS), exactly(9 * SECOND), MS // 2) == (0, MS // 2)


def test_texts_may_overtake_one_another() -> None:
    places, offset = line(Modality.TEXT), exactly(9 * SECOND)
    for seq, t_ns in ((1, 9 * SECOND + 5 * MS), (2, 9 * SECOND)):
        packet = Packet(PI, seq, Form.TEXT, t_ns, t_ns)
        assert places.place(packet, offset, SECOND)[1] == t_ns - 9 * SECOND


def test_a_rate_is_kept_on_the_average_and_at_once() -> None:
    gate = RateLimit(10)
    assert [gate.passes(0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert gate.passes(100 * MS)
    assert not gate.passes(100 * MS)
    assert sum(gate.passes(SECOND + count * 10 * MS) for count in range(1000)) == pytest.approx(109, abs=2)
