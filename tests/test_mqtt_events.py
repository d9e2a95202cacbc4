"""Events over MQTT: in order, at least once, whatever happens to the broker and to the agent."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.mqtt import V5
from agent.mqtt.sender import WINDOW
from tests.faults.proxy import CHUNK, Proxy
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, collect, running, talker, version_of


class Consumer:
    """Subscribed to the events for as long as the block lasts; remembers all that came."""

    def __init__(self, port: int, protocol: aiomqtt.ProtocolVersion = V5) -> None:
        self.got: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self._port = port
        self._protocol = protocol

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        async with aiomqtt.Client("127.0.0.1", self._port, protocol=self._protocol) as client:
            await client.subscribe(f"{NODE}/event", qos=1)
            reader = asyncio.create_task(self._read(client))
            try:
                yield
            finally:
                reader.cancel()
                await asyncio.wait([reader])

    async def until(self, **what: int) -> None:
        """Return once an event with that in it has come."""
        async with asyncio.timeout(30):
            while not any(event | what == event for event in self.got):
                self._came.clear()
                await self._came.wait()

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self.got.append(json.loads(message.payload))
            self._came.set()


def first_times(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that came again, as a consumer leaves them out."""
    return list({(event["id"], event["seq"]): event for event in reversed(events)}.values())[::-1]


async def test_events_come_numbered_and_with_all_that_was_said(broker: str) -> None:
    p = talker(broker)
    consumer = Consumer(p.address.port, version_of(broker))
    async with consumer(), running(p):
        p.event({"type": "new", "id": "e-1", "label": "happy"})
        p.event({"type": "end", "id": "e-1", "label": "happy"})
        p.event({"type": "new", "label": "sad"})
        await consumer.until(seq=3)
    first, second, third = consumer.got
    assert first == {"seq": 1, "schema": 1, "node": "kiosk-1", "id": "e-1", "type": "new", "label": "happy"}
    assert (second["seq"], second["id"], second["type"]) == (2, "e-1", "end")
    assert len(third["id"]) == 32, "one that has no id gets one"


async def test_what_happened_while_the_broker_was_away_comes_afterwards(tmp_path: Path) -> None:
    port = free_port()
    p = talker(f"mqtt://127.0.0.1:{port}")
    consumer = Consumer(port)
    async with running(p):
        for n in range(100):
            p.event({"n": n})
        async with mosquitto(port, tmp_path), consumer():
            await consumer.until(seq=100)
        for n in range(100, 150):
            p.event({"n": n})
        async with mosquitto(port, tmp_path), consumer():  # one that forgot everything
            await consumer.until(seq=150)
            async with asyncio.timeout(10):
                await p._outbox.drained.wait()
    assert [event["n"] for event in first_times(consumer.got)] == list(range(150))


async def test_what_an_agent_could_not_send_its_next_run_sends(tmp_path: Path) -> None:
    port = free_port()
    for n in range(3):
        p = talker(f"mqtt://127.0.0.1:{port}")
        async with running(p):
            p.event({"n": n})
    p, consumer = talker(f"mqtt://127.0.0.1:{port}"), Consumer(port)
    async with mosquitto(port, tmp_path), consumer(), running(p):
        await consumer.until(seq=3)
    assert [(event["seq"], event["n"]) for event in consumer.got] == [(1, 0), (2, 1), (3, 2)]


async def test_a_broker_that_refuses_events_gets_them_when_it_does_not_any_more(tmp_path: Path) -> None:
    port = free_port()
    access = tmp_path / "access"
    access.write_text(f"topic readwrite {NODE}/availability\ntopic read {NODE}/event\n")
    rules = ("allow_anonymous true", f"acl_file {access}")
    p, consumer = talker(f"mqtt://127.0.0.1:{port}"), Consumer(port)
    async with running(p):
        async with mosquitto(port, tmp_path, *rules), consumer():
            p.event({"n": 0})
            p.event({"n": 1})
            async with asyncio.timeout(10):
                while not p.counted.counts["publish.refused"]:
                    await collect(port, 1, "availability", protocol=V5)
            assert p._outbox.waiting == 2
            assert not consumer.got
        async with mosquitto(port, tmp_path), consumer():
            await consumer.until(seq=2)
    assert [event["n"] for event in consumer.got] == [0, 1]


