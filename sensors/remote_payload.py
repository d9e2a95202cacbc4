"""Payloads of samples as they travel: JPEG, PCM and UTF-8. What is read here comes from afar and may be anything."""

from __future__ import annotations

import struct

import numpy as np

from agent.clock import SECOND
from agent.types import AUDIO_RATE_HZ, Audio, Frame, Payload, Sample, Text
from sensors.remote_packet import BadPacket, Form

MAX_PIXELS = 1 << 24
"""16 million: a picture of a few hundred bytes may claim a billion, and cost three gigabytes to decode."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The SOF markers of ITU-T T.81, table B.1; the other three are tables and an extension."""
_BARE = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))
"""Markers without a length: none belongs before the frame header, and a decoder may read on where we would skip."""


def encode_payload(sample: Sample, *, quality: int) -> tuple[Form, bytes]:
    """What stands for a sample's payload on the wire; JPEG of that quality, 0..100. Raises `ValueError`."""
    match sample.payload:
        case Frame(bgr):
            from agent.imaging import encode_jpeg  # who sends sound or text alone need not load OpenCV

            return Form.JPEG, encode_jpeg(bgr, quality)
        case Audio(pcm):
            return Form.PCM, (np.clip(pcm, -1, 1) * 32767).round().astype("<i2").tobytes()
        case Text(text):
            return Form.TEXT, text.encode()


def decode_jpeg(data: bytes) -> Payload:
    """A picture; raises `BadPacket` with ``payload``, or ``pixels`` when there are more than `MAX_PIXELS`."""
    import cv2

    width, height = jpeg_size(data)
    if width * height > MAX_PIXELS:
        raise BadPacket("pixels")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise BadPacket("payload")
    return Frame(bgr)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG's frame header names (ITU-T T.81, B.2.2); `BadPacket` where there is none."""
    if data[:2] != b"\xff\xd8":
        raise BadPacket("payload")
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in _BARE:
            break
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise BadPacket("payload")


def decode_pcm(data: bytes, span_ns: int) -> Payload:
    """Sound that is as long as its stamps say, to a factor of two; raises `BadPacket` with ``payload`` or ``span``.

    Not exactly as long: the sender fits its samples to its clock, and may have had to catch up.
    """
    if not data or len(data) % 2:
        raise BadPacket("payload")
    pcm = np.frombuffer(data, "<i2").astype(np.float32) / 32767
    long_ns = len(pcm) * SECOND // AUDIO_RATE_HZ
    if not long_ns // 2 <= span_ns <= 2 * long_ns:
        raise BadPacket("span")
    return Audio(np.maximum(pcm, np.float32(-1)))


def decode_text(data: bytes) -> str:
    """A text that says something; raises `BadPacket` with ``payload``."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise BadPacket("payload") from None
    if not text:
        raise BadPacket("payload")
    return text
