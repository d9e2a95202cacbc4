"""What the payloads of samples become in a recording: messages in Foxglove's schemas.

Imported only by what writes or reads recordings: protobuf and OpenCV take time to load.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import cv2
import numpy as np
import soxr
from foxglove_schemas_protobuf.CompressedAudio_pb2 import CompressedAudio
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage

from agent.clock import SECOND
from agent.imaging import encode_jpeg, encode_png, refuse_no_picture
from agent.recording.format import OPUS, PCM_F32, PCM_S16
from agent.types import AUDIO_RATE_HZ, F32, U8, Audio, Frame, Payload, Text

FULL_SCALE = 32768.0
PACKET = AUDIO_RATE_HZ // 50
"""Samples in a packet of Opus: 20 ms, as Foxglove asks for."""
OPUS_BITS_S = 32_000

Frames = Literal["jpeg", "png", "raw"]
Sound = Literal["pcm", "float", "opus"]


@dataclass(frozen=True, slots=True)
class Coding:
    """How payloads are written."""

    frames: Frames
    quality: int
    """Of JPEG, 1..100."""
    audio: Sound

    @property
    def exact(self) -> bool:
        """Whether pictures and sound come out as they went in; ``pcm`` is exact for sound of 16 bits."""
        return self.frames != "jpeg" and self.audio == "float"


def schema_of(payload: Payload, coding: Coding) -> type[Any]:
    """The message class of a payload."""
    match payload:
        case Frame():
            return RawImage if coding.frames == "raw" else CompressedImage
        case Audio():
            return CompressedAudio if coding.audio == "opus" else RawAudio
        case Text():
            return Log


def pack_frame(frame: Frame, source: str, at_ns: int, coding: Coding) -> bytes:
    """A picture as a message with the wall-clock stamp ``at_ns``. Raises `PictureError` where it is none."""
    bgr = frame.bgr
    message: Any
    match coding.frames:
        case "raw":
            refuse_no_picture(bgr)
            height, width = bgr.shape[:2]
            message = RawImage(frame_id=source, width=width, height=height, encoding="bgr8", step=3 * width)
            message.data = np.ascontiguousarray(bgr).tobytes()
        case "jpeg":
            message = CompressedImage(frame_id=source, format="jpeg", data=encode_jpeg(bgr, coding.quality))
        case "png":
            message = CompressedImage(frame_id=source, format="png", data=encode_png(bgr))
    _stamp(message, at_ns)
    return bytes(message.SerializeToString())


def pack_sound(audio: Audio, at_ns: int, coding: Coding) -> bytes:
    """A block of sound as a message; not for Opus, see `OpusWriter`."""
    message = RawAudio(sample_rate=AUDIO_RATE_HZ, number_of_channels=1)
    if coding.audio == "float":
        message.format, message.data = PCM_F32, audio.pcm.astype("<f4").tobytes()
    else:
        scaled = np.clip(np.round(np.nan_to_num(audio.pcm) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        message.format, message.data = PCM_S16, scaled.astype("<i2").tobytes()
    _stamp(message, at_ns)
    return bytes(message.SerializeToString())


def pack_text(text: Text, source: str, at_ns: int) -> bytes:
    """A text as a line of a log, under the name of its source."""
    return pack_log(text.text, name=source, at_ns=at_ns, level=Log.Level.Value("INFO"))


def pack_log(message: str, *, name: str, at_ns: int, level: int) -> bytes:
    """A line of a log."""
    packed = Log(message=message, name=name, level=level)  # type: ignore[arg-type]
    _stamp(packed, at_ns)
    return bytes(packed.SerializeToString())


def _stamp(message: Any, at_ns: int) -> None:
    message.timestamp.seconds, message.timestamp.nanos = divmod(at_ns, SECOND)


class OpusWriter:
    """Sound of one source as a stream of packets; needs PyAV (the extra ``media``)."""

    def __init__(self) -> None:
        import av

        self._av = av
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = AUDIO_RATE_HZ, "mono", "flt"
        context.bit_rate, context.time_base = OPUS_BITS_S, Fraction(1, AUDIO_RATE_HZ)
        context.open()
        self._context = context
        self._waiting: F32 = np.zeros(0, np.float32)
        self._count = 0

    def feed(self, pcm: F32, at_ns: int) -> list[bytes]:
        """The packets that are complete with (T,) more, as messages stamped ``at_ns``."""
        self._waiting = np.concatenate([self._waiting, np.nan_to_num(pcm).astype(np.float32)])
        found = []
        while len(self._waiting) >= PACKET:
            block, self._waiting = self._waiting[:PACKET], self._waiting[PACKET:]
            found += self._encode(block, at_ns)
        return found

    def close(self, at_ns: int) -> list[bytes]:
        """What is still inside, filled up with silence."""
        rest = np.concatenate([self._waiting, np.zeros(2 * PACKET - len(self._waiting), np.float32)])
        self._waiting = self._waiting[:0]
        return [
            packet for i in range(0, 2 * PACKET, PACKET) for packet in self._encode(rest[i : i + PACKET], at_ns)
        ] + [self._message(bytes(packet), at_ns) for packet in self._context.encode(None) if packet.size]

    def _encode(self, block: F32, at_ns: int) -> list[bytes]:
        frame: Any = self._av.AudioFrame.from_ndarray(block[np.newaxis], format="flt", layout="mono")
        frame.sample_rate, frame.pts = AUDIO_RATE_HZ, self._count
        self._count += PACKET
        return [self._message(bytes(packet), at_ns) for packet in self._context.encode(frame)]

    def _message(self, packet: bytes, at_ns: int) -> bytes:
        message = CompressedAudio(format=OPUS, data=packet)
        _stamp(message, at_ns)
        return bytes(message.SerializeToString())


class OpusReader:
    """The other way round: sound out of packets, sample for sample where it was."""

    DELAY = 104
    """Samples at `AUDIO_RATE_HZ` by which an encoder of Opus runs behind (6.5 ms)."""

    def __init__(self) -> None:
        import av

        self._av = av
        self._context: Any = av.CodecContext.create("libopus", "r")
        self._soxr: Any = None
        self._skip = self.DELAY

    def feed(self, packet: bytes) -> F32:
        """(T,) that one more packet gives. Raises `ValueError` where it is none."""
        try:
            frames = self._context.decode(self._av.Packet(packet))
        except self._av.FFmpegError as error:
            raise ValueError(f"not a packet of Opus: {error}") from None
        return self._taken(list(frames))

    def _taken(self, frames: list[Any]) -> F32:
        blocks = []
        for frame in frames:
            if self._soxr is None:
                self._soxr = soxr.ResampleStream(frame.sample_rate, AUDIO_RATE_HZ, 1, "float32")
            values = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)[:, 0]  # FFmpeg makes two of one
            scaled = values / FULL_SCALE if values.dtype == np.int16 else values
            blocks.append(np.asarray(self._soxr.resample_chunk(scaled.astype(np.float32)), np.float32))
        pcm = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        skipped = min(self._skip, len(pcm))
        self._skip -= skipped
        return pcm[skipped:]


def unpack_frame(message: Any) -> U8:
    """The picture in a message of either kind, (H, W, 3). Raises `ValueError` where there is none."""
    if isinstance(message, RawImage):
        if message.encoding != "bgr8" or message.step != 3 * message.width:
            raise ValueError(f"a raw picture in {message.encoding!r}, where bgr8 is known")
        return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    data = np.frombuffer(message.data, np.uint8)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # of pictures that say they are huge
        bgr = None
    if bgr is None:
        raise ValueError(f"a picture that cannot be decoded as {message.format or 'anything'}")
    return np.asarray(bgr, np.uint8)


def unpack_sound(message: RawAudio) -> F32:
    """The sound in a message, (T,). Raises `ValueError` where it is in no form that is known."""
    if message.sample_rate != AUDIO_RATE_HZ or message.number_of_channels != 1:
        raise ValueError(f"sound at {message.sample_rate} Hz, {message.number_of_channels} channels")
    match message.format:
        case "pcm-s16":
            return np.frombuffer(message.data, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        case "pcm-f32":
            return np.frombuffer(message.data, "<f4").astype(np.float32)
        case other:
            raise ValueError(f"sound as {other!r}, where {PCM_S16} and {PCM_F32} are known")
