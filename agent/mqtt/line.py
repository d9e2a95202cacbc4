"""Stays connected to the broker, and sends there what waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import aiomqtt

from agent.clock import SECOND, Clock
from agent.config import Mqtt
from agent.health.metrics import Metrics
from agent.health.repeats import Repeats
from agent.mqtt.address import Address, in_the_clear
from agent.mqtt.connection import V5, V311, Connection, connection
from agent.mqtt.inlet import Inlet
from agent.mqtt.message import Message
from agent.mqtt.outbox import Outbox
from agent.mqtt.outgoing import Outgoing
from agent.mqtt.rival import Rivals
from agent.mqtt.sender import Sender
from agent.mqtt.waiting import either, heed_cancellation
from agent.supervisor import Backoff

log = logging.getLogger(__name__)

HEALTHY_NS = 10 * SECOND
"""A connection that lasted longer was a good one: the next pause is the first again."""
GOODBYE_S = 1.0
"""How long a stop may wait for the broker to take ``offline``."""

WRONG_PROTOCOL = (129, 130, 132)
"""Malformed packet, protocol error, unsupported version (MQTT 5, table 2-6): what brokers say that know another one."""
KEPT_OUT = (134, 135)
"""Bad user name or password, not authorized; paho translates what MQTT 3.1.1 says."""
SUSPICIOUS = 2
"""Connections in a row that did not last: perhaps another client of our name takes our place again and again."""
PATIENT = 6
"""Pauses after which the next is the longest."""


class Line:
    """`run` connects and stays. After each connection it sends everything again that the broker may have forgotten.

    The broker keeps our session meanwhile, so that texts and commands of QoS 1 come after all. A broker that does not
    answer any more is noticed when it does not acknowledge: at the next message, and without any within one and a half
    keepalives, since availability is said again each keepalive.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        node: str,
        instance: str,
        outgoing: Outgoing,
        outbox: Outbox,
        inlet: Inlet,
        clock: Clock,
        metrics: Metrics,
        on_acknowledged: Callable[[int, int], None] | None,
    ) -> None:
        self._settings = settings
        self._address = Address.of(settings.broker)
        self._identifier = f"attune-{node}"
        self._root = f"{settings.base}/{node}"
        self._online = Message(
            f"{self._root}/availability", b"online", 1, retain=True, content_type="text/plain", instance=instance
        )
        self._offline = replace(self._online, payload=b"offline")
        self._outgoing = outgoing
        self._inlet = inlet
        self._clock = clock
        self._metrics = metrics
        self._sender = Sender(
            settings,
            root=self._root,
            outgoing=outgoing,
            outbox=outbox,
            clock=clock,
            metrics=metrics,
            on_acknowledged=on_acknowledged,
        )
        self._protocol = V311 if self._address.embedded else V5
        self._connected_ns: int | None = None
        self._mute = 0  # connections in a row that the broker did not answer
        self._short = 0  # connections in a row that did not last
        self._taken_over = False
        self._repeats = Repeats()
        self._silent = True  # the newest that was said of the broker is not that we are connected
        self._rivals = Rivals(settings, identifier=self._identifier, root=self._root, own=instance, clock=clock)

    async def run(self) -> None:
        """Connect, and again whenever that ends, until cancelled; then say ``offline`` and leave."""
        if said := in_the_clear(self._settings):
            log.warning("broker %s:%d: %s", self._address.host, self._address.port, said)
        backoff = Backoff(first_ns=SECOND // 2)
        said, down_ns = "", self._clock.now_ns()
        while True:
            self._connected_ns = None
            try:
                await self._connect()
            except aiomqtt.MqttError as error:
                problem, code = str(error), getattr(error, "rc", None)
            heed_cancellation()
            lasted_ns = self._lasted_ns()
            self._connected_ns = None
            if lasted_ns is None:
                self._metrics.count("mqtt.connections_failed")
                self._choose_protocol(problem, code)
                if code in KEPT_OUT:
                    problem += "; it has to know [mqtt] user and password, or the certificate"
            else:
                self._metrics.count("mqtt.connections_lost")
                down_ns = self._clock.now_ns()
                if lasted_ns > HEALTHY_NS:
                    backoff.reset()
                    said = ""
                if await self._interrupted(lasted_ns, backoff):
                    continue
                if self._taken_over:
                    problem = f"another client is called {self._identifier}, too, and took its place: set [agent] node"
                elif lasted_ns <= HEALTHY_NS:
                    problem += f"; if this goes on, another client may be called {self._identifier}: set [agent] node"
            now_ns = self._clock.now_ns()
            lasting_ns = 0 if self._silent else now_ns - down_ns  # "connected" must not be what is said of it
            if problem != said and (message := self._repeats.due(problem, now_ns, lasting_ns=lasting_ns)):
                said, self._silent = problem, True
                log.warning("broker %s:%d: %s; trying again", self._address.host, self._address.port, message)
            await self._clock.sleep_until(self._clock.now_ns() + backoff.next_ns())

    async def _interrupted(self, lasted_ns: int, backoff: Backoff) -> bool:
        """Whether that looked like another agent of our name, and the first pause is over.

        While there is another one this does not return. Where the broker says that another client has our name, and
        there is no telling what it is, the next pause is the longest. Without MQTT 5 only a look tells anything.
        """
        self._short = self._short + 1 if lasted_ns <= HEALTHY_NS else 0
        if not self._taken_over and self._short < SUSPICIOUS:
            return False
        self._short = 0
        await self._clock.sleep_until(self._clock.now_ns() + backoff.next_ns())  # until it has said that it is there
        if await self._rivals.stand_aside(self._protocol):
            self._silent = True
            return True
        if self._taken_over:
            backoff.attempts = max(backoff.attempts, PATIENT)
        return not self._taken_over

    async def _connect(self) -> None:
        offline = self._offline
        async with connection(
            self._settings,
            protocol=self._protocol,
            identifier=self._identifier,
            will=aiomqtt.Will(offline.topic, offline.payload, offline.qos, offline.retain),
            lasting=not self._address.embedded,  # that one ends with us, and remembers nothing
            on_drop=lambda: self._metrics.count("mqtt.incoming_dropped"),
        ) as client:
            self._connected_ns = self._clock.now_ns()
            self._mute = 0
            self._taken_over = False
            try:
                await self._serve(client)
            finally:
                self._taken_over = client.taken_over

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._connected_ns is not None

    def _lasted_ns(self) -> int | None:
        """How long the connection has lasted; None when there was none."""
        return None if self._connected_ns is None else self._clock.now_ns() - self._connected_ns

    def _choose_protocol(self, problem: str, code: object) -> None:
        """After a failed connection: an old broker refuses version 5, or says nothing, twice; else it is not that."""
        self._mute = self._mute + 1 if "timed out" in problem else 0
        if not self._address.embedded and (self._mute >= 2 or code in WRONG_PROTOCOL):
            self._mute = 0
            self._protocol = V311 if self._protocol is V5 else V5

    async def _serve(self, client: Connection) -> None:
        version = "5" if self._protocol is V5 else "3.1.1"
        if self._silent:
            log.info("broker %s:%d: connected, MQTT %s", self._address.host, self._address.port, version)
            self._silent = False
        self._metrics.count("mqtt.connections")
        self._outgoing.again()
        try:
            if topics := self._inlet.topics:
                await client.subscribe(topics)
            await self._sender.deliver(client, self._online)
            heed_cancellation()
            await either(
                self._sender.send(client),
                self._sender.send_events(client),
                self._stay_online(client),
                self._inlet.receive(client),
            )
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError, TimeoutError):  # the will says the same
                async with asyncio.timeout(GOODBYE_S):
                    await self._sender.deliver(client, self._offline)
            raise

    async def _stay_online(self, client: Connection) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now_ns() + self._settings.keepalive)
            await self._sender.deliver(client, self._online)
