"""Brokers that go away, fall silent or keep us out, and what MQTT 5 says of what is published."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.check import check_broker
from agent.clock import SECOND
from agent.config import Mqtt
from agent.mqtt import V5, V311, connection
from agent.mqtt.address import in_the_clear
from agent.mqtt.broker import EmbeddedBroker
from agent.mqtt.connection import INCOMING, Incoming
from agent.mqtt.message import Message, properties_of
from agent.types import Modality
from tests.authority import Authority
from tests.faults.proxy import Proxy
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, collect, decision, running, talker


class Wire:
    """A TCP proxy that can fall silent: connections stay, and nothing gets through."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.connections = 0
        self.connected = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._to = to
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def fall_silent(self) -> None:
        self._open.clear()
        self.connected.clear()

    def speak(self) -> None:
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connected.set()
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()


async def test_a_broker_that_falls_silent_is_noticed_also_when_there_is_nothing_to_say(tmp_path: Path) -> None:
    port = free_port()
    wire = Wire(port)
    async with mosquitto(port, tmp_path), wire():
        p = talker(f"mqtt://127.0.0.1:{wire.port}", keepalive="1 s")
        async with running(p), asyncio.timeout(20):
            await collect(port, 1, "availability", protocol=V5)
            wire.fall_silent()
            await wire.connected.wait()  # it tries again
            wire.speak()
            p.modality(Modality.TEXT, {"state": "active", "reason": None})
            await collect(port, 1, "modality/text", protocol=V5)
    assert p.counted.counts["mqtt.connections_lost"] == 1


async def test_everything_is_there_again_after_the_broker_forgot_it(tmp_path: Path) -> None:
    port = free_port()
    topics = ("availability", "state", "status", "modality/+")
    p = talker(f"mqtt://127.0.0.1:{port}")
    async with running(p):
        p.decision(decision(1))
        p.status({"paused": False})
        p.modality(Modality.AUDIO, {"state": "active", "reason": None})
        for _ in range(2):
            async with mosquitto(port, tmp_path):
                await collect(port, 4, *topics, protocol=V5)
                kept = await collect(port, 4, *topics, protocol=V5)
                assert all(message.retain for message in kept)
    assert {str(m.topic).removeprefix(f"{NODE}/") for m in kept} == {
        "availability",
        "state",
        "status",
        "modality/audio",
    }


def password_file(folder: Path) -> Path:
    path = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", path, "attune", "open sesame"], check=True, capture_output=True)
    return path


