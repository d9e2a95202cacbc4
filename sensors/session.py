"""A recorded session: pictures, sound and text with the instants at which they happened.

A session is what `agent.recording` wrote (`sensors.session_mcap`), or a folder with any of these, or a single one of
them (a video, a sound file, a ``.jsonl``), in capitals or not::

    session.toml   name = "…", start = 2026-11-21T10:00:00Z (wall clock of t = 0), duration_s = 32.0,
                   notes = "…", video_offset_s = 0.0, audio_offset_s = 0.0 (from t = 0 to the file's own zero)
    video.mp4      its PTS are the instants; or .mkv, .mov, .avi, .webm
    audio.flac     its samples are counted from t = 0; or .wav, .opus, .ogg
    text.jsonl     a line each: {"t": seconds, "text": "…", "lang"?, "origin"? ("message" or "speech"),
                   "begin"?: seconds at which a spoken one began, "arrival"?: seconds at which it came}
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from agent.clock import MS, SECOND
from agent.types import F32, Audio, Frame, Modality, Sample, Source, Watermark
from sensors.resample import Resampler
from sensors.session_files import (
    MCAP,
    Line,
    SessionError,
    find_files,
    open_audio,
    open_video,
    read_header,
    read_lines,
)
from sensors.text import HEARTBEAT_NS, MAX_DELAY_NS
from sensors.video import CUT_OFF_NS, pts_ns, video_ns

if TYPE_CHECKING:
    from sensors.session_mcap import McapSession

Event = Sample | Watermark
BLOCK_NS = 20 * MS
BLOCKS = 50


@dataclass(frozen=True, slots=True)
class Session:
    """An opened session. It holds no file open; `events` may be called any number of times."""

    name: str
    """From ``session.toml``, else the name of the folder or file."""
    start_wall_ns: int
    """Wall clock at t = 0, in ns since the Unix epoch; 0 where it is not told."""
    duration_ns: int
    """From ``session.toml``, else the end of the longest part."""
    video: Path | None
    audio: Path | None
    lines: tuple[Line, ...] | None
    """In the order of arrival; None where there is no text."""
    video_offset_ns: int = 0
    audio_offset_ns: int = 0
    notes: str = ""

    @classmethod
    def open(cls, path: Path) -> Session:
        """Look at everything, decode nothing yet. Raises `SessionError`."""
        files, header = find_files(path), read_header(path)
        lines = None if files.text is None else read_lines(files.text)
        ends = [0, *(line.arrival_ns for line in lines or ())]
        if files.video is not None:
            capture = open_video(files.video)
            ends.append(header.video_offset_ns + video_ns(capture))
            capture.release()
        if files.audio is not None:
            with open_audio(files.audio) as sound:
                ends.append(header.audio_offset_ns + sound.frames * SECOND // sound.samplerate)
        return cls(
            name=header.name or path.resolve().stem,
            start_wall_ns=header.start_wall_ns,
            duration_ns=max(ends) if header.duration_ns is None else header.duration_ns,
            video=files.video,
            audio=files.audio,
            lines=lines,
            video_offset_ns=header.video_offset_ns,
            audio_offset_ns=header.audio_offset_ns,
            notes=header.notes,
        )

    @property
    def start_ns(self) -> int:
        """When it begins, on the clock of its events."""
        return 0

    @property
    def history(self) -> None:
        """Nothing is known of what an agent made of it."""
        return

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of ``camera``, ``microphone`` and ``text`` those that were recorded."""
        sources = []
        if self.video is not None:
            sources.append(Source("camera", Modality.VISION))
        if self.audio is not None:
            sources.append(Source("microphone", Modality.AUDIO))
        if self.lines is not None:
            sources.append(Source("text", Modality.TEXT, late_by_ns=MAX_DELAY_NS))
        return tuple(sources)

    def events(self) -> Generator[Event, None, None]:
        """Everything in the order of arrival, in ns from the start; the same every time.

        A frame arrives at its instant, a block of sound at its end, a watermark at what it says. Decodes as it goes:
        one frame and one second of sound in memory. What lies outside ``[0, duration]`` is left out. A source that is
        silent (text) or has ended goes on with heartbeats, so that no window waits for it; the last events are a
        watermark of every source at the end. Raises `SessionError` where a file turns out to be damaged.
        """
        streams: list[Iterator[Event]] = []
        if self.video is not None:
            streams.append(_continued(self._frames(self.video), source="camera", until_ns=self.duration_ns))
        if self.audio is not None:
            streams.append(_continued(self._blocks(self.audio), source="microphone", until_ns=self.duration_ns))
        if self.lines is not None:
            beats = _beats("text", after_ns=-1, until_ns=self.duration_ns)
            streams.append(_merged(self._texts(self.lines), beats))
        # At one instant pictures come before sound before text, for merging is stable.
        yield from _merged(*streams)

    def _frames(self, path: Path) -> Iterator[Event]:
        capture = open_video(path)
        try:
            announced_ns = self.video_offset_ns + video_ns(capture)
            last_ns = self.video_offset_ns - 1
            while capture.grab():
                t_ns = self.video_offset_ns + pts_ns(capture)
                if t_ns <= last_ns:
                    continue
                last_ns = t_ns
                decoded, bgr = capture.retrieve() if 0 <= t_ns <= self.duration_ns else (False, None)
                if decoded and bgr is not None:
                    yield Sample("camera", Frame(bgr), t_ns=t_ns, end_ns=t_ns, arrival_ns=t_ns)
            if last_ns < max(self.video_offset_ns, announced_ns - CUT_OFF_NS):
                ends = (last_ns / SECOND, announced_ns / SECOND)
                raise SessionError(
                    f"{path}: damaged, ends at {ends[0]:.1f} s of {ends[1]:.1f} s; copy or record it again"
                )
        finally:
            capture.release()

    def _blocks(self, path: Path) -> Iterator[Event]:
        with open_audio(path) as sound:
            resampler = Resampler(sound.samplerate, origin_ns=self.audio_offset_ns)
            size = BLOCK_NS * sound.samplerate // SECOND
            for mono in _mono(sound, size, path):
                piece = resampler.feed(mono, last=len(mono) < size)
                if len(piece.pcm) and piece.begin_ns >= 0 and piece.end_ns <= self.duration_ns:
                    pcm = Audio(piece.pcm)
                    yield Sample("microphone", pcm, t_ns=piece.begin_ns, end_ns=piece.end_ns, arrival_ns=piece.end_ns)

    def _texts(self, lines: tuple[Line, ...]) -> Iterator[Event]:
        for line in lines:
            if line.arrival_ns <= self.duration_ns:
                yield Sample("text", line.text, t_ns=line.t_ns, end_ns=line.end_ns, arrival_ns=line.arrival_ns)