class Unanswered(Proxy):
    """A road that can hold back what the broker answers, while what it is told gets through."""

    def __init__(self, to: int) -> None:
        super().__init__(to)
        self.answers = asyncio.Event()
        self.answers.set()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, made: Callable[[bytes], bytes]
    ) -> None:
        if made != self._spoilt:
            await super()._carry(reader, writer, made)
            return
        while data := await reader.read(CHUNK):
            await self.answers.wait()
            writer.write(data)


@pytest.mark.parametrize(
    ("rules", "window"), [((), WINDOW), (("max_inflight_messages 3",), 3)], ids=["ours", "the broker's"]
)
async def test_so_many_are_on_the_way_and_no_more(rules: tuple[str, ...], window: int, tmp_path: Path) -> None:
    port = free_port()
    consumer = Consumer(port)
    async with mosquitto(port, tmp_path, "allow_anonymous true", *rules), Unanswered(port) as road, consumer():
        p = talker(f"mqtt://127.0.0.1:{road.port}")
        async with running(p), asyncio.timeout(30):
            p.event({"n": 0})
            await p._outbox.drained.wait()
            road.answers.clear()
            for n in range(1, 3 * WINDOW):
                p.event({"n": n})
            await consumer.until(n=window)
            async with aiomqtt.Client("127.0.0.1", port) as other:
                await other.publish(f"{NODE}/event", '{"n": -1, "id": "other", "seq": 0}', qos=1)
            await consumer.until(n=-1)
            assert [event["n"] for event in consumer.got] == [*range(window + 1), -1]
            road.answers.set()
            await consumer.until(n=3 * WINDOW - 1)
            await p._outbox.drained.wait()
    assert [event["n"] for event in first_times(consumer.got) if event["n"] >= 0] == list(range(3 * WINDOW))


async def test_a_broker_that_answers_nothing_more_is_noticed_however_few_it_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("agent.mqtt.connection"), "ANSWER_S", 0.5)
    port = free_port()
    async with mosquitto(port, tmp_path, "allow_anonymous true", "max_inflight_messages 3"), Unanswered(port) as road:
        p = talker(f"mqtt://127.0.0.1:{road.port}", keepalive="1 h")
        async with running(p), asyncio.timeout(30):
            p.event({"n": 0})
            await p._outbox.drained.wait()
            road.answers.clear()
            for n in range(1, 6):
                p.event({"n": n})
            while not p.counted.counts["mqtt.connections_lost"]:  # noqa: ASYNC110 - counters tell nobody
                await asyncio.sleep(0.01)
            road.answers.set()
            await p._outbox.drained.wait()


async def killed_after(count: int, broker: str, first: int) -> list[int]:
    """Run `tests.eventful`, kill it once it has written down that many events; returns their numbers."""
    argv = ("-m", "tests.eventful", broker, str(first))
    agent = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert agent.stdout is not None
    written = [int(await agent.stdout.readline()) for _ in range(count)]
    agent.kill()
    written += [int(line) for line in (await agent.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")]
    await agent.wait()
    return written


async def test_kill_9_while_it_writes_loses_nothing_and_mixes_up_nothing(tmp_path: Path) -> None:
    port = free_port()
    broker = f"mqtt://127.0.0.1:{port}"
    consumer = Consumer(port)
    written = await killed_after(40, broker, 0)  # the broker is not there
    async with mosquitto(port, tmp_path), consumer():
        written += await killed_after(100, broker, 1_000)  # in the middle of sending
        written += await killed_after(100, broker, 2_000)
        p = talker(broker)
        async with running(p):
            p.event({"n": 9_999})
            await consumer.until(n=9_999)
    heard = first_times(consumer.got)
    assert set(written) <= {event["n"] for event in heard}, "each that was on disk came"
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1)), "without gaps"
    assert [event["n"] for event in heard] == sorted(event["n"] for event in heard), "in order"
    assert heard[-1]["n"] == 9_999
