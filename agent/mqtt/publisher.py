"""Publishes what the agent has to say over MQTT, and takes in the texts and commands that come over it.

Connects again by itself, with growing pauses. Nothing here ever holds up the pipeline: what cannot be sent waits in a
bounded queue whose oldest gives way, counted as ``publish.dropped``; of retained topics only the newest is kept, and
all of them are sent again after each connection, since the broker may have forgotten them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

import aiomqtt

from agent.clock import SECOND, Clock, WallClock
from agent.commands import CommandHandler
from agent.config import Mqtt
from agent.metrics import Metrics
from agent.mqtt.address import Address
from agent.mqtt.connection import V5, V311, connection, either, heed_cancellation
from agent.mqtt.message import Message, properties_of
from agent.payload import decision_payload, encode
from agent.supervisor import Backoff
from agent.types import Decision, Modality

log = logging.getLogger(__name__)

HEALTHY_NS = 10 * SECOND
"""A connection that lasted longer was a good one: the next pause is the first again."""
GOODBYE_S = 1.0
"""How long a stop may wait for the broker to take ``offline``."""


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
        on_text: Callable[[bytes, int], None] | None = None,
        on_command: CommandHandler | None = None,
        on_acknowledged: Callable[[int, int], None] | None = None,
    ) -> None:
        """``on_text`` takes the payload and the arrival of each message on ``text/in``, ``on_command`` what comes on
        ``cmd/``, and ``on_acknowledged`` the end of the window of each state that the broker took, and when it did.
        """
        self.address = Address.of(settings.broker)
        self._settings = settings
        self._node = node
        self._root = f"{settings.base}/{node}"
        self._wall = wall
        self._clock = clock
        self._metrics = metrics
        self._on_text = on_text
        self._on_command = on_command
        self._on_acknowledged = on_acknowledged
        self._queue: deque[Message] = deque()
        self._kept: dict[str, Message] = {}
        self._unsent_kept: dict[str, None] = {}
        self._something = asyncio.Event()  # something waits to be sent
        self._nothing = asyncio.Event()  # everything has been sent
        self._protocol = V311 if self.address.embedded else V5
        self._connected_ns: int | None = None
        self._mute = 0  # connections in a row that the broker did not answer

    def decision(self, decision: Decision) -> None:
        """Publish a decision, and as the newest state."""
        payload = encode(decision_payload(decision, node=self._node, wall=self._wall))
        self._enqueue(Message(f"{self._root}/decision", payload, self._settings.decision_qos))
        expiry_s = max(1, self._settings.stale_after // SECOND)
        self._keep(Message(f"{self._root}/state", payload, 1, retain=True, expiry_s=expiry_s))

    def modality(self, modality: Modality, state: Mapping[str, object]) -> None:
        """Publish how a modality stands."""
        self._keep(Message(f"{self._root}/modality/{modality}", encode(state), 1, retain=True))

    def status(self, payload: Mapping[str, object]) -> None:
        """Publish what the agent is doing: whether it is paused, whether it records, and what for."""
        self._keep(Message(f"{self._root}/status", encode(payload), 1, retain=True))

    def event(self, payload: Mapping[str, object]) -> None:
        """Publish an event; it gets a ``seq``, and waits on disk until the broker has it."""
        self._enqueue(Message(f"{self._root}/event", encode(payload), 1))

    def metrics(self, snapshot: Mapping[str, object]) -> None:
        """Publish the metrics."""
        self._enqueue(Message(f"{self._root}/metrics", encode(snapshot)))

    async def flushed(self) -> None:
        """Return once everything put down so far has been sent, or after `GOODBYE_S` when the broker is away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._nothing.wait()

    async def run(self) -> None:
        """Stay connected until cancelled; then say ``offline`` and leave."""
        backoff = Backoff(first_ns=SECOND // 2)
        said = ""
        while True:
            self._connected_ns = None
            try:
                await self._connect()
            except aiomqtt.MqttError as error:
                problem = str(error)
            heed_cancellation()
            lasted_ns = self._lasted_ns()
            if lasted_ns is None:
                self._metrics.count("mqtt.connections_failed")
                self._choose_protocol(problem)
            else:
                self._metrics.count("mqtt.connections_lost")
                if lasted_ns > HEALTHY_NS:
                    backoff.reset()
                    said = ""
                else:
                    problem += f"; if this goes on, another client may be called attune-{self._node}: set [agent] node"
            if problem != said:
                said = problem
                log.warning("broker %s:%d: %s; trying again", self.address.host, self.address.port, problem)
            await self._clock.sleep_until(self._clock.now_ns() + backoff.next_ns())

    async def _connect(self) -> None:
        will = aiomqtt.Will(f"{self._root}/availability", b"offline", qos=1, retain=True)
        name = f"attune-{self._node}"
        async with connection(self._settings, protocol=self._protocol, identifier=name, will=will) as client:
            self._connected_ns = self._clock.now_ns()
            self._mute = 0
            await self._serve(client)

    def _lasted_ns(self) -> int | None:
        """How long the connection has lasted; None when there was none."""
        return None if self._connected_ns is None else self._clock.now_ns() - self._connected_ns

    def _choose_protocol(self, problem: str) -> None:
        """After a failed connection: an old broker refuses version 5, or says nothing; others are just not there."""
        if self.address.embedded or problem.startswith("[Errno"):  # aiomqtt keeps no more than an OSError's text
            return
        self._mute = self._mute + 1 if "timed out" in problem else 2
        if self._mute >= 2:
            self._mute = 0
            self._protocol = V311 if self._protocol is V5 else V5

    async def _serve(self, client: aiomqtt.Client) -> None:
        version = "5" if self._protocol is V5 else "3.1.1"
        log.info("broker %s:%d: connected, MQTT %s", self.address.host, self.address.port, version)
        self._unsent_kept = dict.fromkeys(self._kept)
        self._something.set()
        availability = f"{self._root}/availability"
        try:
            if self._on_text:
                await client.subscribe(f"{self._root}/text/in", qos=1)
            await client.publish(availability, b"online", qos=1, retain=True)
            heed_cancellation()
            await either(self._send(client), self._receive(client))
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError, TimeoutError):  # the will says the same
                async with asyncio.timeout(GOODBYE_S):
                    await client.publish(availability, b"offline", qos=1, retain=True)
            raise

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            while message := self._next():
                properties = properties_of(message) if self._protocol is V5 else None
                try:
                    await client.publish(message.topic, message.payload, message.qos, message.retain, properties)
                except aiomqtt.MqttError:
                    self._metrics.count("publish.dropped", not message.retain)  # a retained one is sent again
                    raise
                self._metrics.count("publish.sent")
            self._something.clear()
            self._nothing.set()
            await self._something.wait()
            self._nothing.clear()

    def _next(self) -> Message | None:
        if self._queue:
            return self._queue.popleft()
        if self._unsent_kept:
            return self._kept[self._unsent_kept.popitem()[0]]
        return None

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if message.retain:  # said once, it would be new again at each connection
                self._metrics.count("text.retained")
            elif self._on_text and isinstance(message.payload, bytes):
                self._on_text(message.payload, self._clock.now_ns())

    def _enqueue(self, message: Message) -> None:
        if len(self._queue) >= self._settings.queue:
            self._queue.popleft()
            self._metrics.count("publish.dropped")
        self._queue.append(message)
        self._something.set()

    def _keep(self, message: Message) -> None:
        self._kept[message.topic] = message
        self._unsent_kept[message.topic] = None
        self._something.set()