def open_session(path: Path) -> Session | McapSession:
    """The session at a path, of either kind. Raises `SessionError`."""
    recorded = path.suffix.lower() == MCAP if path.is_file() else path.is_dir() and any(path.glob(f"*{MCAP}"))
    if not recorded:
        return Session.open(path)
    from sensors.session_mcap import McapSession  # protobuf takes time to load

    return McapSession.open(path)


def arrival_ns(event: Event) -> int:
    """When an event comes; a watermark comes at its own instant."""
    return event.arrival_ns if isinstance(event, Sample) else event.t_ns


def _merged(*streams: Iterator[Event]) -> Iterator[Event]:
    return iter(heapq.merge(*streams, key=arrival_ns))


def _continued(samples: Iterator[Event], *, source: str, until_ns: int) -> Iterator[Event]:
    """`samples`, then heartbeats up to `until_ns`."""
    end_ns = -1
    for sample in samples:
        end_ns = arrival_ns(sample)
        yield sample
    yield from _beats(source, after_ns=end_ns, until_ns=until_ns)


def _beats(source: str, *, after_ns: int, until_ns: int) -> Iterator[Event]:
    first = after_ns // HEARTBEAT_NS + 1
    for t_ns in range(first * HEARTBEAT_NS, until_ns, HEARTBEAT_NS):
        yield Watermark(source, t_ns)
    yield Watermark(source, until_ns)


def _mono(sound: Any, size: int, path: Path) -> Iterator[F32]:
    """Blocks of ``size``, (T,), read `BLOCKS` at a time: each read costs three seeks. The last is shorter, or empty."""
    last = False
    while not last:
        many = _read(sound, BLOCKS * size, path)
        last = len(many) < BLOCKS * size
        # Values that are no numbers become silence where they stand.
        mono = np.nan_to_num(many.mean(axis=1, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        for begin in range(0, len(mono) + last, size):
            yield mono[begin : begin + size]


def _read(sound: Any, size: int, path: Path) -> Any:
    """(T, C) float32, shorter than `size` at the end."""
    try:
        return sound.read(size, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise SessionError(
            f"{path}: damaged at {sound.tell() / sound.samplerate:.1f} s ({error}); copy or record it again"
        ) from None
