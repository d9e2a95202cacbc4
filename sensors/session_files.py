"""The files of a recorded session: which there are, what they announce, and opening them."""

from __future__ import annotations

import contextlib
import json
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import soundfile

from agent.clock import SECOND
from agent.seams import SensorError
from agent.types import Text
from sensors.video import open_file

VIDEO = (".mp4", ".mkv", ".mov", ".avi", ".webm")
AUDIO = (".flac", ".wav", ".opus", ".ogg")
TEXT = (".jsonl",)
MCAP = ".mcap"
KEYS = {"name", "start", "duration_s", "notes", "video_offset_s", "audio_offset_s"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SessionError(SensorError, ValueError):
    """A session is missing, incomplete or damaged. The message names the part, what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a session consists of."""

    video: Path | None
    audio: Path | None
    text: Path | None


@dataclass(frozen=True, slots=True)
class Header:
    """What ``session.toml`` says."""

    name: str | None = None
    start_wall_ns: int = 0
    """Since the Unix epoch."""
    duration_ns: int | None = None
    video_offset_ns: int = 0
    audio_offset_ns: int = 0
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of ``text.jsonl``; instants in ns from the start of the session."""

    text: Text
    t_ns: int
    end_ns: int
    arrival_ns: int


def find_files(path: Path) -> Files:
    """The files of the session at `path`, a folder or one of them. Raises `SessionError` when it is none."""
    if not path.exists():
        raise SessionError(
            f"there is no session {path}; give a recording, or a folder with video.mp4, audio.flac or text.jsonl"
        )
    if path.is_file():
        ending = path.suffix.lower()
        video, audio, text = (path if ending in suffixes else None for suffixes in (VIDEO, AUDIO, TEXT))
        found, files = path.suffix or "no ending", Files(video, audio, text)
    else:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        files = Files(_one(path, "video", VIDEO), _one(path, "audio", AUDIO), _one(path, "text", TEXT))
    if files == Files(None, None, None):
        known = " ".join((MCAP, *VIDEO, *AUDIO, *TEXT))
        raise SessionError(
            f"{path} is no session: found {found}, expected a folder with video.mp4, audio.flac or text.jsonl,"
            f" or one file that ends in one of {known}"
        )
    return files


def _one(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    entries = sorted(folder.iterdir())
    found = [
        file for suffix in suffixes for file in entries if file.stem.lower() == stem and file.suffix.lower() == suffix
    ]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise SessionError(f"{folder}: which of {names} is the {stem}? Leave one")
    return found[0] if found else None


def read_header(path: Path) -> Header:
    """What the session at `path` says of itself; without ``session.toml`` nothing. Raises `SessionError`."""
    file = path / "session.toml"
    if not file.exists():
        return Header()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # not TOML, not UTF-8, a thousand brackets, no file
        raise SessionError(f"{file}: not TOML ({error})") from None
    unknown = sorted(set(table) - KEYS)
    if unknown:
        raise SessionError(f"{file}: unknown key {unknown[0]!r}; there are {', '.join(sorted(KEYS))}")
    return Header(
        name=None if "name" not in table else str(table["name"]),
        start_wall_ns=0 if "start" not in table else _wall_ns(table["start"], file),
        duration_ns=None if "duration_s" not in table else _duration_ns(table, "duration_s", file),
        video_offset_ns=_duration_ns(table, "video_offset_s", file),
        audio_offset_ns=_duration_ns(table, "audio_offset_s", file),
        notes=str(table.get("notes", "")),
    )


def _duration_ns(table: dict[str, Any], key: str, file: Path) -> int:
    value = table.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise SessionError(f"{file}: {key} must be a number of seconds, found {value!r}")
    return round(value * SECOND)


def _wall_ns(start: object, file: Path) -> int:
    if isinstance(start, str):
        with contextlib.suppress(ValueError):
            start = datetime.fromisoformat(start)
    if not isinstance(start, datetime) or start.tzinfo is None:
        raise SessionError(
            f"{file}: start must be RFC 3339 with an offset, such as 2026-11-21T10:00:00Z, found {str(start)!r}"
        )
    return (start - _EPOCH) // timedelta(microseconds=1) * 1000


def open_video(path: Path) -> Any:
    """An opened ``cv2.VideoCapture``. Raises `SessionError`."""
    try:
        return open_file("session", path)
    except SensorError as error:
        raise SessionError(str(error)) from None


def open_audio(path: Path) -> Any:
    """An opened ``soundfile.SoundFile``. Raises `SessionError`."""
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise SessionError(f"{path} can not be read as sound ({error}); record or copy it again") from None


def read_lines(path: Path) -> tuple[Line, ...]:
    """The lines of a ``text.jsonl`` in the order of their arrival. Raises `SessionError` with the line's number."""
    try:
        rows = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SessionError(f"{path}: not UTF-8 ({error})") from None
    lines = [_line(row, f"{path}, line {number}") for number, row in enumerate(rows, 1) if row.strip()]
    return tuple(sorted(lines, key=lambda line: (line.arrival_ns, line.end_ns)))


def _line(row: str, place: str) -> Line:
    try:
        fields = json.loads(row)
        said: str = fields["text"].strip()
        said.encode()
        lang: str | None = fields.get("lang")
        origin: Literal["message", "speech"] = fields.get("origin", "message")
        end_s = fields["t"]
        times = (fields.get("begin", end_s), end_s, fields.get("arrival", end_s))
        begin_ns, end_ns, came_ns = (round(seconds * SECOND) for seconds in times)
        known = origin in ("message", "speech") and (lang is None or isinstance(lang, str))
        fits = bool(said) and known and 0 <= begin_ns <= end_ns and came_ns >= 0
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        fits = False
    if not fits:
        raise SessionError(f'{place}: must be like {{"t": 1.5, "text": "hello", "lang": "en"}}, found {row[:80]!r}')
    return Line(Text(said, lang=lang, origin=origin), t_ns=begin_ns, end_ns=end_ns, arrival_ns=came_ns)
