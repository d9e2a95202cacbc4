"""Looks on at the agent, and serves the page."""

from __future__ import annotations

import asyncio
import importlib
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from agent.clock import MS, Clock, WallClock
from agent.config import Config
from agent.config.scalars import Endpoint
from agent.control.commands import Reply
from agent.control.privacy import Outlet, may_leave
from agent.dashboard import messages
from agent.dashboard.audience import Audience
from agent.dashboard.history import History, point
from agent.dashboard.messages import VERSION, encoded
from agent.dashboard.picture import Painter
from agent.dashboard.sound import Ear
from agent.health.metrics import Metrics
from agent.types import Audio, Decided, Frame, Modality, Sample, Text, Watermark
from agent.web.server import WebError, WebServer
from agent.window import SourceState

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from agent.dashboard.viewer import Viewer

log = logging.getLogger(__name__)

TICK_NS = 100 * MS
"""From one look at the sound to the next."""
SOCKETS = "uvicorn.protocols.websockets.websockets_sansio_impl"
TICKS_A_REPORT = 10
"""Counters are told once in so many."""


class Controls(Protocol):
    """What the buttons of the page act on: `agent.control.handler.Control`."""

    @property
    def paused(self) -> bool:
        """Whether sensing is off."""

    @property
    def recording(self) -> bool:
        """Whether a recording goes on."""

    async def handle(self, name: str, payload: bytes) -> Reply:
        """Carry out a command, as `agent.control.commands.CommandHandler`."""


class Dashboard:
    """A companion of the agent. Without a page that looks on it keeps the history and does nothing else."""

    name = "dashboard"

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        wall: WallClock,
        metrics: Metrics,
        dropped: Callable[[], Mapping[str, int]],
        encoders: Mapping[Modality, object],
        control: Controls | None = None,
        steadfast: bool = True,
    ) -> None:
        """``dropped`` counts samples left out. Where its port is taken it fails, or if not ``steadfast`` moves."""
        self._config = config
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self._dropped = dropped
        self._control = control
        self._steadfast = steadfast
        self._hello = messages.hello(config, encoders) | {"run": uuid.uuid4().hex, "commands": control is not None}
        self._previewed = may_leave(config, Outlet.DASHBOARD)
        self._history = History(config.dashboard.history / MS)
        self._newest: Decided | None = None
        self._standing: dict[str, SourceState] = {}
        self._audience = Audience(left_out=self._left_out)
        self._ears: dict[str, Ear] = {}
        self._heard_ns: dict[str, int] = {}
        self._painter = Painter(
            clock, wall_ms=self._ms, version=VERSION, show=self._audience.show, left_out=self._left_out
        )
        self._server = self._served(config.dashboard.listen)

    async def address(self) -> Endpoint:
        """Where the page is, once it is served."""
        return await self._server.address()

    def fed(self, item: Sample | Watermark) -> None:
        if isinstance(item, Watermark):
            return
        match item.payload:
            case Frame():
                if self._previewed and self._audience.watches:
                    self._painter.see(item)
            case Audio(pcm):
                if self._audience:
                    self._ear(item.source).hear(pcm)
                    self._heard_ns[item.source] = item.end_ns
            case Text() as text:
                self._keep("sayings", "saying", messages.saying(item, text, self._wall))
            case _ as never:
                assert_never(never)

    def marked(self, source: str, state: SourceState) -> None:
        if self._standing.get(source, SourceState.LIVE) is not state:
            self.event({"type": "source", "source": source, "state": state.name.lower()})
        self._standing[source] = state

    def decided(self, decided: Decided) -> None:
        self._newest = decided
        self._history.add("points", point(decided, self._ms(decided.decision.end_ns)))
        if self._audience:
            self._audience.tell(encoded("decision", messages.decision(decided, self._config, self._wall)))

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event now, and on the timeline: an `agent.payload.event_payload`, or a source that changed."""
        at_ms = int(event["time_ns"]) / MS if "time_ns" in event else self._ms(self._clock.now_ns())
        self._keep("events", "event", {"t": at_ms, "event": event})

    async def run(self) -> None:
        """Serve until cancelled; raises `agent.web.server.WebError` where it cannot listen."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._painter.run(), name="dashboard pictures")
            work.create_task(self._tick(), name="dashboard sound and metrics")
            work.create_task(self._serve(), name="dashboard server")

    async def _serve(self) -> None:
        await asyncio.to_thread(_import_server)
        try:
            await self._server.run()
        except WebError as error:
            asked = self._config.dashboard.listen
            if self._steadfast or asked is None:
                raise
            log.warning("%s; the dashboard takes another port", error)
            self._server = self._served(Endpoint(asked.host, 0))
            await self._server.run()

    def _served(self, at: Endpoint | None) -> WebServer:
        def application() -> Starlette:
            from agent.dashboard.site import site

            return site(
                join=self._join, leave=self._audience.leave, commands=self._control.handle if self._control else None
            )

        return WebServer("dashboard", self._config.dashboard.model_copy(update={"listen": at}), application)

    def _join(self) -> Viewer | None:
        if self._audience.full:
            return None
        now_ms = self._ms(self._clock.now_ns())
        newest = self._newest
        first = [
            encoded("hello", self._hello | {"t": now_ms}),
            encoded("history", {"t": now_ms, **self._history.all(now_ms)}),
            encoded("metrics", self._report()),
        ]
        if newest:
            first.append(encoded("decision", messages.decision(newest, self._config, self._wall)))
        return self._audience.join(*first)

    def _left_out(self) -> None:
        self._metrics.count("dashboard.dropped")

    def _keep(self, kind: str, name: str, item: Mapping[str, Any]) -> None:
        self._history.add(kind, item)
        if self._audience:
            self._audience.tell(encoded(name, item))

    def _ear(self, source: str) -> Ear:
        if source not in self._ears:
            self._ears[source] = Ear()
        return self._ears[source]

    async def _tick(self) -> None:
        tick, due_ns = 0, self._clock.now_ns()
        while True:
            due_ns = max(due_ns + TICK_NS, self._clock.now_ns())
            await self._clock.sleep_until(due_ns)
            tick += 1
            if not self._audience:
                self._ears.clear()
                continue
            for source, ear in self._ears.items():
                if heard := ear.take():
                    rms, peak, columns = heard
                    t_ms = self._ms(self._heard_ns[source])
                    sound = {"t": t_ms, "source": source, "rms": rms, "peak": peak, "columns": columns}
                    self._audience.tell(encoded("sound", sound))
            if tick % TICKS_A_REPORT == 0:
                self._audience.tell(encoded("metrics", self._report()))

    def _report(self) -> dict[str, Any]:
        control = self._control
        return {
            "t": self._ms(self._clock.now_ns()),
            "paused": control is not None and control.paused,
            "recording": control is not None and control.recording,
            **self._metrics.snapshot(self._dropped()),
        }

    def _ms(self, t_ns: int) -> float:
        return messages.ms(self._wall, t_ns)


def _import_server() -> None:
    """Import what serves: beside the loop, which it would hold up for some tenths of a second."""
    for name in ("agent.dashboard.site", "uvicorn", "uvicorn.protocols.http.h11_impl", SOCKETS):
        importlib.import_module(name)