async def test_a_wrong_password_is_said_without_showing_it_and_without_leaving_mqtt_5(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    caplog.set_level("INFO")
    monkeypatch.setenv("ATTUNE_TEST_PASSWORD", "swordfish")
    settings: dict[str, Any] = {"user": "attune", "password": "${ATTUNE_TEST_PASSWORD}"}
    p = talker(f"mqtt://127.0.0.1:{port}", **settings)
    guarded = (f"password_file {password_file(tmp_path)}", "allow_anonymous false")
    async with running(p):
        async with mosquitto(port, tmp_path, *guarded), asyncio.timeout(20):
            finding = await check_broker(Mqtt.model_validate({"broker": f"mqtt://127.0.0.1:{port}", **settings}))
            while p.counted.counts["mqtt.connections_failed"] < 3:
                await check_broker(Mqtt(broker=f"mqtt://127.0.0.1:{port}"))
        async with mosquitto(port, tmp_path):  # one that lets it in
            await collect(port, 1, "availability", protocol=V5)
    assert not finding.ok
    assert "user and password" in finding.said
    assert "Not authorized; it has to know [mqtt] user and password" in caplog.text
    assert "connected, MQTT 5" in caplog.text
    assert "swordfish" not in caplog.text + finding.said + repr(p._settings)


async def test_an_embedded_broker_on_a_network_wants_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("ATTUNE_TEST_PASSWORD", "swordfish")
    credentials = {"user": "attune", "password": "${ATTUNE_TEST_PASSWORD}"}
    settings: dict[str, Any] = {"broker": f"embedded://0.0.0.0:{port}", **credentials}
    async with EmbeddedBroker.of(Mqtt.model_validate(settings)):
        p = talker(**settings)
        async with running(p), asyncio.timeout(20):
            p.decision(decision(0))
            await p._outgoing.drained.wait()
            async with aiomqtt.Client("127.0.0.1", port, username="attune", password="swordfish") as client:
                await client.subscribe(f"{NODE}/state")
                assert json.loads((await anext(client.messages)).payload)["id"] == "s-0"
            for user, password in (("attune", "guess"), ("other", "swordfish"), (None, None)):
                with pytest.raises(aiomqtt.MqttError, match=r"[Nn]ot authori[sz]ed|[Bb]ad user"):
                    async with aiomqtt.Client("127.0.0.1", port, username=user, password=password):
                        pass


async def test_who_lacks_the_password_does_not_touch_the_session_of_who_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither by its name nor with a will of his own that would be published when it goes."""
    port = free_port()
    monkeypatch.setenv("ATTUNE_TEST_PASSWORD", "swordfish")
    settings = {"broker": f"embedded://127.0.0.1:{port}", "user": "attune", "password": "${ATTUNE_TEST_PASSWORD}"}

    def client(password: str, name: str, will: aiomqtt.Will | None = None, *, clean: bool = True) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1", port, username="attune", password=password, identifier=name, will=will, clean_session=clean
        )

    async with (
        EmbeddedBroker.of(Mqtt.model_validate(settings)),
        asyncio.timeout(20),
        client("swordfish", "reader") as reader,
    ):
        await reader.subscribe("said", qos=1)
        for clean in (True, False):
            async with client("swordfish", "keeper", clean=clean) as keeper:
                await keeper.subscribe("kept", qos=1)
                for name in ("reader", "keeper"):
                    with pytest.raises(aiomqtt.MqttError):
                        async with client("guess", name, aiomqtt.Will("said", "by a stranger", 1), clean=clean):
                            pass
                await reader.publish("kept", f"still there {clean}", qos=1)
                assert (await anext(keeper.messages)).payload == f"still there {clean}".encode()
                if not clean:
                    keeper._client._sock_close()  # without a goodbye: now its will would be said
            await reader.publish("said", "the first that comes", qos=1)
            assert (await anext(reader.messages)).payload == b"the first that comes"


async def test_with_mqtt_5_each_decision_says_what_it_is_and_when_it_was_seen(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path), running(p := talker(f"mqtt://127.0.0.1:{port}")):
        p.decision(decision(3))
        (state,) = await collect(port, 1, "state", protocol=V5)
    properties: Any = state.properties
    assert dict(properties.UserProperty) == {"trace": "s-3", "capture": "2026-11-21T10:00:01.000Z"}
    assert properties.ContentType == "application/json"
    assert properties.PayloadFormatIndicator == 1
    assert json.loads(state.payload)["id"] == "s-3"


@pytest.mark.parametrize(("waited_s", "left_s"), [(0, 10), (4, 6), (60, 1)])
def test_a_state_that_waited_expires_no_later_for_it(waited_s: int, left_s: int) -> None:
    message = Message("t", b"{}", put_ns=5 * SECOND, expiry_ns=10 * SECOND)
    properties: Any = properties_of(message, (5 + waited_s) * SECOND)
    assert properties.MessageExpiryInterval == left_s


async def test_a_certificate_that_is_being_renewed_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("broker", address="IP:127.0.0.1")
    port = free_port()
    p = talker(f"mqtts://127.0.0.1:{port}", ca_file=authority.certificate)
    away = authority.certificate.rename(tmp_path / "away.pem")
    async with running(p), asyncio.timeout(20):
        finding = await check_broker(p._settings)
        while not p.counted.counts["mqtt.connections_failed"]:
            await check_broker(p._settings)
        away.rename(authority.certificate)
        keys = (f"certfile {certificate}", f"keyfile {key}")
        async with mosquitto(port, tmp_path, *keys, "allow_anonymous true"):
            await p._outgoing.drained.wait()
    assert not finding.ok
    assert f"{authority.certificate} cannot be read any more" in finding.said
    assert f"{authority.certificate} cannot be read any more" in caplog.text
    assert p.counted.counts["mqtt.connections"] == 1


async def test_a_socket_that_closes_before_it_was_written_to_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with mosquitto(port, tmp_path):
        client = await connection(Mqtt(broker=f"mqtt://127.0.0.1:{port}"), protocol=V5).__aenter__()
        client._client.publish("a", "b")  # waits for the socket to be writable
        wire = client._client.socket()
        assert isinstance(wire, socket.socket)
        wire.shutdown(socket.SHUT_RDWR)
        client._client.loop_read()  # finds that out, and closes it
        with pytest.raises(aiomqtt.MqttError):
            await client.publish("a", "b", 1)
    assert faults == []


async def test_the_broker_s_word_is_passed_on_once_a_state(tmp_path: Path) -> None:
    port = free_port()
    heard: list[tuple[int, int]] = []
    p = talker(f"mqtt://127.0.0.1:{port}")
    p._line._sender._on_acknowledged = lambda end_ns, now_ns: heard.append((end_ns, now_ns))
    async with running(p), asyncio.timeout(20):
        for _ in range(2):  # the second time it is the same state
            async with mosquitto(port, tmp_path):
                p.decision(decision(0))
                await collect(port, 1, "state", protocol=V5)
                await p._outgoing.drained.wait()
    ((end_ns, now_ns),) = heard
    assert end_ns == SECOND
    assert now_ns > end_ns


async def test_the_metrics_say_what_waits_for_the_broker(tmp_path: Path) -> None:
    port = free_port()
    p = talker(f"mqtt://127.0.0.1:{port}")

    def standing() -> object:
        return p.counted.snapshot({})["mqtt"]

    async with running(p), asyncio.timeout(20):
        p.event({"type": "new"})
        p.decision(decision(0))
        assert standing() == {"connected": False, "outbox": 1, "queue": 1}
        async with mosquitto(port, tmp_path):
            await collect(port, 1, "state", protocol=V5)
            await p._outgoing.drained.wait()
            await p._outbox.drained.wait()
            assert standing() == {"connected": True, "outbox": 0, "queue": 0}


@pytest.mark.parametrize(
    ("broker", "password", "said"),
    [
        ("mqtt://broker.local", "${SECRET}", "the password and what is published cross the network unencrypted"),
        ("mqtt://broker.local", None, "what is published crosses the network unencrypted"),
        ("embedded://0.0.0.0", "${SECRET}", "the password and what is published cross the network unencrypted"),
        ("mqtts://broker.local", "${SECRET}", ""),
        ("mqtt://127.0.0.1", "${SECRET}", ""),
        ("embedded", None, ""),
    ],
)
def test_what_others_could_read_is_said(
    broker: str, password: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "swordfish")
    settings = Mqtt.model_validate({"broker": broker, "user": "u", "password": password})
    assert in_the_clear(settings).partition(";")[0] == said


async def test_what_comes_faster_than_it_is_looked_at_is_bounded_and_counted() -> None:
    dropped = 0

    def drop() -> None:
        nonlocal dropped
        dropped += 1

    incoming = Incoming(drop)
    for _ in range(INCOMING + 5):
        incoming.put_nowait(aiomqtt.Message("t", b"", 0, False, 0, None))
    assert (incoming.qsize(), dropped) == (INCOMING, 5)


async def test_a_session_does_not_outlive_its_expiry_and_is_asked_for_with_both_protocols() -> None:
    settings = Mqtt.model_validate({"broker": "mqtt://127.0.0.1", "session_expires": "2 min"})
    five = connection(settings, protocol=V5, identifier="a", lasting=True)
    properties: Any = five._properties
    assert properties.SessionExpiryInterval == 120
    assert five._clean_start is False
    assert connection(settings, protocol=V311, identifier="a", lasting=True)._client._clean_session is False


async def test_what_the_network_does_not_take_is_not_heaped_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("agent.mqtt.connection"), "ANSWER_S", 0.5)
    port, mib, taken = free_port(), Message(f"{NODE}/decision", bytes(1 << 20)), 0
    async with asyncio.timeout(30), mosquitto(port, tmp_path), Proxy(port) as road:
        with suppress(aiomqtt.MqttError):  # a farewell does not get through either
            async with connection(Mqtt(broker=f"mqtt://127.0.0.1:{road.port}"), protocol=V5) as client:
                await client.deliver(mib, 0)
                road.hold()
                for taken in range(64):  # noqa: B007 - more than both ends' buffers hold
                    await client.deliver(mib, 0)
    assert taken < 63
