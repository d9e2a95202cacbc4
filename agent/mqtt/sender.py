"""Sends over a connection what waits, and says what the broker refuses."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable

import aiomqtt

from agent.clock import Clock
from agent.config import Mqtt
from agent.health.metrics import Metrics
from agent.mqtt.address import Address
from agent.mqtt.connection import ANSWER_S, Answer, Connection, RefusedError
from agent.mqtt.journal import Row
from agent.mqtt.message import Message
from agent.mqtt.outbox import Outbox
from agent.mqtt.outgoing import Outgoing
from agent.supervisor import Backoff

log = logging.getLogger(__name__)

WINDOW = 16
"""Events that are on the way to the broker at most."""
TOLD = 64
"""Topics that are remembered as told: who asks for answers chooses where they go."""


class Sender:
    """Outlives connections: `send` and `send_events` run over one until it fails, with `aiomqtt.MqttError`."""

    def __init__(
        self,
        settings: Mqtt,
        *,
        root: str,
        outgoing: Outgoing,
        outbox: Outbox,
        clock: Clock,
        metrics: Metrics,
        on_acknowledged: Callable[[int, int], None] | None,
    ) -> None:
        self._address = Address.of(settings.broker)
        self._event_topic = f"{root}/event"
        self._outgoing = outgoing
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._on_acknowledged = on_acknowledged
        self._acknowledged_ns = 0  # end of the newest window whose state the broker has
        self._told: set[str] = set()  # topics of which the log says that the broker refuses them

    async def send(self, client: Connection) -> None:
        """What is `Outgoing`, one after the other."""
        while True:
            message = await self._outgoing.next()
            try:
                await self.deliver(client, message)
            except aiomqtt.MqttError:
                self._metrics.count("publish.dropped", not message.retain)  # a retained one is sent again
                raise
            self._metrics.count("publish.sent")
            if message.retain and message.end_ns > self._acknowledged_ns:
                self._acknowledged_ns = message.end_ns
                if self._on_acknowledged:
                    self._on_acknowledged(message.end_ns, self._clock.now_ns())

    async def send_events(self, client: Connection) -> None:
        """In order, and up to `WINDOW` at once, so that a far broker takes more than one in each round trip.

        One that the broker refuses holds up those after it. Then, and before the first was taken, they go one by one:
        else the broker could take what comes after one that it refuses.
        """
        refusals, most = Backoff(), 1
        while True:
            rest, sent = deque(await self._outbox.oldest()), deque[tuple[Row, Message, Answer]]()
            while rest or sent:
                # With no more of them than the broker takes there is always somebody who waits for an answer.
                while rest and len(sent) < min(most, client.most):
                    event = _event(self._event_topic, rest[0].body)
                    sent.append((rest.popleft(), event, await client.send(event, self._clock.now_ns())))
                row, event, answer = sent[0]
                if await self._taken(client, answer, event):
                    sent.popleft()
                    self._outbox.acknowledge(row.seq)
                    self._metrics.count("outbox.sent")
                    refusals.reset()
                    most = WINDOW
                else:
                    most = 1
                    await asyncio.wait([answer for _, _, answer in sent], timeout=ANSWER_S)
                    rest.extendleft(row for row, *_ in reversed(sent))
                    sent.clear()
                    await self._clock.sleep_until(self._clock.now_ns() + refusals.next_ns())

    async def deliver(self, client: Connection, message: Message) -> bool:
        """Whether the broker took the message; what it refuses is counted, and said once a topic."""
        return await self._taken(client, await client.send(message, self._clock.now_ns()), message)

    async def _taken(self, client: Connection, answer: Answer, message: Message) -> bool:
        try:
            await client.acknowledged(answer)
        except RefusedError as refused:
            self._metrics.count("publish.refused")
            known = message.topic in self._told or len(self._told) >= TOLD
            if not known and message.payload:  # an empty one only tidies up
                self._told.add(message.topic)
                log.warning(
                    "broker %s:%d: refuses %s: %s; allow it in the broker's access list",
                    *(self._address.host, self._address.port, message.topic, refused),
                )
            return False
        return True


def _event(topic: str, body: bytes) -> Message:
    said = json.loads(body)
    return Message(topic, body, qos=1, trace=said.get("decision"), capture=said.get("time"))
