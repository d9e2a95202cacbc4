"""Two agents of one name at one broker: one of them stays away, says so, and comes back when the other has gone."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt
import pytest

from agent.clock import VirtualClock
from agent.config import Mqtt
from agent.mqtt import V5, V311
from agent.mqtt.connection import TAKEN_OVER
from agent.mqtt.rival import ASIDE_NS, Instance, Rivals, instance_in
from tests.faults.proxy import Proxy
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, Talker, collect, running, talker
from tests.test_mqtt_events import Consumer

PATIENCE_S = 60.0
SAID = "another agent of this name is connected"


def speaker(port: int, outbox: Path, protocol: aiomqtt.ProtocolVersion) -> Talker:
    """An agent on a host of its own, as far as its files go."""
    p = talker(f"mqtt://127.0.0.1:{port}", outbox=outbox)
    p._line._protocol = protocol
    p.status({"paused": False})
    return p


async def so(fact: Callable[[], bool]) -> None:
    """Return once that is so: logs and counters tell nobody that they change."""
    while not fact():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("protocol", [V5, V311], ids=["5", "3.1.1"])
async def test_two_of_one_name_do_not_fight(
    protocol: aiomqtt.ProtocolVersion, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Rivals.other

    async def counted(self: Rivals, protocol: aiomqtt.ProtocolVersion) -> Instance | None:
        nonlocal looks
        found = await look(self, protocol)
        looks += 1
        return found

    monkeypatch.setattr(Rivals, "other", counted)
    port = free_port()
    caplog.set_level("INFO")
    p, q = (speaker(port, tmp_path / name, protocol) for name in "pq")
    consumer = Consumer(port)
    async with (
        asyncio.timeout(PATIENCE_S),
        mosquitto(port, tmp_path),
        consumer(),
        AsyncExitStack() as of_p,
        AsyncExitStack() as of_q,
    ):
        await of_p.enter_async_context(running(p))
        await collect(port, 1, "status", protocol=V5)
        await of_q.enter_async_context(running(q))
        await so(lambda: SAID in caplog.text)
        await so(lambda: p._line.connected != q._line.connected)
        there, away, of_there = (p, q, of_p) if p._line.connected else (q, p, of_q)
        connections, before = there.counted.counts["mqtt.connections"], looks
        away.event({"from": "away", "n": 1})
        there.event({"from": "there", "n": 2})
        await consumer.until(n=2)
        await so(lambda: looks >= before + 2)
        assert there.counted.counts["mqtt.connections"] == connections
        assert not away._line.connected
        assert [event["n"] for event in consumer.got] == [2]
        await of_there.aclose()
        await consumer.until(n=1)
        await so(lambda: away.counted.counts["outbox.sent"] == 1)
    assert caplog.text.count(SAID) == 1
    assert f"process {os.getpid()} on {socket.gethostname()!r}, started '2026-" in caplog.text
    assert caplog.text.count("the other agent of this name has gone") == 1


class Farewell(Proxy):
    """A road that says why it ends: not every Mosquitto sends DISCONNECT with "session taken over", as MQTT 5 wants."""

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, made: Callable[[bytes], bytes]
    ) -> None:
        await super()._carry(reader, writer, made)
        writer.write(bytes([0xE0, 2, TAKEN_OVER, 0]))
        await writer.drain()


async def test_another_client_of_our_name_of_which_nothing_is_known_is_left_alone_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    async with asyncio.timeout(PATIENCE_S), mosquitto(port, tmp_path), Farewell(port) as road:
        p = speaker(road.port, tmp_path, V5)
        async with running(p):
            await collect(port, 1, "status", protocol=V5)
            async with aiomqtt.Client("127.0.0.1", port, identifier="attune-kiosk-1", protocol=V5) as other:
                await so(lambda: "another client is called attune-kiosk-1, too" in caplog.text)
                await other.publish("still/here", qos=1)
    assert SAID not in caplog.text
    assert p.counted.counts["mqtt.connections"] == 1


async def test_a_status_of_another_than_is_online_tells_of_no_rival_where_that_can_be_told(tmp_path: Path) -> None:
    port = free_port()
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{port}")
    p = speaker(port, tmp_path, V5)

    def seen_by(own: str) -> Rivals:
        return Rivals(settings, identifier="attune-kiosk-1", root=NODE, own=own, clock=VirtualClock())

    async with asyncio.timeout(PATIENCE_S), mosquitto(port, tmp_path), running(p):
        (told,) = await collect(port, 1, "status", protocol=V5)
        assert isinstance(told.payload, bytes)
        shown = instance_in(told.payload)
        assert shown
        assert await seen_by("another").other(V5) == await seen_by("another").other(V311) == shown
        async with aiomqtt.Client("127.0.0.1", port) as somebody:
            stale = Instance(started="long ago")
            status = json.dumps({"instance": stale.payload()})
            await somebody.publish(f"{NODE}/status", status, qos=1, retain=True)
        assert await seen_by(p._instance.id).other(V5) is None
        assert await seen_by(p._instance.id).other(V311) == stale


async def test_one_that_is_gone_and_still_said_to_be_there_is_not_waited_for_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, clock = free_port(), VirtualClock()
    status = json.dumps({"instance": Instance(started="long ago").payload()})
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{port}")
    rivals = Rivals(settings, identifier="attune-kiosk-1", root=NODE, own="another", clock=clock)
    async with asyncio.timeout(PATIENCE_S), mosquitto(port, tmp_path):
        async with aiomqtt.Client("127.0.0.1", port) as gone:
            await gone.publish(f"{NODE}/availability", "online", qos=1, retain=True)
            await gone.publish(f"{NODE}/status", status, qos=1, retain=True)
        aside = asyncio.create_task(rivals.stand_aside(V5))
        while not aside.done():
            if (next_ns := clock.next_ns()) is not None:
                clock.advance_to(next_ns)
            await asyncio.sleep(0.001)
        assert aside.result()
    assert ASIDE_NS <= clock.now_ns() < 2 * ASIDE_NS
    assert "trying all the same" in caplog.text


async def test_a_look_that_was_given_up_leaves_no_connection_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.rival.LOOK_S", 0.2)
    port = free_port()
    async with asyncio.timeout(PATIENCE_S), mosquitto(port, tmp_path), Proxy(port) as road:
        settings = Mqtt(broker=f"mqtt://127.0.0.1:{road.port}")
        rivals = Rivals(settings, identifier="attune-kiosk-1", root=NODE, own="another", clock=VirtualClock())
        road.hold()
        assert await rivals.other(V5) is None
        assert road._links
        road.release()
        await so(lambda: not road._links)


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"{}",
        b"[]",
        b'{"instance": 1}',
        b'{"instance": {"id": "1"}}',
        b'{"instance": {"id": "1", "host": "h", "pid": 1e999, "started": "now"}}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_status_that_tells_nothing_is_none(status: bytes) -> None:
    assert instance_in(status) is None


def test_what_another_says_of_itself_is_one_short_line() -> None:
    told = {"id": "1", "host": "h" * 1000, "pid": 7, "started": "now\nERROR all is lost"}
    found = instance_in(json.dumps({"instance": told}).encode())
    assert found
    assert str(found) == f"process 7 on '{'h' * 80}', started 'now\\nERROR all is lost'"
