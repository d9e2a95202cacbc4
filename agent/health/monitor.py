"""Stands beside the agent, and tells others how it is: over HTTP, to Prometheus, to systemd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.clock import Clock
from agent.config import Config
from agent.deciding.pipeline import Pipeline
from agent.health.judge import Health
from agent.health.systemd import Notifier, Service
from agent.health.telemetry import CONTENT_TYPE, Telemetry, temperatures
from agent.types import Decided, Sample, Watermark
from agent.web.server import WebServer
from agent.window import SourceState

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


class Monitor:
    """An `agent.seams.Companion`: ``/healthz``, ``/readyz`` and ``/metrics`` where the config says, and sd_notify."""

    name = "monitor"

    def __init__(
        self,
        config: Config,
        *,
        pipeline: Pipeline,
        dropped: Callable[[], Mapping[str, int]],
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        """``dropped`` counts samples left out, by ``source.reason``; ``environment`` may tell of systemd."""
        self.health = Health(pipeline, clock, hop_ns=config.agent.hop, broker=config.mqtt.broker)
        self.notifier = Notifier.of(environment)
        self.server = WebServer("metrics", config.metrics, self._application) if config.metrics.listen else None
        self._clock = clock
        self._telemetry = Telemetry(pipeline.metrics, pipeline.vitals, self.health.states, dropped, clock)

    def fed(self, item: Sample | Watermark) -> None:
        self.health.fed(item)

    def marked(self, source: str, state: SourceState) -> None:
        self.health.marked(source, state)

    def decided(self, decided: Decided) -> None:
        self.health.decided(decided)

    async def run(self) -> None:
        """Serve and tell until cancelled. Raises `agent.web.server.WebError` where the port is taken."""
        self.health.begin()
        async with asyncio.TaskGroup() as work:
            if self.server:
                work.create_task(self.server.run(), name="metrics server")
                await self.server.address()  # who hears that it is up may ask at once
            if self.notifier:
                service = Service(self.notifier, self._clock, lambda: "; ".join(self.health.ill()), self.health.line)
                work.create_task(service.run(), name="systemd")

    def _application(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse, Response
        from starlette.routing import Route

        registry = self._telemetry.registry()

        def answer(reasons: list[str]) -> Response:
            told = {"ok": not reasons, "reasons": reasons, "sources": self.health.sources()}
            return JSONResponse(told, status_code=503 if reasons else 200)

        async def healthz(_: Request) -> Response:
            return answer(self.health.ill())

        async def readyz(_: Request) -> Response:
            return answer(self.health.unready())

        async def metrics(_: Request) -> Response:
            from prometheus_client import generate_latest

            self._telemetry.zones = await asyncio.to_thread(temperatures)
            return Response(generate_latest(registry), media_type=CONTENT_TYPE)

        return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
