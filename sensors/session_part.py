"""One MCAP file of a recorded session: what it says at its head, how much is in it, what happened in it."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mcap.records import Channel, Chunk, Message, Metadata, Schema

from agent.recording.format import (
    FORMAT,
    METADATA,
    ORDER,
    WINDOW,
    About,
    Entry,
    Kind,
    Mark,
    PartSurvey,
    Reloaded,
    Switched,
)
from agent.types import Modality, Sample, Watermark
from agent.window import SourceState
from sensors.session_files import SessionError
from sensors.session_held import Held
from sensors.session_payload import Payloads
from sensors.session_records import Records

log = logging.getLogger(__name__)

_UNREADABLE = (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
"""What comes of JSON that is not what was written."""


def read_about(path: Path) -> tuple[About, int]:
    """What a part says at its head, and its number. Raises `SessionError`."""
    for record in Records(path, opened=False):
        match record:
            case Metadata(name=name, metadata=fields) if name == METADATA:
                try:
                    return _about(fields)
                except _UNREADABLE as error:
                    raise SessionError(f"{path}: its head cannot be read ({error!r}); record it again") from None
            case Chunk():
                break
    raise SessionError(f"{path} is an MCAP file, but not of Attune, or it was cut off at its head; it cannot be played")


def _about(fields: Mapping[str, str]) -> tuple[About, int]:
    if int(fields["format"]) > FORMAT:
        raise ValueError(f"format {fields['format']}, where {FORMAT} is known; take a newer Attune")
    about = About(
        session=fields["session"],
        node=fields["node"],
        start_ns=int(fields["start_ns"]),
        start_wall_ns=int(fields["start_wall_ns"]),
        whole=fields["whole"] == "true",
        sources=tuple(json.loads(fields["sources"])),
        config=json.loads(fields["config"]),
        versions=dict(json.loads(fields["versions"])),
    )
    spans_ns(about.config)
    return about, int(fields["part"])


def spans_ns(config: Mapping[str, Any]) -> dict[Modality, int]:
    """How far back windows reached, by the config of the recording."""
    return {Modality(m): int(config["encoders"][m]["span"]) for m in Modality}


def extent(path: Path) -> tuple[int, int]:
    """Wall clock of its first and last message; (0, 0) where there is none. Raises `SessionError`."""
    chunks = [
        (chunk.message_start_time, chunk.message_end_time)
        for chunk in Records(path, opened=False)
        if isinstance(chunk, Chunk)
    ]
    return (min(begin for begin, _ in chunks), max(end for _, end in chunks)) if chunks else (0, 0)


def survey(path: Path) -> PartSurvey:
    """Read all of it, and count. Raises `SessionError`."""
    records, counts, lost, reloads = Records(path), Counter[str](), 0, 0
    channels: dict[int, str] = {}
    for record in records:
        match record:
            case Channel():
                channels[record.id] = record.topic
            case Message():
                topic = channels.get(record.channel_id, "")
                counts[topic] += 1
                lost += topic == ORDER and b'"lost":true' in record.data
                reloads += topic == ORDER and b'"kind":"reloaded"' in record.data
    return PartSurvey(path, path.stat().st_size, records.cut_off_at, counts, lost, reloads)


def messages(path: Path) -> Iterator[tuple[str, str, Message]]:
    """Topic, schema's name and message, in the order of the file; where that was cut off, it is said in the log.

    Raises `SessionError`.
    """
    records = Records(path)
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}
    for record in records:
        match record:
            case Schema():
                schemas[record.id] = record.name
            case Channel():
                channels[record.id] = (record.topic, schemas.get(record.schema_id, ""))
            case Message():
                if record.channel_id not in channels:
                    raise SessionError(f"{path}: a message of no channel; it was not written by Attune")
                yield (*channels[record.channel_id], record)
    if records.cut_off_at is not None:
        log.warning(
            "%s: was cut off, as by a power cut; what is whole ends at byte %d of %d",
            path,
            records.cut_off_at,
            path.stat().st_size,
        )


def entries(path: Path, held: Held) -> Iterator[Entry]:
    """Everything in the order in which it happened. Raises `SessionError`."""
    try:
        yield from _entries(path, held)
    except _UNREADABLE as error:
        if isinstance(error, SessionError):
            raise
        raise SessionError(f"{path}: a row cannot be read ({error!r}); it was not written by Attune") from None


def _entries(path: Path, held: Held) -> Iterator[Entry]:
    """Those whose sound is still to come hold up the others behind them."""
    payloads = Payloads(str(path))
    waiting: deque[tuple[str, dict[str, Any]]] = deque()
    for name, schema, message in messages(path):
        if name in (ORDER, WINDOW):
            waiting.append((name, json.loads(message.data)))
        elif not name.startswith("/attune/"):
            payloads.add(name.removeprefix("/"), schema, message.data)
        while waiting and (entry := _entry(*waiting[0], payloads, held)) is not _LATER:
            waiting.popleft()
            if entry is not None:
                yield entry


_LATER: Final = Entry(0, Watermark("", 0))
"""For a row whose payload is still to come."""


def _entry(name: str, row: dict[str, Any], payloads: Payloads, held: Held) -> Entry | None:
    """What a row says; None for a sample that is lost."""
    if name == WINDOW:
        return Entry(int(row["decided_ns"]), held.told(row))
    at_ns, kind = int(row["fed_ns"]), Kind(row["kind"])
    if kind is Kind.SWITCHED:
        return Entry(at_ns, Switched(bool(row["on"])))
    if kind is Kind.RELOADED:
        return Entry(at_ns, Reloaded(tuple(map(str, row["changed"]))))
    source = str(row["source"])
    match kind:
        case Kind.WATERMARK:
            return Entry(at_ns, Watermark(source, int(row["t_ns"])))
        case Kind.MARK:
            return Entry(at_ns, Mark(source, SourceState[row["state"]]))
        case Kind.SAMPLE:
            if row.get("lost"):
                return None
            payload = payloads.take(row)
            if payload is None:
                return _LATER
            sample = Sample(source, payload, *(int(row[key]) for key in ("t_ns", "end_ns", "arrival_ns")))
            held.add(int(row["n"]), sample)
            return Entry(at_ns, sample)
