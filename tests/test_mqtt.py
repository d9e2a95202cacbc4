import asyncio
import json
from pathlib import Path

import aiomqtt
import pytest

from agent.mqtt import Address
from agent.mqtt.broker import BrokerError, EmbeddedBroker
from agent.types import Modality
from tests.mosquitto import free_port, mosquitto
from tests.publishing import collect, decision, running, talker, version_of

RETAINED = ("availability", "state", "modality/+")


async def test_the_contract_of_topics_payloads_and_retention(broker: str) -> None:
    p = talker(broker)
    port = p.address.port
    async with running(p):
        live = asyncio.create_task(collect(port, 1, "decision", protocol=version_of(broker)))
        p.modality(Modality.AUDIO, {"state": "missing", "reason": "late"})
        while not live.done():
            p.decision(decision(0))
            await asyncio.wait([live], timeout=0.05)
        kept = await collect(port, 3, *RETAINED, protocol=version_of(broker))
    by_topic = {str(message.topic): message for message in kept}
    assert by_topic["attune/kiosk-1/availability"].payload == b"online"
    assert json.loads(by_topic["attune/kiosk-1/modality/audio"].payload) == {"state": "missing", "reason": "late"}
    state = json.loads(by_topic["attune/kiosk-1/state"].payload)
    assert state == json.loads(live.result()[0].payload)
    assert state["window"] == {
        "start": "2026-11-21T10:00:00.000Z",
        "end": "2026-11-21T10:00:01.000Z",
        "start_ns": "1795255200000000000",
        "end_ns": "1795255201000000000",
    }
    assert state["id"] == "s-0"
    assert state["modalities"]["vision"] == {
        "label": "happy", "confidence": 0.9, "weight": 0.8, "quality": 0.9, "age_ms": 20.1, "contribution": 1.0,
        "source": "camera", "engine": "onnxruntime", "encode_ms": 2.1,
    }  # fmt: skip
    assert state["missing"] == {"audio": "late", "text": "silent"}
    assert state["latency_ms"] == {"align": 3.0, "encode": 9.8, "fuse": 0.1, "total": 13.4}


async def test_mqtt_5_state_expires_and_says_what_it_is(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path):
        p = talker(f"mqtt://127.0.0.1:{port}", stale_after="90 s")
        async with running(p):
            p.decision(decision(0, label=None))
            (state,) = await collect(port, 1, "state", protocol=aiomqtt.ProtocolVersion.V5)
    assert state.properties is not None
    said = state.properties.json()  # type: ignore[no-untyped-call]
    assert said["ContentType"] == "application/json"
    assert 80 < said["MessageExpiryInterval"] <= 90
    payload = json.loads(state.payload)
    assert (payload["label"], payload["abstained"]) == (None, True)


async def test_a_stop_leaves_offline_behind(broker: str) -> None:
    p = talker(broker)
    async with running(p):
        await collect(p.address.port, 1, "availability", protocol=version_of(broker))
    (message,) = await collect(p.address.port, 1, "availability", protocol=version_of(broker))
    assert (message.payload, message.retain) == (b"offline", True)


async def test_a_stop_at_any_moment_is_heeded(broker: str) -> None:
    for turns in range(0, 400, 13):
        p = talker(broker)
        task = asyncio.create_task(p.run())
        for turn in range(turns):
            p.decision(decision(turn))
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled(), f"after {turns} turns of the loop: {task}"


async def test_after_the_broker_lost_its_memory_everything_retained_is_there_again(tmp_path: Path) -> None:
    port = free_port()
    p = talker(f"mqtt://127.0.0.1:{port}")
    async with running(p):
        async with mosquitto(port, tmp_path):
            p.decision(decision(7))
            p.modality(Modality.VISION, {"state": "active", "reason": None})
            await collect(port, 3, *RETAINED, protocol=aiomqtt.ProtocolVersion.V5)
        async with mosquitto(port, tmp_path):
            kept = await collect(port, 3, *RETAINED, protocol=aiomqtt.ProtocolVersion.V5)
    assert {str(message.topic).removeprefix("attune/kiosk-1/") for message in kept} == {
        "availability", "state", "modality/vision",
    }  # fmt: skip


async def test_while_the_broker_is_away_decisions_wait_within_the_bound(tmp_path: Path) -> None:
    port = free_port()
    p = talker(f"mqtt://127.0.0.1:{port}", queue=3)
    for seq in range(5):
        p.decision(decision(seq))
    assert p.counted.counts["publish.dropped"] == 2
    async with mosquitto(port, tmp_path, "allow_anonymous true", "sys_interval 1"):
        live = asyncio.create_task(collect(port, 3, "decision", protocol=aiomqtt.ProtocolVersion.V5, distinct=False))
        await collect_subscribed(port)
        async with running(p):
            seqs = [json.loads(message.payload)["seq"] for message in await live]
    assert seqs == [2, 3, 4]


