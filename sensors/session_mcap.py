"""A session that was recorded to MCAP, by `agent.recording`: one part, or a folder of them."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcap.records import Channel, Chunk, Message, Metadata, Schema

from agent.recording.format import (
    DECISION,
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
from agent.types import Modality, Sample, Source, Watermark
from agent.window import SourceState
from sensors.session_files import MCAP, SessionError
from sensors.session_held import Held
from sensors.session_payload import Payloads
from sensors.session_records import Records

log = logging.getLogger(__name__)

_UNREADABLE = (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
"""What comes of JSON that is not what was written."""
SPEECH: Final = "speech"
"""The source of transcripts, as in `agent.deciding.pipeline`."""


@dataclass(frozen=True, slots=True)
class McapSession:
    """A recording. It holds no file open; its generators may be called any number of times."""

    parts: tuple[Path, ...]
    """In their order."""
    about: About
    name: str
    """What the ids of its decisions begin with."""
    start_ns: int
    """On the clock of its stamps."""
    start_wall_ns: int
    duration_ns: int

    @classmethod
    def open(cls, path: Path) -> McapSession:
        """Look at the heads and ends of the parts. Raises `SessionError`."""
        parts = (path,) if path.is_file() else tuple(sorted(path.glob(f"*{MCAP}")))
        about, number = read_about(parts[0])
        for part in parts[1:]:
            other, _ = read_about(part)
            if other.session != about.session or other.start_ns != about.start_ns:
                raise SessionError(
                    f"{path} holds more than one recording: {parts[0].name} and {part.name} differ; give one of them"
                )
        first_ns, _ = _extent(parts[0])
        last_ns = max(_extent(part)[1] for part in parts)
        # A later part alone begins where it begins; the wall clock is near enough to say when.
        begin_wall_ns = about.start_wall_ns if number == 1 else max(first_ns, about.start_wall_ns)
        return cls(
            parts=parts,
            about=about,
            name=about.session,
            start_ns=about.start_ns + begin_wall_ns - about.start_wall_ns,
            start_wall_ns=begin_wall_ns,
            duration_ns=max(0, last_ns - begin_wall_ns),
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        """The streams that sensors fed."""
        return tuple(source for source in self._sources() if source.name != SPEECH)

    @property
    def transcribed(self) -> bool:
        """Whether the words that were spoken are among what was recorded."""
        return any(source.name == SPEECH for source in self._sources())

    @property
    def history(self) -> McapSession:
        """What the agent made of it is in it as well."""
        return self

    def events(self) -> Generator[Sample | Watermark, None, None]:
        """What the sensors delivered, in the order in which it came. Raises `SessionError`."""
        for entry in self.entries():
            if isinstance(entry.what, Sample | Watermark) and entry.what.source != SPEECH:
                yield entry.what

    def entries(self) -> Generator[Entry, None, None]:
        """Everything in the order in which it happened. Raises `SessionError`."""
        held = Held(_spans_ns(self.about.config))
        for part in self.parts:
            try:
                yield from _part(part, held)
            except _UNREADABLE as error:
                if isinstance(error, SessionError):
                    raise
                raise SessionError(f"{part}: a row cannot be read ({error!r}); it was not written by Attune") from None

    def published(self) -> Generator[bytes, None, None]:
        """The decisions as they were published, as JSON. Raises `SessionError`."""
        for part in self.parts:
            for name, _, message in messages(part):
                if name == DECISION:
                    yield message.data

    def survey(self) -> tuple[PartSurvey, ...]:
        """Read all of it, and count. Raises `SessionError`."""
        return tuple(_survey(part) for part in self.parts)

    def _sources(self) -> Iterator[Source]:
        for fields in self.about.sources:
            try:
                yield Source(
                    str(fields["name"]), Modality(fields["modality"]), fields["awaited"], int(fields["late_by_ns"])
                )
            except (KeyError, TypeError, ValueError):
                raise SessionError(f"{self.parts[0]}: cannot read the source {fields!r}; record it again") from None


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
    _spans_ns(about.config)
    return about, int(fields["part"])


def _spans_ns(config: Mapping[str, Any]) -> dict[Modality, int]:
    return {Modality(m): int(config["encoders"][m]["span"]) for m in Modality}


def _extent(path: Path) -> tuple[int, int]:
    """Wall clock of a part's first and last message; (0, 0) where there is none."""
    chunks = [
        (chunk.message_start_time, chunk.message_end_time)
        for chunk in Records(path, opened=False)
        if isinstance(chunk, Chunk)
    ]
    return (min(begin for begin, _ in chunks), max(end for _, end in chunks)) if chunks else (0, 0)


def _survey(path: Path) -> PartSurvey:
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
    """Topic, schema's name and message, in the order of the file; where that was cut off, it is said in the log."""
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


def _part(path: Path, held: Held) -> Iterator[Entry]:
    """The entries of one part; those whose sound is still to come hold up the others behind them."""
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
