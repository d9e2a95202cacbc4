"""Publishes what the agent has to say over MQTT, and takes in the texts and commands that come over it.

Connects again by itself, with growing pauses. Nothing here ever holds up the pipeline. Events wait on disk until the
broker has them (`Outbox`); of retained topics only the newest is kept, and all of them are sent again after each
connection, since the broker may have forgotten them; the rest waits in a bounded queue (`Outgoing`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from agent.clock import Clock, WallClock, rfc3339
from agent.config import Mqtt
from agent.control.commands import CommandHandler
from agent.health.metrics import Metrics
from agent.mqtt.address import Address
from agent.mqtt.commands import Commands, contract_topics
from agent.mqtt.discovery import announcement
from agent.mqtt.inlet import Inlet
from agent.mqtt.line import GOODBYE_S, Line
from agent.mqtt.message import Message
from agent.mqtt.outbox import Outbox, outbox_path
from agent.mqtt.outgoing import Outgoing
from agent.mqtt.rival import Instance
from agent.mqtt.shelf import Bounds
from agent.payload import SCHEMA, decision_payload, encode
from agent.types import Decision, Modality


class Publisher:
    """The agent's side of the MQTT contract. `run` connects and stays; the other methods only put things down."""

    def __init__(
        self,
        settings: Mqtt,
        *,
        node: str,
        wall: WallClock,
        clock: Clock,
        metrics: Metrics,
        labels: Sequence[str] = (),
        on_text: Callable[[bytes, int], None] | None = None,
        on_command: CommandHandler | None = None,
        on_acknowledged: Callable[[int, int], None] | None = None,
        purpose: str | None = None,
    ) -> None:
        """``labels`` are those that Home Assistant is told of; without any it is told nothing.

        ``on_text`` takes the payload and the arrival of each message on ``text/in``, ``on_command`` what is asked on
        ``cmd/``, and ``on_acknowledged`` the end of the window of each state that the broker has, and when it had it.
        ``purpose`` is what emotions are inferred for, and goes with the state.
        """
        self.address = Address.of(settings.broker)
        self._settings = settings
        self._node = node
        self._root = f"{settings.base}/{node}"
        self._wall = wall
        self._clock = clock
        self._purpose = purpose
        self._outgoing = Outgoing(settings.queue, metrics)
        bounds = Bounds(settings.outbox_events, settings.outbox_age)
        self._outbox = Outbox(outbox_path(settings, node), bounds, metrics=metrics, wall_ns=wall.wall_ns)
        self._commands = (
            Commands(on_command, own=contract_topics(settings), send=self._outgoing.queue, metrics=metrics)
            if on_command
            else None
        )
        inlet = Inlet(settings, root=self._root, on_text=on_text, commands=self._commands, clock=clock, metrics=metrics)
        if labels:
            announced = announcement(settings, node=node, labels=labels)
            self._outgoing.keep(announced)
            inlet.on_birth = partial(self._outgoing.again, announced.topic)
        self._instance = Instance()
        self._line = Line(
            settings,
            node=node,
            instance=self._instance.id,
            outgoing=self._outgoing,
            outbox=self._outbox,
            inlet=inlet,
            clock=clock,
            metrics=metrics,
            on_acknowledged=on_acknowledged,
        )
        metrics.gauges["mqtt"] = self._stand

    def decision(self, decision: Decision) -> None:
        """Publish a decision, and as the newest state."""
        payload = decision_payload(decision, node=self._node, wall=self._wall)
        said = Message(
            f"{self._root}/decision",
            encode(payload),
            self._settings.decision_qos,
            end_ns=decision.end_ns,
            put_ns=self._clock.now_ns(),
            trace=decision.id,
            capture=rfc3339(self._wall.wall_ns(decision.end_ns)),
        )
        self._outgoing.queue(said)
        state = replace(said, topic=f"{self._root}/state", qos=1, retain=True, expiry_ns=self._settings.stale_after)
        if self._purpose:
            state = replace(state, payload=encode({**payload, "purpose": self._purpose}))
        self._outgoing.keep(state)

    def modality(self, modality: Modality, state: Mapping[str, object]) -> None:
        """Publish how a modality stands."""
        self._retain(f"modality/{modality}", state)

    def status(self, payload: Mapping[str, object]) -> None:
        """Publish what the agent is doing: whether it is paused, whether it records, and what for; and who it is."""
        if not self._instance.started:
            now = rfc3339(self._wall.wall_ns(self._clock.now_ns()))
            self._instance = replace(self._instance, started=now)
        self._retain("status", {**payload, "instance": self._instance.payload()})

    def event(self, payload: Mapping[str, object]) -> None:
        """Publish an event. It gets a ``seq``, an ``id`` unless it has one, and waits on disk for the broker."""
        identity = {"schema": SCHEMA, "node": self._node, "id": uuid.uuid4().hex}
        self._outbox.put(encode({**identity, **payload}), self._clock.now_ns())

    def metrics(self, snapshot: Mapping[str, object]) -> None:
        """Publish the metrics."""
        self._outgoing.queue(Message(f"{self._root}/metrics", encode(snapshot), put_ns=self._clock.now_ns()))

    async def flushed(self) -> None:
        """Return once everything put down so far has been sent, or after `GOODBYE_S` when the broker is away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._outgoing.drained.wait()
                await self._outbox.drained.wait()

    async def run(self) -> None:
        """Stay connected until cancelled; then say ``offline`` and leave."""
        try:
            async with asyncio.TaskGroup() as beside:
                helpers = [beside.create_task(self._outbox.run(), name="outbox")]
                if self._commands:
                    helpers.append(beside.create_task(self._commands.run(), name="mqtt commands"))
                try:
                    await self._line.run()
                finally:
                    for helper in helpers:
                        helper.cancel()
        finally:
            await self._outbox.close()

    def _stand(self) -> Mapping[str, float]:
        waiting = {"outbox": self._outbox.waiting, "queue": len(self._outgoing)}
        return {"connected": self._line.connected, **waiting}

    def _retain(self, topic: str, payload: Mapping[str, object]) -> None:
        message = Message(f"{self._root}/{topic}", encode(payload), 1, retain=True, put_ns=self._clock.now_ns())
        self._outgoing.keep(message)