async def collect_subscribed(port: int) -> None:
    """Return once another client is connected and has subscribed, as Mosquitto's own statistics tell."""
    async with asyncio.timeout(20), aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("$SYS/broker/subscriptions/count")
        async for message in client.messages:
            if int(message.payload) >= 2:
                return


async def test_texts_come_in(broker: str) -> None:
    p = talker(broker)
    async with running(p):
        await collect(p.address.port, 1, "availability", protocol=version_of(broker))
        async with aiomqtt.Client("127.0.0.1", p.address.port) as client:
            await client.publish("attune/kiosk-1/text/in", "hello there", qos=1)
        async with asyncio.timeout(10):
            assert await p.texts.get() == b"hello there"


async def test_a_retained_text_is_not_news(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path):
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish("attune/kiosk-1/text/in", "old news", qos=1, retain=True)
        p = talker(f"mqtt://127.0.0.1:{port}")
        async with running(p):
            await collect(port, 1, "availability", protocol=aiomqtt.ProtocolVersion.V5)
            async with aiomqtt.Client("127.0.0.1", port) as client:
                await client.publish("attune/kiosk-1/text/in", "news", qos=1)
            async with asyncio.timeout(10):
                assert await p.texts.get() == b"news"
    assert p.counted.counts["text.retained"] == 1


async def test_a_broker_of_3_1_1_alone_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    caplog.set_level("INFO", "agent.mqtt")
    async with EmbeddedBroker(port):
        p = talker(f"mqtt://127.0.0.1:{port}", keepalive="2 s")
        async with running(p):
            await collect(port, 1, "availability", protocol=aiomqtt.ProtocolVersion.V311)
    assert "connected, MQTT 3.1.1" in caplog.text


async def test_a_taken_port_says_by_whom_it_may_be_and_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path):
        with pytest.raises(BrokerError, match=rf'127\.0\.0\.1:{port}, .* mosquitto, .* "embedded:{port + 1}"'):
            async with EmbeddedBroker(port):
                pass


@pytest.mark.parametrize(
    ("broker", "address"),
    [
        ("embedded", Address("127.0.0.1", 1883, tls=False, embedded=True)),
        ("embedded:1999", Address("127.0.0.1", 1999, tls=False, embedded=True)),
        ("mqtt://broker.local", Address("broker.local", 1883, tls=False, embedded=False)),
        ("mqtts://broker.local", Address("broker.local", 8883, tls=True, embedded=False)),
        ("mqtt://[::1]:1884", Address("::1", 1884, tls=False, embedded=False)),
        ("embedded://0.0.0.0", Address("127.0.0.1", 1883, tls=False, embedded=True, listen="0.0.0.0")),
        ("embedded://[::]:1999", Address("::1", 1999, tls=False, embedded=True, listen="::")),
        ("embedded://10.0.0.7:1999", Address("10.0.0.7", 1999, tls=False, embedded=True, listen="10.0.0.7")),
    ],
)
def test_addresses(broker: str, address: Address) -> None:
    assert Address.of(broker) == address


async def test_who_connects_gets_what_it_subscribed_to_and_not_what_others_did() -> None:
    """The embedded broker; a reader of everything is there already."""
    port = free_port()
    async with (
        EmbeddedBroker(port),
        aiomqtt.Client("127.0.0.1", port) as everything,
        aiomqtt.Client("127.0.0.1", port) as teller,
    ):
        await everything.subscribe("#", qos=1)
        await teller.publish("a/availability", "online", qos=1, retain=True)
        assert str((await anext(everything.messages)).topic) == "a/availability"
        async with aiomqtt.Client("127.0.0.1", port) as late:
            await late.subscribe("a/decision", qos=1)
            await teller.publish("a/decision", "{}", qos=1)
            assert str((await anext(late.messages)).topic) == "a/decision"
            await late.subscribe("a/availability", qos=1)
            assert (await anext(late.messages)).payload == b"online"


CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
"""Of MQTT 3.1.1 (section 3.1), a clean session of the client ``x``."""


async def test_the_embedded_broker_ends_while_somebody_connects() -> None:
    for turns in range(60):
        port = free_port()
        async with asyncio.timeout(10), EmbeddedBroker(port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(CONNECT)
            for _ in range(turns):
                await asyncio.sleep(0)
        writer.close()
