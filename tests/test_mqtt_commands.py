"""Commands over MQTT: which are let in, who carries them out, and where the answer goes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.control.commands import Reply
from agent.mqtt import V5, V311
from agent.mqtt.commands import MAX_BYTES, WAITING
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, Talker, collect, running, talker, version_of


class Desk:
    """Carries out commands: remembers them, and says of each what was asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.busy: asyncio.Event | None = None

    async def __call__(self, name: str, payload: bytes) -> Reply:
        if self.busy:
            await self.busy.wait()
        self.asked.put_nowait((name, payload))
        return Reply(ok=payload != b"no", said=f"{name} it is")


def asking(answer_to: str, correlation: bytes = b"\x00\xff42") -> Any:
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = answer_to
    properties.CorrelationData = correlation
    return properties


class Asker:
    """Somebody who gives commands with MQTT 5 and hears the answers."""

    def __init__(self, client: aiomqtt.Client, answer_to: str) -> None:
        self.client, self.answer_to = client, answer_to

    async def ask(self, name: str, payload: bytes = b"") -> dict[str, Any]:
        await self.client.publish(f"{NODE}/cmd/{name}", payload, qos=1, properties=asking(self.answer_to))
        async with asyncio.timeout(10):
            message = await anext(self.client.messages)
        properties: Any = message.properties
        assert properties.CorrelationData == b"\x00\xff42"
        assert properties.ContentType == "application/json"
        found: dict[str, Any] = json.loads(message.payload)
        return found


async def subscribed(p: Talker) -> None:
    """Return once the publisher is connected: it subscribes before it says that it is online."""
    await collect(p.address.port, 1, "availability", protocol=version_of("embedded" if p.address.embedded else "mqtt"))


async def test_a_command_is_carried_out_and_answered_where_the_asker_wants_it(tmp_path: Path) -> None:
    port, desk = free_port(), Desk()
    async with mosquitto(port, tmp_path), running(p := talker(f"mqtt://127.0.0.1:{port}", desk)):
        await subscribed(p)
        async with aiomqtt.Client("127.0.0.1", port, protocol=V5) as client:
            await client.subscribe("answers/me", qos=1)
            asker = Asker(client, "answers/me")
            done = await asker.ask("record", b'{"for": "10 s"}')
            failed = await asker.ask("reload", b"no")
            unknown = await asker.ask("shutdown")
            large = await asker.ask("record", b"x" * (MAX_BYTES + 1))
    assert [desk.asked.get_nowait() for _ in range(2)] == [("record", b'{"for": "10 s"}'), ("reload", b"no")]
    assert desk.asked.empty()
    assert done == {"command": "record", "ok": True, "said": "record it is"}
    assert failed == {"command": "reload", "ok": False, "said": "reload it is"}
    assert unknown["said"] == "there is no command 'shutdown'; known: pause, resume, reload, record"
    assert large["said"] == f"record: {MAX_BYTES + 1} bytes, at most {MAX_BYTES} are read"
    assert not unknown["ok"]
    assert not large["ok"]
    counts = p.counted.counts
    assert (counts["commands.done"], counts["commands.failed"], counts["commands.refused"]) == (1, 1, 2)


async def test_commands_without_an_answer_work_with_every_broker(broker: str) -> None:
    desk = Desk()
    async with running(p := talker(broker, desk)):
        await subscribed(p)
        async with aiomqtt.Client("127.0.0.1", p.address.port, protocol=version_of(broker)) as client:
            await client.publish(f"{NODE}/cmd/pause", "ON", qos=1)
            await client.publish(f"{NODE}/cmd/pause", "OFF", qos=1)
        async with asyncio.timeout(10):
            assert await desk.asked.get() == ("pause", b"ON")
            assert await desk.asked.get() == ("resume", b"OFF")


async def test_a_retained_command_is_not_carried_out(tmp_path: Path) -> None:
    port, desk = free_port(), Desk()
    async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish(f"{NODE}/cmd/pause", qos=1, payload="ON", retain=True)
        async with running(p := talker(f"mqtt://127.0.0.1:{port}", desk)):
            await subscribed(p)
            await client.publish(f"{NODE}/cmd/resume", qos=1)
            async with asyncio.timeout(10):
                assert await desk.asked.get() == ("resume", b"")
    assert p.counted.counts["commands.retained"] == 1


async def test_too_many_commands_are_refused_and_counted(tmp_path: Path) -> None:
    port, desk = free_port(), Desk()
    desk.busy = asyncio.Event()
    async with (
        mosquitto(port, tmp_path),
        running(p := talker(f"mqtt://127.0.0.1:{port}", desk)),
        aiomqtt.Client("127.0.0.1", port, protocol=V5) as client,
    ):
        await subscribed(p)
        for _ in range(100):
            await client.publish(f"{NODE}/cmd/reload", qos=1)
        await client.publish(f"{NODE}/text/in", "all were looked at", qos=1)
        async with asyncio.timeout(10):
            await p.texts.get()
        assert 100 - p.counted.counts["commands.refused"] <= WAITING + 1
        desk.busy.set()
        async with asyncio.timeout(10):
            await desk.asked.get()


@pytest.mark.parametrize(
    "topic",
    [
        f"{NODE}/state",
        f"{NODE}/modality/vision",
        "attune/other/cmd/pause",
        f"{NODE}/text/in",
        "homeassistant/device/attune_kiosk-1/config",
        "$SYS/broker",
    ],
)
async def test_nobody_can_have_the_agent_say_something_where_others_believe_it(topic: str, tmp_path: Path) -> None:
    port, desk = free_port(), Desk()
    async with (
        mosquitto(port, tmp_path),
        running(p := talker(f"mqtt://127.0.0.1:{port}", desk)),
        aiomqtt.Client("127.0.0.1", port, protocol=V5) as client,
    ):
        await subscribed(p)
        await client.subscribe([(topic, 1), ("answers/me", 1)])
        await client.publish(f"{NODE}/cmd/reload", qos=1, properties=asking(topic))
        assert (await Asker(client, "answers/me").ask("reload"))["ok"]  # the first message that comes


async def test_a_command_that_came_while_the_agent_was_away_is_carried_out_later(tmp_path: Path) -> None:
    port, desk = free_port(), Desk()
    for protocol in (V5, V311):
        async with mosquitto(port, tmp_path):
            for there in (True, False):
                p = talker(f"mqtt://127.0.0.1:{port}", desk)
                p._line._protocol = protocol
                if there:
                    async with running(p):
                        await subscribed(p)
                    async with aiomqtt.Client("127.0.0.1", port) as client:
                        await client.publish(f"{NODE}/cmd/pause", qos=1)
                        await client.publish(f"{NODE}/text/in", "are you there?", qos=1)
                else:
                    async with running(p), asyncio.timeout(10):
                        assert await desk.asked.get() == ("pause", b"")
                        assert await p.texts.get() == b"are you there?"
