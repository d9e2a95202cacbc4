"""The embedded MQTT broker: amqtt, so that the agent runs with nothing else installed. Speaks 3.1.1.

It listens on loopback, unless the config names another host; then everybody who connects needs the password.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from hmac import compare_digest
from types import TracebackType

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError, MQTTError
from amqtt.errors import BrokerError as AmqttBrokerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from amqtt.utils import gen_client_id

from agent.config import Mqtt
from agent.mqtt.address import LOOPBACK, Address


class BrokerError(Exception):
    """The embedded broker cannot start. The message says why and what to do."""


class _Guarded(Broker):  # type: ignore[misc]  # amqtt has no types
    """amqtt, which lets in who knows the user and the password, or everybody where there are none."""

    def __init__(self, config: BrokerConfig, credentials: tuple[str, str] | None) -> None:
        super().__init__(config)
        self._credentials = credentials

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        """Not as amqtt 0.12, which ends or changes the session of that client's name before it asks for a password."""
        if self._credentials is None:
            found: tuple[BrokerProtocolHandler, Session] = await super()._initialize_client_session(
                reader, writer, remote_address, remote_port
            )
            return found
        try:
            handler, session = await BrokerProtocolHandler.init_from_connect(reader, writer, self.plugins_manager)
        except MQTTError:
            await writer.close()
            raise
        if not await self._authenticate(session, None):
            handler.attach(session, reader, writer)
            await handler.mqtt_connack_authorize(False)
            await writer.close()
            raise AMQTTError("wrong user or password")
        return handler, await self._session_of(session)

    async def _session_of(self, asked: Session) -> Session:
        """The session that a client who was let in goes on with: the one that it left, or a new one."""
        kept: Session | None = self._sessions.get(asked.client_id, (None, None))[0]
        if asked.clean_session or kept is None or kept.clean_session:
            if not asked.client_id:
                asked.client_id = gen_client_id()
            elif kept is not None:
                await self._delete_session(asked.client_id)
            asked.parent = 0
            return asked
        for what in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain", "keep_alive"):
            setattr(kept, what, getattr(asked, what))
        kept.username, kept.password, kept.parent = asked.username, asked.password, 1
        return kept

    async def _authenticate(self, session: Session, _: ListenerConfig | None) -> bool:
        if self._credentials is None:
            return True
        given = (session.username or "", session.password or "")
        # In a time that does not tell how much was right, the name included.
        return compare_digest("\0".join(given).encode(), "\0".join(self._credentials).encode())

    async def _stop_handler(self, handler: BrokerProtocolHandler) -> None:
        """Not as amqtt 0.12, which waits for ever for a reader that it cancelled before its first step."""
        await asyncio.sleep(0)
        await super()._stop_handler(handler)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Not as amqtt 0.12, which greets whoever connects with the retained messages of everybody's subscriptions."""
        subscribers = self.subscriptions.get(subscription[0], [])
        if any(other.client_id == session.client_id for other, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class EmbeddedBroker:
    """``async with`` starts it and, at the end, stops it."""

    def __init__(self, port: int, *, host: str = LOOPBACK, credentials: tuple[str, str] | None = None) -> None:
        """``host`` is the address to listen on; who connects needs the ``credentials``, user and password."""
        self.port = port
        self._host = host
        self._credentials = credentials
        self._broker: Broker | None = None

    @classmethod
    def of(cls, settings: Mqtt) -> EmbeddedBroker:
        """As the config wants it."""
        address = Address.of(settings.broker)
        password = settings.password.get_secret_value() if settings.password else None
        credentials = (settings.user, password) if settings.user and password else None
        return cls(address.port, host=address.listen, credentials=credentials)

    async def __aenter__(self) -> EmbeddedBroker:
        check_free(self.port, self._host)
        for name in ("amqtt", "transitions"):  # they tell of every packet; only what goes wrong concerns a user
            logging.getLogger(name).setLevel(logging.ERROR)
        listener = ListenerConfig(bind=f"{bracketed(self._host)}:{self.port}")
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        config = BrokerConfig(listeners={"default": listener}, plugins=plugins)
        self._broker = _Guarded(config, self._credentials)
        try:
            await self._broker.start()
        except AmqttBrokerError as error:
            where = f"{bracketed(self._host)}:{self.port}"
            raise BrokerError(f"the embedded broker cannot start on {where}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._broker is not None:
            await self._broker.shutdown()


def bracketed(host: str) -> str:
    """The host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def check_free(port: int, host: str = LOOPBACK) -> None:
    """Raise `BrokerError` when something listens on the port: amqtt's own message would not say so."""
    where = f"{bracketed(host)}:{port}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise BrokerError(f"the embedded broker cannot listen on {where}: {error.strerror or error}") from error
            raise BrokerError(
                f"the embedded broker was to listen on {where}, but something else does already: probably another"
                f" broker such as mosquitto, or another Attune. Use that one with [mqtt] broker = "
                f'"mqtt://{where}", take another port with "embedded:{port + 1}", or stop it'
            ) from None
