"""Looks on at a running agent and has written down what it was fed and what it decided."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from agent.clock import SECOND, Clock, WallClock
from agent.config import Config
from agent.control.commands import Reply
from agent.control.privacy import Outlet, may_leave
from agent.control.reload import differences
from agent.payload import decision_payload
from agent.recording.about import about_agent
from agent.recording.format import DECISION, EVENT, METRICS, ORDER, WINDOW, Fed, Mark, Reloaded, Switched
from agent.recording.line import Item, Line
from agent.recording.rows import order_row, window_row
from agent.types import Decided, Sample, Source, Watermark
from agent.window import SourceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.recording.scribe import Scribe

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long the end of a recording is waited for: a disk that hangs must not hold up the end of the agent."""

RETRY_NS = 5 * SECOND
"""A recording that the config wants and that cannot begin is tried again this often."""


class Recorder:
    """A `Companion` that records while it is asked to; also what ``cmd/record`` starts and stops.

    What it costs the agent's event loop is a row a sample and a window; everything else happens in `Scribe`'s thread.
    """

    name = "record"

    def __init__(
        self,
        config: Config,
        *,
        session: str,
        sources: Sequence[Source],
        clock: Clock,
        wall: WallClock,
        snapshot: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """``sources`` are all that feed the agent; ``snapshot`` gives what is published as metrics."""
        self._config = config
        self._session = session
        self._sources = sources
        self._clock = clock
        self._wall = wall
        self._snapshot = snapshot
        self._line: Line | None = None
        self._scribe: Scribe | None = None
        self._numbers: WeakKeyDictionary[Sample, int] = WeakKeyDictionary()
        self._counts: dict[str, int] = {}
        self._standing: dict[str, SourceState] = {}
        self._seen = False
        self._on = True
        self._wanted = False  # by the config, and there is no recording yet

    @property
    def recording(self) -> bool:
        """Whether it is asked to record."""
        return self._line is not None

    def fed(self, item: Sample | Watermark) -> None:
        self._seen = True
        if self._line is None:
            return
        now_ns = self._clock.now_ns()
        if isinstance(item, Watermark):
            self._put(order_row(item, 0, now_ns), log_ns=now_ns, publish_ns=item.t_ns)
            return
        n = self._counts[item.source] = self._counts.get(item.source, -1) + 1
        row = order_row(item, n, now_ns)
        if self._put(row, log_ns=item.arrival_ns, publish_ns=item.t_ns, sample=item):
            self._numbers[item] = n

    def marked(self, source: str, state: SourceState) -> None:
        self._standing[source] = state
        if self._line is not None:
            self._note(Mark(source, state))

    def switched(self, *, on: bool) -> None:
        """Sensing goes off now, or on again: said before anything is forgotten, or comes."""
        if self._on is not on and self._line is not None:
            self._note(Switched(on))
        self._on = on

    def adopt(self, config: Config) -> None:
        """From the next window on the agent goes by that config."""
        changed = tuple(differences(self._config, config))
        if changed and self._line is not None:
            self._note(Reloaded(changed))
        self._config = config

    def decided(self, decided: Decided) -> None:
        self._seen = True
        if self._line is None:
            return
        now_ns, end_ns = self._clock.now_ns(), decided.window.end_ns
        row = window_row(decided, self._numbers, self._wall, now_ns)
        self._put(row, log_ns=now_ns, publish_ns=end_ns, topic=WINDOW)
        payload = decision_payload(decided.decision, node=self._config.agent.node, wall=self._wall)
        self._put(payload, log_ns=now_ns, publish_ns=end_ns, topic=DECISION)

    def event(self, payload: Mapping[str, object]) -> None:
        """An event was published."""
        if self._line is not None:
            now_ns = self._clock.now_ns()
            self._put(dict(payload), log_ns=now_ns, publish_ns=now_ns, topic=EVENT)

    async def run(self) -> None:
        """Record from the start where the config says so; write out everything at the end."""
        try:
            if self._config.record.enabled:
                await self._insist()
            while True:
                await self._clock.sleep_until(self._clock.now_ns() + self._config.mqtt.metrics_every)
                if self._line is not None and self._snapshot:
                    now_ns = self._clock.now_ns()
                    self._put(dict(self._snapshot()), log_ns=now_ns, publish_ns=now_ns, topic=METRICS)
        finally:
            if self.recording:
                reply = await self.stop()
                log.log(logging.INFO if reply.ok else logging.ERROR, "%s", reply.said)

    async def _insist(self) -> None:
        """Start, however often that takes: the config wants it, and a disk that is full may have room later."""
        self._wanted, refused = True, False
        while self._wanted and not self.recording:
            reply = await self.start()
            if not (reply.ok or refused):  # once: the reason tells how much is free, and differs each time
                log.error("%s", reply.said)
            elif reply.ok and refused:
                log.warning("%s", reply.said)
            refused = not reply.ok
            self._wanted &= not (reply.ok or self._forbidden())  # somebody may have said stop meanwhile
            if self._wanted:
                await self._clock.sleep_until(self._clock.now_ns() + RETRY_NS)

    async def start(self) -> Reply:
        """Begin a recording in a folder of its own; where nothing can be written the answer says why."""
        if self._line is not None:
            return Reply(True, f"is recording to {self._where()}")
        if forbidden := self._forbidden():
            return Reply(False, f"cannot record: {forbidden}")
        scribe = self._begin()
        if not await asyncio.get_running_loop().run_in_executor(None, scribe.begun, PATIENCE_S):
            return Reply(False, f"nothing is recorded to {self._config.record.out} yet: the disk is slow or hangs")
        if scribe.halted:
            if self._scribe is scribe:
                self._close()
            return Reply(False, f"cannot record: {scribe.halted}; make room there, or set [record] out elsewhere")
        return Reply(True, f"recording to {scribe.folder}")

    def _forbidden(self) -> str:
        """What stands in the way for good; empty where nothing does."""
        if not may_leave(self._config, Outlet.RECORD):
            return '[privacy] raw_media = "never" keeps pictures and sound in the process'
        if self._config.record.audio == "opus" and importlib.util.find_spec("av") is None:
            return "[record] audio = \"opus\" needs PyAV; install the extra: pip install 'attune[media]'"
        return ""

    def _begin(self) -> Scribe:
        """Have everything written down from now on, as soon as there is a file."""
        from agent.recording.scribe import Scribe
        from agent.recording.shelf import Shelf

        table = self._config.record
        about = about_agent(
            self._config,
            session=self._session,
            sources=self._sources,
            clock=self._clock,
            wall=self._wall,
            whole=not self._seen,
        )
        self._line = Line(table.buffer)
        scribe = self._scribe = Scribe(self._line, Shelf(table, about), table)
        scribe.begin()
        for source, state in self._standing.items():
            self._note(Mark(source, state))
        if not self._on:
            self._note(Switched(on=False))
        return scribe

    async def stop(self) -> Reply:
        """End it, with everything written out."""
        self._wanted = False
        scribe, where = self._scribe, self._where()
        if scribe is None or self._line is None:
            return Reply(True, "is not recording")
        self._close()
        ended = await asyncio.get_running_loop().run_in_executor(None, scribe.ended, PATIENCE_S)
        return self._told(scribe, where, ended=ended)

    def reading(self) -> Mapping[str, float]:
        """For the metrics: what was written, what waits, and what was left out."""
        if self._line is None or self._scribe is None:
            return {"halted": 1.0} if self._wanted else {}
        dropped = self._scribe.dropped
        return {
            "halted": float(self._scribe.halted is not None),
            "messages": float(sum(self._scribe.written.values())),
            "waiting": float(len(self._line)),
            **{f"dropped_{reason}": float(n) for reason, n in dropped.items()},
        }

    def _told(self, scribe: Scribe, where: str, *, ended: bool) -> Reply:
        if not ended:
            return Reply(False, f"the recording in {where} is not written out yet: the disk is slow or hangs")
        if scribe.halted:
            return Reply(False, f"recorded to {where} until it could not be written: {scribe.halted}")
        left_out = ", ".join(f"{n} {reason}" for reason, n in sorted(scribe.dropped.items())) or "nothing"
        return Reply(True, f"recorded to {where}; left out: {left_out}")

    def _close(self) -> None:
        assert self._line is not None, "asked for only while recording"
        self._line.close()
        self._line = self._scribe = None
        self._numbers.clear()
        self._counts.clear()

    def _where(self) -> str:
        return str(self._scribe.folder or self._config.record.out) if self._scribe else ""

    def _note(self, what: Fed) -> None:
        now_ns = self._clock.now_ns()
        self._put(order_row(what, 0, now_ns), log_ns=now_ns, publish_ns=now_ns)

    def _put(
        self, row: dict[str, Any], *, log_ns: int, publish_ns: int, topic: str = ORDER, sample: Sample | None = None
    ) -> bool:
        assert self._line is not None, "asked for only while recording"
        wall = self._wall
        return self._line.put(Item(topic, row, wall.wall_ns(log_ns), wall.wall_ns(publish_ns), sample))
