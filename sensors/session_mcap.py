"""A session that was recorded to MCAP, by `agent.recording`: one part, or a folder of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.recording.format import DECISION, About, Entry, PartSurvey
from agent.types import Modality, Sample, Source, Watermark
from sensors import session_part
from sensors.session_files import MCAP, SessionError
from sensors.session_held import Held

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
        about, number = session_part.read_about(parts[0])
        for part in parts[1:]:
            other, _ = session_part.read_about(part)
            if other.session != about.session or other.start_ns != about.start_ns:
                raise SessionError(
                    f"{path} holds more than one recording: {parts[0].name} and {part.name} differ; give one of them"
                )
        first_ns, _ = session_part.extent(parts[0])
        last_ns = max(session_part.extent(part)[1] for part in parts)
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
        held = Held(session_part.spans_ns(self.about.config))
        for part in self.parts:
            yield from session_part.entries(part, held)

    def published(self) -> Generator[bytes, None, None]:
        """The decisions as they were published, as JSON. Raises `SessionError`."""
        for part in self.parts:
            for name, _, message in session_part.messages(part):
                if name == DECISION:
                    yield message.data

    def survey(self) -> tuple[PartSurvey, ...]:
        """Read all of it, and count. Raises `SessionError`."""
        return tuple(session_part.survey(part) for part in self.parts)

    def _sources(self) -> Iterator[Source]:
        for fields in self.about.sources:
            try:
                yield Source(
                    str(fields["name"]), Modality(fields["modality"]), fields["awaited"], int(fields["late_by_ns"])
                )
            except (KeyError, TypeError, ValueError):
                raise SessionError(f"{self.parts[0]}: cannot read the source {fields!r}; record it again") from None
