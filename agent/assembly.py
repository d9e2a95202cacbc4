"""Puts the agent together from the config and the parts that `launch.py` opens, and runs it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from agent.clock import SECOND, Clock, WallClock
from agent.config import Config
from agent.config.events import rules
from agent.control.commands import Reply
from agent.control.handler import Control
from agent.deciding.build import build_budget, build_head, build_pipeline
from agent.events import Event, Events
from agent.fusion import TrainedHead
from agent.health.standing import StandingBoard, StatusBoard
from agent.live import LiveAgent
from agent.mqtt import Publisher
from agent.mqtt.broker import EmbeddedBroker
from agent.payload import event_payload
from agent.seams import Companion, Encoder, Sensor, Transcriber
from agent.types import Decision, Modality
from agent.worker import DaemonExecutor

log = logging.getLogger(__name__)

PATIENCE_NS = 2 * SECOND
"""An encoder that takes longer is left out until it has done (or four hops, if those are longer)."""


def new_session() -> str:
    """A name for a live session, unique over all nodes."""
    return uuid.uuid4().hex[:12]


class Agent:
    """A whole agent: sensors, pipeline, broker, publisher. `run` lasts until the sensors end or it is cancelled."""

    def __init__(
        self,
        config: Config,
        *,
        sensors: Sequence[Sensor],
        encoders: Mapping[Modality, Encoder],
        transcriber: Transcriber | None,
        clock: Clock,
        wall: WallClock,
        sinks: Sequence[Callable[[Decision], None]] = (),
        on_text: Callable[[bytes, int], None] | None = None,
        learned: TrainedHead | None = None,
    ) -> None:
        """``learned`` and what is raised are as in `build_head`."""
        self._config = config
        self._companions: list[Companion] = []
        self._sensors = sensors
        self._clock = clock
        self._wall = wall
        self.pipeline = build_pipeline(
            config,
            sources=[source for sensor in sensors for source in sensor.sources],
            encoders=encoders,
            transcriber=transcriber,
            clock=clock,
            session=new_session(),
            patience_ns=max(PATIENCE_NS, 4 * config.agent.hop),
            learned=learned,
        )
        self._publisher = Publisher(
            config.mqtt,
            node=config.agent.node,
            wall=wall,
            clock=clock,
            metrics=self.pipeline.metrics,
            labels=config.agent.labels,
            on_text=self._take_text if on_text else None,
            on_command=self._command,
            on_acknowledged=self.pipeline.metrics.acknowledged,
            purpose=config.privacy.purpose,
        )
        self._on_text = on_text
        self._events = Events(rules(config.events, config.agent.labels), hop_ns=config.agent.hop)
        self._event_sinks: list[Callable[[Mapping[str, object]], None]] = [self._publisher.event]
        board = StandingBoard(self._publisher.modality, self.pipeline.ailment)
        self._live = LiveAgent(
            self.pipeline,
            sensors=sensors,
            clock=clock,
            sinks=(self._publisher.decision, board.update, self._watch, *sinks),
            observers=self._companions,
        )
        self.control = Control(self._live, changed=self._tell_status)
        self._status = StatusBoard(self._publisher.status, privacy=config.privacy, clock=clock, wall=wall)

    def attach(self, companion: Companion) -> None:
        """Let it look on and work beside the agent; to be called before `run`."""
        self._companions.append(companion)

    def tell_events(self, sink: Callable[[Mapping[str, object]], None]) -> None:
        """Tell each event's payload to ``sink`` as well; to be called before `run`."""
        self._event_sinks.append(sink)

    def adopt(self, config: Config, learned: TrainedHead | None) -> None:
        """Go by the fusion, budget and event rules of another config from the next window on.

        All of it or, where `build_head` raises, nothing.
        """
        head = build_head(config, learned)
        same = config.agent.budget == self._config.agent.budget
        self.pipeline.adopt(head, self.pipeline.budget if same else build_budget(config))
        self._publish(self._events.adopt(rules(config.events, config.agent.labels)))
        self._config = config

    async def run(self) -> None:
        """Run; raises `agent.mqtt.broker.BrokerError` when that cannot start, and what a companion raises."""
        asyncio.get_running_loop().set_default_executor(DaemonExecutor())
        async with AsyncExitStack() as stack:
            stack.callback(self.pipeline.close)
            if self._publisher.address.embedded:
                await stack.enter_async_context(EmbeddedBroker.of(self._config.mqtt))
            async with asyncio.TaskGroup() as work:
                helpers = [
                    work.create_task(self._publisher.run(), name="publish"),
                    work.create_task(self.control.run(), name="commands"),
                    work.create_task(self._follow_wall_clock(), name="wall clock"),
                    work.create_task(self._report(), name="metrics"),
                    *(work.create_task(companion.run(), name=companion.name) for companion in self._companions),
                ]
                self._tell_status()
                try:
                    await self._live.run()
                finally:
                    self._publish(self._events.stop())
                await self._publisher.flushed()
                for task in helpers:
                    task.cancel()

    def dropped(self) -> Counter[str]:
        """Samples left out since the start, by ``source.reason``: by the sensors and by the window."""
        drops = Counter({f"{source}.{reason}": n for (source, reason), n in self.pipeline.window.dropped.items()})
        for sensor in self._sensors:
            drops.update({f"{sensor.name}.{reason}": n for reason, n in sensor.drops.items()})
        return drops

    def _take_text(self, payload: bytes, arrival_ns: int) -> None:
        """A text that came over MQTT; while the agent is paused nobody reads it, then or later."""
        if self._live.paused:
            self.pipeline.metrics.count("text.paused")
        elif self._on_text:
            self._on_text(payload, arrival_ns)

    async def _command(self, name: str, payload: bytes) -> Reply:
        return await self.control.handle(name, payload)

    def _watch(self, decision: Decision) -> None:
        """Of a decision: what begins and ends with it, and what may have changed without a command."""
        self._publish(self._events.update(decision))
        self._tell_status()

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            payload = event_payload(event, node=self._config.agent.node, wall=self._wall)
            for sink in self._event_sinks:
                sink(payload)

    def _tell_status(self) -> None:
        closing = self._live.open if self._live.paused else ()
        self._status.update(paused=self._live.paused, recording=self.control.recording, closing=closing)

    async def _follow_wall_clock(self) -> None:
        """Once a second; how late this comes is how late everything on the loop is."""
        while True:
            due_ns = self._clock.now_ns() + SECOND
            await self._clock.sleep_until(due_ns)
            self.pipeline.metrics.lagged(self._clock.now_ns() - due_ns)
            before = self._wall.steps_back
            self._wall.read()
            if self._wall.steps_back != before:
                log.warning("the wall clock stepped back by more than a minute; published times follow it")

    async def _report(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now_ns() + self._config.mqtt.metrics_every)
            self.pipeline.metrics.counts["wall_clock.steps_back"] = self._wall.steps_back
            self._publisher.metrics(self.pipeline.metrics.snapshot(self.dropped()))
            self.pipeline.metrics.loop_lag_ns = 0
