"""One connection to the broker."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.clock import SECOND
from agent.config import Mqtt
from agent.mqtt.address import Address
from agent.mqtt.message import Message, properties_of

V5, V311 = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311

ANSWER_S = 5.0
"""How long the broker may take to answer; with a short keepalive half of that."""
UNACKNOWLEDGED = 20
"""Messages of QoS 1 that are on the way at most, which is what paho sends without holding any back."""
TAKEN_OVER = 142
"""Session taken over (MQTT 5, table 2-6)."""
INCOMING = 1024
"""Messages that wait to be looked at, at most; more are left out and counted."""


Answer = asyncio.Future[str | None]
"""The broker's to a message: why it refuses it, or None."""


class RefusedError(Exception):
    """The broker took a message and says that it will not pass it on. Only MQTT 5 tells."""


class Connection(aiomqtt.Client):
    """A client that says which messages were refused, and sends more of them than were acknowledged, in order.

    Never more than `UNACKNOWLEDGED`, nor than the broker takes (MQTT 5, receive maximum).
    """

    def __init__(self, *args: Any, protocol: aiomqtt.ProtocolVersion, **kwargs: Any) -> None:
        super().__init__(*args, protocol=protocol, **kwargs)
        self._v5 = protocol is V5
        self._thread = threading.get_ident()  # of the loop
        self.most = UNACKNOWLEDGED
        """Messages of QoS 1 that may be on the way."""
        self._room = asyncio.Semaphore(self.most)
        self._on_the_way: dict[int, tuple[Answer, int]] = {}  # with its QoS, by packet identifier
        self._given_up = False
        self.taken_over = False
        """Whether the broker ended it because another client has come by the same name. Only MQTT 5 tells."""

    async def __aenter__(self) -> Self:
        """As aiomqtt, which lets go on what is given up, to be connected for ever when the broker answers at last."""
        try:
            return await super().__aenter__()
        except BaseException:
            self._given_up = True
            raise

    async def deliver(self, message: Message, now_ns: int) -> None:
        """Publish; of QoS 1 until the broker has it. Raises `RefusedError`, and `aiomqtt.MqttError` when that fails."""
        await self.acknowledged(await self.send(message, now_ns))

    async def send(self, message: Message, now_ns: int) -> Answer:
        """Publish, after what was sent before; the result is for `acknowledged`. Raises `aiomqtt.MqttError`."""
        properties = properties_of(message, now_ns) if self._v5 else None
        answer: Answer = asyncio.get_running_loop().create_future()
        if message.qos:
            await self._room.acquire()
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "Could not publish message")
        if sent.is_published():  # of QoS 0, and written
            answer.set_result(None)
        else:
            self._on_the_way[sent.mid] = answer, message.qos
        return answer

    async def acknowledged(self, answer: Answer) -> None:
        """Return once the broker has it, of QoS 0 once it is written.

        Raises `RefusedError`, and `aiomqtt.MqttError` when the broker does not answer, or nothing can be written.
        """
        try:
            async with asyncio.timeout(self.timeout):
                refused = await answer
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None
        if refused:
            raise RefusedError(refused)

    def _on_connect(
        self,
        client: Paho,
        userdata: object,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """As aiomqtt, which does not look at what the broker can take, nor whether anybody still wants it."""
        if self._given_up:
            client.disconnect()
            return
        self.most = min(UNACKNOWLEDGED, getattr(properties, "ReceiveMaximum", UNACKNOWLEDGED))
        self._room = asyncio.Semaphore(self.most)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: Paho, userdata: object, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        """As aiomqtt, which does not look at the reason."""
        if mid not in self._on_the_way:
            super()._on_publish(client, userdata, mid, reason_code, properties)
            return
        answer, qos = self._on_the_way.pop(mid)
        if qos:
            self._room.release()
        if not answer.done():  # else nobody waits any more
            answer.set_result(str(reason_code) if reason_code.is_failure else None)

    def _on_disconnect(
        self,
        client: Paho,
        userdata: object,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """As aiomqtt, which does not let others look at the reason where a task has failed for it before."""
        self.taken_over |= reason_code.value == TAKEN_OVER
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_register_write(self, client: Paho, userdata: object, sock: socket.socket) -> None:
        """Not as aiomqtt 2.5, which registers the socket's number later, when that may be closed or another's."""

        def write() -> None:
            try:
                client.loop_write()
            except (OSError, ValueError) as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock, write)

        if threading.get_ident() == self._thread:
            register()
        else:  # the thread in which aiomqtt connects
            self._loop.call_soon_threadsafe(register)


class Incoming(asyncio.Queue[aiomqtt.Message]):
    """What came and was not looked at yet."""

    def __init__(self, on_drop: Callable[[], None]) -> None:
        super().__init__(maxsize=INCOMING)
        self._on_drop = on_drop

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Keep it, or leave it out when too many wait."""
        if self.full():
            self._on_drop()
        else:
            super().put_nowait(item)


def connection(
    settings: Mqtt,
    *,
    protocol: aiomqtt.ProtocolVersion,
    identifier: str | None = None,
    will: aiomqtt.Will | None = None,
    lasting: bool = False,
    on_drop: Callable[[], None] = lambda: None,
) -> Connection:
    """A client of the broker of the config, with its user, password and TLS; ``async with`` connects it.

    With ``lasting`` the broker keeps subscriptions and what comes on them for ``session_expires`` after the connection
    has ended. ``on_drop`` is told of each message that came while too many waited. Raises `aiomqtt.MqttError` where the
    files of ``[mqtt]`` that TLS needs are not what they were.
    """
    address = Address.of(settings.broker)
    keepalive_s = settings.keepalive // SECOND
    session: dict[str, Any] = {}
    if lasting and protocol is V5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expires // SECOND
        session = {"clean_start": False, "properties": properties}
    elif lasting:
        session = {"clean_session": False}
    return Connection(
        address.host,
        address.port,
        username=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        identifier=identifier,
        protocol=protocol,
        will=will,
        keepalive=keepalive_s,
        timeout=min(ANSWER_S, keepalive_s / 2),
        tls_context=_tls(settings) if address.tls else None,
        queue_type=lambda maxsize: Incoming(on_drop),
        # Else a small message waits until the one before it is acknowledged: 40 ms, as acknowledgements are delayed.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        **session,
    )


def _tls(settings: Mqtt) -> ssl.SSLContext:
    """The broker's certificate and name are always verified. The files are read anew: certificates are renewed."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:
        files = [str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file) if path]
        raise aiomqtt.MqttError(f"one of {', '.join(files)} cannot be read any more: {error}") from error
    return context
