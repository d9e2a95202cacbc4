"""What a text message says: a bare UTF-8 string, or ``{"text", "time"?, "source"?, "lang"?}`` in JSON. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.clock import SECOND

_LANG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
"""The shape of a BCP 47 language tag (RFC 5646, section 2.1)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """One message that could be read."""

    text: str
    """Not empty, no white space around it."""
    lang: str | None = None
    """BCP 47 tag."""
    wall_ns: int | None = None
    """The sender's stamp in ns since the Unix epoch; it may be anything."""
    ignored: tuple[str, ...] = ()
    """The fields that were there and made no sense: of ``stamp`` and ``lang``."""


class Unreadable(Exception):  # noqa: N818 - a finding, not a fault
    """A message that can not be read; `reason` is one of ``utf8``, ``json``, ``field``, ``empty``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse(payload: bytes) -> Message:
    """Read one message; raises `Unreadable` and nothing else."""
    try:
        text = payload.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unreadable("utf8") from None
    if text.startswith("{"):
        return _from_json(text)
    return Message(_worded(text))


def _from_json(document: str) -> Message:
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):  # RecursionError: a thousand braces
        raise Unreadable("json") from None
    text = fields.get("text")
    if not isinstance(text, str):
        raise Unreadable("field")
    ignored = []
    wall_ns = None
    if fields.get("time") is not None:
        wall_ns = wall_time_ns(fields["time"])
        if wall_ns is None:
            ignored.append("stamp")
    lang = fields.get("lang")
    if lang is not None and not (isinstance(lang, str) and _LANG.fullmatch(lang)):
        lang = None
        ignored.append("lang")
    return Message(_worded(text.strip()), lang=lang, wall_ns=wall_ns, ignored=tuple(ignored))


def _worded(text: str) -> str:
    if not text:
        raise Unreadable("empty")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON lets half a surrogate pair through; nobody could print it
        raise Unreadable("utf8") from None
    return text


def wall_time_ns(stamp: Any) -> int | None:
    """Nanoseconds since the Unix epoch of an RFC 3339 string or a number of s, ms, µs or ns; None where it is neither.

    The unit of a number follows from its size: 1e11 s lie in the year 5138, 1e11 ms in 1973, and so on by thousands.
    """
    if isinstance(stamp, str):
        return _rfc3339_ns(stamp)
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not abs(stamp) < 1e20:  # nor NaN
        return None
    unit_ns = SECOND
    while unit_ns > 1 and abs(stamp) * unit_ns >= 10**11 * SECOND:
        unit_ns //= 1000
    return round(stamp * unit_ns)


def _rfc3339_ns(stamp: str) -> int | None:
    try:
        instant = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if instant.tzinfo is None:  # RFC 3339 asks for an offset; whose local time it is nobody knows
        return None
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000
