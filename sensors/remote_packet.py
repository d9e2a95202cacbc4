"""What hosts say to one another: samples, probes and answers, as bytes. Pure; nothing in here is believed.

A sample is self-contained, so that it fits MQTT 3.1.1: one byte version (1), two bytes length of the header (big
endian), the header in JSON, then the payload to the end. The header:

    {"host": "pi-kitchen", "clock": "4f1c…", "seq": 17, "form": "jpeg", "t_ns": "81…", "end_ns": "81…"}

``host`` and ``clock`` name the sender's monotonic clock, on which ``t_ns`` and ``end_ns`` are; they are strings, since
they exceed 2^53. ``seq`` rises with each sample of a source and clock. ``lang`` (BCP 47) may stand in a text's.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.clock import SECOND
from agent.remote.clocks import ClockId

VERSION = 1
_PREFIX = struct.Struct(">BH")
_HOST = re.compile(r"[^/+#\s\x00-\x1f\ud800-\udfff]{1,128}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NS = re.compile(r"[0-9]{1,19}", re.ASCII)
_LANG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")
MAX_HEADER = 4096
"""Bytes of JSON that are looked at; ours have 150."""
MAX_SPAN_NS = 60 * SECOND
"""A sample lasts no longer than that: encoders look no further back."""


class Form(StrEnum):
    """What the payload is."""

    JPEG = "jpeg"
    """One picture."""
    PCM = "pcm_s16le"
    """Mono sound at 16 kHz, 16 bits, little endian."""
    TEXT = "text"
    """UTF-8."""
    WATERMARK = "watermark"
    """Nothing: the source has delivered all that ends at or before ``end_ns``."""


class BadPacket(Exception):  # noqa: N818 - a finding, not a fault
    """What came can not be read; `reason` says why, in a word to count by."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Packet:
    """One sample or watermark, as it travels."""

    clock: ClockId
    seq: int
    form: Form
    t_ns: int
    """On the sender's clock, as is ``end_ns``."""
    end_ns: int
    payload: bytes = b""
    lang: str | None = None

    def bytes(self) -> bytes:
        """As it goes over the wire."""
        header: dict[str, object] = {
            "host": self.clock.host,
            "clock": self.clock.session,
            "seq": self.seq,
            "form": self.form,
            "t_ns": str(self.t_ns),
            "end_ns": str(self.end_ns),
        }
        if self.lang is not None:
            header["lang"] = self.lang
        encoded = json.dumps(header, separators=(",", ":")).encode()
        return _PREFIX.pack(VERSION, len(encoded)) + encoded + self.payload


def parse(data: bytes) -> Packet:
    """Read a sample; raises `BadPacket` and nothing else.

    Reasons: ``version`` (not 1), ``header`` (cut short, above
    `MAX_HEADER`, or not an object in JSON), ``field`` (one is missing or makes
    no sense), ``span`` (ends before it begins, or lasts longer than `MAX_SPAN_NS`).
    """
    if not data or data[0] != VERSION:
        raise BadPacket("version")
    if len(data) < _PREFIX.size:
        raise BadPacket("header")
    _, size = _PREFIX.unpack_from(data)
    end = _PREFIX.size + size
    if len(data) < end:
        raise BadPacket("header")
    fields = _object(data[_PREFIX.size : end], "header")
    try:
        form = Form(fields["form"])
    except (KeyError, ValueError):
        raise BadPacket("field") from None
    t_ns, end_ns = _stamp(fields, "t_ns"), _stamp(fields, "end_ns")
    if not t_ns <= end_ns <= t_ns + MAX_SPAN_NS:
        raise BadPacket("span")
    lang = fields.get("lang")
    if lang is not None:
        lang = _matching(fields, "lang", _LANG)
    clock = ClockId(_matching(fields, "host", _HOST), _matching(fields, "clock", _SESSION))
    return Packet(clock, _count(fields, "seq"), form, t_ns, end_ns, data[end:], lang)


@dataclass(frozen=True, slots=True)
class Question:
    """``<base>/<node>/clock/<host>/probe`` asks what the clock says."""

    session: str
    number: int

    def bytes(self) -> bytes:
        """As it goes over the wire."""
        return json.dumps({"clock": self.session, "id": self.number}).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """``<base>/<node>/clock/<host>/answer`` says when the probe came, and when this went."""

    session: str
    number: int
    t1_ns: int
    t2_ns: int

    def bytes(self) -> bytes:
        """As it goes over the wire."""
        stamps = {"t1_ns": str(self.t1_ns), "t2_ns": str(self.t2_ns)}
        return json.dumps({"clock": self.session, "id": self.number} | stamps).encode()


def parse_question(data: bytes) -> Question:
    """Read a probe; raises `BadPacket` and nothing else."""
    fields = _object(data, "probe")
    return Question(_matching(fields, "clock", _SESSION), _count(fields, "id"))


def parse_answer(data: bytes) -> Answer:
    """Read an answer; raises `BadPacket` and nothing else."""
    fields = _object(data, "answer")
    session, number = _matching(fields, "clock", _SESSION), _count(fields, "id")
    return Answer(session, number, _stamp(fields, "t1_ns"), _stamp(fields, "t2_ns"))


def _object(data: bytes, reason: str) -> Mapping[str, Any]:
    if len(data) > MAX_HEADER:
        raise BadPacket(reason)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise BadPacket(reason) from None
    if not isinstance(fields, dict):
        raise BadPacket(reason)
    return fields


def _matching(fields: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(key)
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise BadPacket("field")
    return value


def _stamp(fields: Mapping[str, Any], key: str) -> int:
    ns = int(_matching(fields, key, _NS))
    if ns >= 1 << 63:
        raise BadPacket("field")
    return ns


def _count(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise BadPacket("field")
    return value
