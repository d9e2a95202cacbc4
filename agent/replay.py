"""Sessions decided anew: in the windows of then where they were recorded and still fit, else in windows of now."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.ahead import ahead
from agent.clock import VirtualClock, WallClock
from agent.config import Config
from agent.deciding.build import build_pipeline
from agent.deciding.pipeline import SPEECH, Pipeline, speech_source
from agent.payload import decision_payload
from agent.playback import AHEAD, Pace, play, warn_of_reload
from agent.recording.format import Entry, Mark, Reloaded, Switched, Told
from agent.types import Decided, Modality, Sample, Watermark

if TYPE_CHECKING:
    from agent.verbs import History, Parts, Recorded

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """A window of a session, decided anew."""

    decided: Decided
    payload: dict[str, Any]
    """As it would be published."""
    lost: int = 0
    """Samples that the window held when it was recorded, and that are not in the recording."""


async def replayed(
    session: Recorded, config: Config, *, parts: Parts, pace: Pace | None = None
) -> AsyncGenerator[Played, None]:
    """Play one session with a config: what every kind of replay is made of.

    A recording of a running agent is decided in the windows that were decided then, with the same encoders left out
    and the same transcripts, so that the decisions are the same, but for latencies, where it kept every bit. Where the
    config asks for other windows or other transcripts, and for a plain folder always, windows are cut anew.
    Raises `agent.seams.SensorError` where the session turns out to be damaged, and what opening encoders raises.
    """
    clock, wall = VirtualClock(session.start_ns), _ToldWall()
    wall.calibrate(session.start_ns, session.start_wall_ns)
    history, node = session.history, config.agent.node
    reason = None if history is None else cut_anew(history, config)
    if reason:
        log.info("%s: windows are cut anew, not as they were: %s", session.name, reason)
    sources, opened = list(session.sources), config
    heard = history is not None and history.transcribed and config.agent.transcribe
    if heard:  # what was understood then is fed with the rest, and nobody need listen again
        sources.append(speech_source(config.encoders.text.span))
        opened = config.model_copy(update={"agent": config.agent.model_copy(update={"transcribe": False})})
    encoders, transcriber = parts.encoders(opened, sources)
    pipeline = build_pipeline(
        config,
        sources=sources,
        encoders=encoders,
        transcriber=transcriber,
        clock=clock,
        session=session.name,
        learned=parts.fusion(config),
    )
    try:
        if history is None:
            steps = play(session.events(), pipeline, clock, pace=pace)
        else:
            node = history.about.node
            entries = history.entries()
            steps = (
                play(_fed(entries, heard=heard), pipeline, clock, pace=pace)
                if reason
                else _play_told(entries, pipeline, clock, wall=wall, pace=pace)
            )
        async with aclosing(steps):
            async for decided in steps:
                yield Played(decided, decision_payload(decided.decision, node=node, wall=wall), wall.lost)
    finally:
        pipeline.close()


def cut_anew(history: History, config: Config) -> str | None:
    """Why the recorded windows do not fit the config; None where they do."""
    now, then = config.model_dump(mode="json"), history.about.config
    keys = [("agent", key) for key in ("hop", "lateness", "max_samples", "max_memory", "transcribe")]
    keys += [(f"encoders.{m}", key) for m in Modality for key in ("enabled", "span")]
    for table, key in keys:
        found, wanted = _value(then, table, key), _value(now, table, key)
        if found != wanted:
            return f"[{table}] {key} is {wanted}, and was {found}"
    return None


def _value(tables: Any, table: str, key: str) -> Any:
    for name in table.split("."):
        tables = tables.get(name, {})
    return tables.get(key)


class _ToldWall(WallClock):
    """The wall clock as it was published, whatever it did then."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self._told: dict[int, int] = {}

    def tell(self, told: Told) -> None:
        """Of the window that is decided next."""
        self._told = {told.window.start_ns: told.wall_start_ns, told.window.end_ns: told.wall_end_ns}
        self.steps_back, self.lost = told.steps_back, told.lost

    def wall_ns(self, mono_ns: int) -> int:
        told = self._told.get(mono_ns)
        return super().wall_ns(mono_ns) if told is None else told


async def _play_told(
    entries: Iterator[Entry], pipeline: Pipeline, clock: VirtualClock, *, wall: _ToldWall, pace: Pace | None
) -> AsyncGenerator[Decided, None]:
    """The decisions over the windows that were decided then."""
    start_ns, off_ns = clock.now_ns(), None
    async with aclosing(ahead(entries, count=AHEAD, name="decoder")) as decoded:
        async for entry in decoded:
            match told := entry.what:
                case Told():
                    pass
                case Sample():
                    pipeline.watch(told)
                    continue
                case Switched(on=False):
                    pipeline.suspend()
                    off_ns = entry.at_ns
                    continue
                case Reloaded():
                    warn_of_reload(told)
                    continue
                case _:
                    continue
            if off_ns is not None and told.window.cut_ns > off_ns:  # the one before was being decided in the pause
                off_ns = None
                await pipeline.forget()
            if pace:
                await pace(entry.at_ns - start_ns)
            clock.advance_to(told.window.cut_ns)
            wall.tell(told)
            pipeline.count_from(told.seq)
            yield await pipeline.decide(told.window, told.course)


def _fed(entries: Iterator[Entry], *, heard: bool) -> Iterator[Entry]:
    """What the agent was fed, transcripts if they were ``heard`` and are to be."""
    for entry in entries:
        match entry.what:
            case Told():
                pass
            case (Sample() | Watermark() | Mark()) as what if not heard and what.source == SPEECH:
                pass
            case _:
                yield entry
