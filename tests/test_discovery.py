"""What Home Assistant is told of the agent."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.config import LABELS, Mqtt
from agent.mqtt import V5
from agent.mqtt.discovery import STANDINGS, announcement
from tests.homeassistant import faults
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, Talker, running

CONFIG = "homeassistant/device/attune_kiosk-1/config"


def announced(node: str = "kiosk-1", **settings: Any) -> tuple[str, dict[str, Any]]:
    message = announcement(Mqtt.model_validate(settings), node=node, labels=LABELS)
    assert message.retain
    return message.topic, json.loads(message.payload)


@pytest.mark.parametrize("node", ["kiosk-1", "küche", "a.b c", "_"])
def test_home_assistant_takes_it_all(node: str) -> None:
    topic, payload = announced(node)
    assert faults(topic, payload) == []


def test_it_has_a_sensor_for_each_thing_a_switch_and_diagnostics() -> None:
    topic, payload = announced(stale_after="30 s", metrics_every="20 s")
    components = payload["cmps"]
    assert topic == CONFIG
    assert set(components) == {
        "label", "confidence", "valence", "arousal", "vision", "audio", "text", "pause", "recording", "latency",
        "loop_lag", "memory",
    }  # fmt: skip
    assert components["label"]["ops"] == list(LABELS)
    assert components["label"]["exp_aft"] == 30
    assert components["vision"]["ops"] == list(STANDINGS)
    assert components["latency"]["exp_aft"] == 60
    assert components["pause"]["cmd_t"] == f"{NODE}/cmd/pause"
    assert payload["avty_t"] == f"{NODE}/availability"
    assert payload["dev"]["ids"] == ["attune_kiosk-1"]
    assert payload["o"]["name"] == "Attune"
    diagnostic = {key for key, component in components.items() if component.get("ent_cat") == "diagnostic"}
    assert diagnostic == {"vision", "audio", "text", "recording", "latency", "loop_lag", "memory"}


@pytest.mark.parametrize(
    ("key", "change", "fault"),
    [
        ("label", {"ops": []}, "label: options: empty, or one comes twice"),
        ("label", {"dev_cla": None}, "label: options: only with device_class enum"),
        ("confidence", {"ops": ["a"]}, "confidence: options: only with device_class enum"),
        ("pause", {"cmd_t": "a/+"}, "pause: command_topic: 'a/+'"),
        ("memory", {"unit_of_meas": "ms"}, "memory: device_class data_size: in 'ms'"),
        ("text", {"uniq_id": "attune_kiosk-1_audio"}, "text: unique_id is another's too"),
        ("text", {"p": "text_sensor"}, "text: platform 'text_sensor'"),
        ("text", {"colour": "red"}, "text: colour: is not known"),
    ],
)
def test_the_rules_find_what_home_assistant_would_not_take(key: str, change: dict[str, Any], fault: str) -> None:
    topic, payload = announced()
    payload["cmps"][key] |= change
    assert fault in faults(topic, payload)


async def configs(client: aiomqtt.Client) -> bytes:
    async with asyncio.timeout(10):
        async for message in client.messages:
            if str(message.topic) == CONFIG:
                assert isinstance(message.payload, bytes)
                return message.payload
    raise AssertionError("it goes on until there is one")


def told(port: int, **settings: Any) -> Talker:
    return Talker(f"mqtt://127.0.0.1:{port}", settings=settings, on_command=None, labels=LABELS)


async def test_it_is_said_at_each_connection_and_when_home_assistant_starts_and_goes_when_switched_off(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port, protocol=V5) as client:
        await client.subscribe(CONFIG, qos=1)
        async with running(told(port)):
            first = await configs(client)
            await client.publish("homeassistant/status", "offline", qos=1)
            await client.publish("homeassistant/status", "online", qos=1)
            assert await configs(client) == first
        assert faults(CONFIG, json.loads(first)) == []
        async with running(told(port, discovery=False)):
            assert await configs(client) == b""
        async with aiomqtt.Client("127.0.0.1", port) as late:
            await late.subscribe([(CONFIG, 1), (f"{NODE}/availability", 1)])
            assert str((await anext(late.messages)).topic) == f"{NODE}/availability", "nothing is kept of it"
