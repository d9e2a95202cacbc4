"""One MCAP file of a recording."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from foxglove_schemas_protobuf.Log_pb2 import Log
from mcap.writer import CompressionType, Writer
from mcap_protobuf.schema import build_file_descriptor_set

from agent.imaging import PictureError
from agent.payload import encode
from agent.recording import schemas
from agent.recording.codec import Coding, OpusWriter, pack_frame, pack_sound, pack_text, schema_of
from agent.recording.format import (
    CONFIG,
    DECISION,
    EVENT,
    FORMAT,
    LOG,
    METADATA,
    METRICS,
    ORDER,
    PROFILE,
    WINDOW,
    About,
    topic,
)
from agent.types import Audio, Frame, Sample, Text

CHUNK = 1 << 20
"""Bytes that are compressed at a time."""
_JSON: Mapping[str, tuple[str, dict[str, Any]]] = {
    ORDER: ("attune.Order", schemas.ORDER),
    WINDOW: ("attune.Window", schemas.WINDOW),
    DECISION: ("attune.Decision", schemas.DECISION),
    EVENT: ("attune.Event", schemas.EVENT),
    METRICS: ("attune.Metrics", schemas.METRICS),
}


class Part:
    """Writes to an open file; what it raises is an `OSError` of that file's."""

    def __init__(self, file: IO[bytes], about: About, coding: Coding, *, number: int) -> None:
        self._file = file
        self._coding = coding
        self._writer = Writer(file, chunk_size=CHUNK, compression=CompressionType.ZSTD)
        self._writer.start(profile=PROFILE, library="attune")
        self._writer.add_metadata(METADATA, _metadata(about, number))
        config = json.dumps(about.config, indent=1).encode()
        self._writer.add_attachment(about.start_wall_ns, about.start_wall_ns, CONFIG, "application/json", config)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._opus: dict[str, OpusWriter] = {}
        self._sequence: dict[str, int] = {}
        for name in _JSON:  # those that are empty say so
            self._json_channel(name)

    @property
    def size(self) -> int:
        """Bytes that are in the file; a chunk comes to them when it is complete."""
        return self._file.tell()

    def sample(self, sample: Sample, row: dict[str, Any], *, log_ns: int, publish_ns: int) -> bool:
        """Write a sample and its row; False where its payload cannot be written, and the row says that it is lost."""
        written = False
        match sample.payload:
            case Frame():
                with suppress(PictureError):
                    data = pack_frame(sample.payload, sample.source, publish_ns, self._coding)
                    self._message(sample, data, log_ns=log_ns, publish_ns=publish_ns)
                    written = True
            case Audio(pcm) if self._coding.audio == "opus":
                opus = self._opus.get(sample.source) or self._opus.setdefault(sample.source, OpusWriter())
                row, written = row | {"coded": "opus"}, True
                for packet in opus.feed(pcm, publish_ns):
                    self._message(sample, packet, log_ns=log_ns, publish_ns=publish_ns)
            case Audio():
                data = pack_sound(sample.payload, publish_ns, self._coding)
                written = True
                self._message(sample, data, log_ns=log_ns, publish_ns=publish_ns)
            case Text():
                written = True
                packed = pack_text(sample.payload, sample.source, publish_ns)
                self._message(sample, packed, log_ns=log_ns, publish_ns=publish_ns)
        self.json(ORDER, row if written else row | {"lost": True}, log_ns=log_ns, publish_ns=publish_ns)
        return written

    def json(self, name: str, row: Mapping[str, Any], *, log_ns: int, publish_ns: int) -> None:
        """Write a row of one of the agent's own topics."""
        self._add(name, self._json_channel(name), encode(row), log_ns=log_ns, publish_ns=publish_ns)

    def log(self, line: bytes, *, at_ns: int) -> None:
        """Write a line of the agent's log."""
        self._add(LOG, self._channel(LOG, Log), line, log_ns=at_ns, publish_ns=at_ns)

    def flush(self) -> None:
        """Let everything so far survive a power cut."""
        self._writer.flush()  # type: ignore[no-untyped-call]
        os.fsync(self._file.fileno())

    def close(self, at_ns: int) -> None:
        """End the file with its index."""
        for source, opus in self._opus.items():
            for packet in opus.close(at_ns):
                self._add(topic(source), self._channels[topic(source)], packet, log_ns=at_ns, publish_ns=at_ns)
        self._opus.clear()
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with suppress(OSError):
            self._file.close()

    def _message(self, sample: Sample, data: bytes, *, log_ns: int, publish_ns: int) -> None:
        name = topic(sample.source)
        channel = self._channels.get(name) or self._channel(name, schema_of(sample.payload, self._coding))
        self._add(name, channel, data, log_ns=log_ns, publish_ns=publish_ns)

    def _add(self, name: str, channel: int, data: bytes, *, log_ns: int, publish_ns: int) -> None:
        sequence = self._sequence[name] = self._sequence.get(name, -1) + 1
        self._writer.add_message(channel, log_ns, data, publish_ns, sequence & 0xFFFFFFFF)

    def _channel(self, name: str, message: type[Any]) -> int:
        if name not in self._channels:
            full = message.DESCRIPTOR.full_name
            if full not in self._schemas:
                described = build_file_descriptor_set(message).SerializeToString()
                self._schemas[full] = self._writer.register_schema(full, "protobuf", described)
            self._channels[name] = self._writer.register_channel(name, "protobuf", self._schemas[full])
        return self._channels[name]

    def _json_channel(self, name: str) -> int:
        if name not in self._channels:
            title, schema = _JSON[name]
            described = self._writer.register_schema(title, "jsonschema", json.dumps(schema).encode())
            self._channels[name] = self._writer.register_channel(name, "json", described)
        return self._channels[name]


def _metadata(about: About, number: int) -> dict[str, str]:
    return {
        "format": str(FORMAT),
        "part": str(number),
        "session": about.session,
        "node": about.node,
        "start_ns": str(about.start_ns),
        "start_wall_ns": str(about.start_wall_ns),
        "whole": str(about.whole).lower(),
        "sources": json.dumps(about.sources),
        "config": json.dumps(about.config),
        "versions": json.dumps(about.versions),
    }
