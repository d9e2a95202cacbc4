"""A session as files that other programs open, and that `launch.py replay` reads as a plain folder.

Video and Parquet need the extra ``media`` (PyAV, pyarrow); without it `ImportError` is raised.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from agent.clock import MS, SECOND, rfc3339
from agent.recording.format import Entry
from agent.types import AUDIO_RATE_HZ, F32, U8, Audio, Frame, Sample, Text, Watermark

TICKS = 90_000
"""Of a video's clock a second: 11 µs, MP4's usual."""
GAP_NS = 5 * MS
"""Sound that begins later than this after the last is preceded by silence; less is jitter of the stamps."""
CRF = 18
"""Quality of the video (x264): hardly to be told from the pictures that were recorded."""


class Told(Protocol):
    """As `agent.verbs.History`."""

    def entries(self) -> Generator[Entry, None, None]: ...
    def published(self) -> Generator[bytes, None, None]: ...


class Exported(Protocol):
    """As `agent.verbs.Recorded`."""

    @property
    def name(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def start_wall_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def history(self) -> Told | None: ...
    def events(self) -> Generator[Sample | Watermark, None, None]: ...


def to_folder(session: Exported, folder: Path) -> list[str]:
    """Write MP4, WAV and JSON lines into a new folder; returns the names of the files.

    The first camera becomes ``video.mp4``, the first microphone ``audio.wav``; others are called as their source.
    What was understood of spoken words is in ``transcripts.jsonl``, since a replay listens itself.
    """
    folder.mkdir(parents=True)
    writers: dict[str, _Video | _Sound | _Lines] = {}
    try:
        for sample in _samples(session):
            writer = writers.get(sample.source) or writers.setdefault(
                sample.source, _writer(sample, folder, session.start_ns, list(writers.values()))
            )
            writer.add(sample)
    finally:
        for writer in writers.values():
            writer.close()
    if session.history is not None:
        with (folder / "decisions.jsonl").open("wb") as file:
            file.writelines(decision + b"\n" for decision in session.history.published())
    _header(session, folder, writers)
    return sorted(path.name for path in folder.iterdir())


def _samples(session: Exported) -> Generator[Sample, None, None]:
    """What was sensed and, where an agent was recorded, understood."""
    if session.history is None:
        for event in session.events():
            if isinstance(event, Sample):
                yield event
        return
    for entry in session.history.entries():
        if isinstance(entry.what, Sample):
            yield entry.what


def _writer(
    sample: Sample, folder: Path, start_ns: int, others: list[_Video | _Sound | _Lines]
) -> _Video | _Sound | _Lines:
    match sample.payload:
        case Frame(bgr):
            name = sample.source if any(isinstance(other, _Video) for other in others) else "video"
            return _Video(folder / f"{name}.mp4", bgr, sample.t_ns, offset_ns=sample.t_ns - start_ns)
        case Audio():
            name = sample.source if any(isinstance(other, _Sound) for other in others) else "audio"
            return _Sound(folder / f"{name}.wav", sample.t_ns, offset_ns=sample.t_ns - start_ns)
        case Text(origin=origin):
            name = "transcripts" if origin == "speech" else "text"
            taken = any(isinstance(other, _Lines) and other.path.stem == name for other in others)
            return _Lines(folder / f"{sample.source if taken else name}.jsonl", start_ns)


class _Video:
    """Pictures with the instants at which they were taken."""

    def __init__(self, path: Path, first: U8, first_ns: int, *, offset_ns: int) -> None:
        import av

        self.path = path
        self.offset_ns = offset_ns
        self._av = av
        self._first_ns = first_ns
        self._last = -1
        self._container: Any = av.open(str(path), "w")
        height, width = first.shape[:2]
        stream: Any = self._container.add_stream("libx264", rate=30, options={"crf": str(CRF), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width & ~1, height & ~1, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        self._stream = stream

    def add(self, sample: Sample) -> None:
        """A picture of another size is scaled to that of the first; one that is not later than the last is left out."""
        assert isinstance(sample.payload, Frame), "a camera's"
        ticks = (sample.t_ns - self._first_ns) * TICKS // SECOND
        if ticks <= self._last:
            return
        self._last = ticks
        frame: Any = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(sample.payload.bgr), format="bgr24")
        frame = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuv420p")
        frame.pts, frame.time_base = ticks, Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class _Sound:
    """Sound without gaps: silence stands where nothing was recorded."""

    def __init__(self, path: Path, first_ns: int, *, offset_ns: int) -> None:
        self.path = path
        self.offset_ns = offset_ns
        self._first_ns = first_ns
        self._count = 0
        self._file: Any = soundfile.SoundFile(path, "w", samplerate=AUDIO_RATE_HZ, channels=1, subtype="FLOAT")

    def add(self, sample: Sample) -> None:
        """Sound that begins before the last has ended is put behind it."""
        assert isinstance(sample.payload, Audio), "a microphone's"
        reached_ns = self._first_ns + self._count * SECOND // AUDIO_RATE_HZ
        if sample.t_ns - reached_ns > GAP_NS:
            self._write(np.zeros((sample.t_ns - reached_ns) * AUDIO_RATE_HZ // SECOND, np.float32))
        self._write(sample.payload.pcm)

    def close(self) -> None:
        self._file.close()

    def _write(self, pcm: F32) -> None:
        self._file.write(pcm)
        self._count += len(pcm)


class _Lines:
    """Texts, a line each, as `launch.py replay` reads them."""

    offset_ns = 0

    def __init__(self, path: Path, start_ns: int) -> None:
        self.path = path
        self._start_ns = start_ns
        self._file = path.open("w", encoding="utf-8")

    def add(self, sample: Sample) -> None:
        assert isinstance(sample.payload, Text), "a text's"
        text = sample.payload
        fields: dict[str, Any] = {"t": self._seconds(sample.end_ns), "text": text.text, "origin": text.origin}
        if text.lang is not None:
            fields["lang"] = text.lang
        if sample.t_ns != sample.end_ns:
            fields["begin"] = self._seconds(sample.t_ns)
        fields["arrival"] = self._seconds(sample.arrival_ns)
        self._file.write(json.dumps(fields, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()

    def _seconds(self, t_ns: int) -> float:
        return max(0, t_ns - self._start_ns) / SECOND


def _header(session: Exported, folder: Path, writers: Mapping[str, _Video | _Sound | _Lines]) -> None:
    lines = [f"name = {json.dumps(session.name)}", f"duration_s = {session.duration_ns / SECOND:.6f}"]
    if session.start_wall_ns:
        lines.insert(1, f"start = {rfc3339(session.start_wall_ns)}")
    for writer in writers.values():
        if writer.path.stem in ("video", "audio"):
            lines.append(f"{writer.path.stem}_offset_s = {writer.offset_ns / SECOND:.6f}")
    (folder / "session.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def to_parquet(session: Exported, path: Path) -> int:
    """Write the decisions as a table, a row each; returns how many. Raises `ValueError` where there are none."""
    from agent.recording.table import decisions_table, write_parquet

    if session.history is None:
        raise ValueError(f"{session.name} holds no decisions; `launch.py replay --out FILE` makes some")
    table = decisions_table([json.loads(decision) for decision in session.history.published()])
    write_parquet(table, path, {"session": session.name})
    return int(table.num_rows)
