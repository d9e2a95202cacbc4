"""The embedded MQTT broker: amqtt on loopback, so that the agent runs with nothing else installed. Speaks 3.1.1."""

from __future__ import annotations

import errno
import logging
import socket
from types import TracebackType

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import BrokerError as AmqttBrokerError
from amqtt.session import Session

HOST = "127.0.0.1"


class BrokerError(Exception):
    """The embedded broker cannot start. The message says why and what to do."""


class _OwnSubscriptions(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt 0.12 greets whoever connects with the retained messages of everybody's subscriptions."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        subscribers = self.subscriptions.get(subscription[0], [])
        if any(other.client_id == session.client_id for other, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class EmbeddedBroker:
    """``async with`` starts it and, at the end, stops it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._broker: Broker | None = None

    async def __aenter__(self) -> EmbeddedBroker:
        check_free(self.port)
        for name in ("amqtt", "transitions"):  # they tell of every packet; only what goes wrong concerns a user
            logging.getLogger(name).setLevel(logging.ERROR)
        listener = ListenerConfig(bind=f"{HOST}:{self.port}")
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        self._broker = _OwnSubscriptions(BrokerConfig(listeners={"default": listener}, plugins=plugins))
        try:
            await self._broker.start()
        except AmqttBrokerError as error:
            raise BrokerError(f"the embedded broker cannot start on {HOST}:{self.port}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._broker is not None:
            await self._broker.shutdown()


def check_free(port: int) -> None:
    """Raise `BrokerError` when something listens on the port: amqtt's own message would not say so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise BrokerError(f"the embedded broker cannot listen on {HOST}:{port}: {error.strerror}") from error
            raise BrokerError(
                f"the embedded broker was to listen on {HOST}:{port}, but something else does already: probably another"
                f" broker such as mosquitto, or another Attune. Use that one with [mqtt] broker = "
                f'"mqtt://{HOST}:{port}", take another port with "embedded:{port + 1}", or stop it'
            ) from None
