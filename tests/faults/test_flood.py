"""A thousand texts a second over a real broker: the agent lives, what it publishes stays new, the rest is counted."""

import asyncio
import itertools
from pathlib import Path

import aiomqtt

from agent.clock import RealClock, WallClock
from agent.config import Mqtt
from agent.delivery.policy import NeverDrop
from agent.live import LiveAgent
from agent.mqtt import Publisher
from agent.types import Decision, Modality
from agent.window import Bounds
from sensors.text import TextInbox
from tests.faults.living import PATIENCE_S
from tests.mosquitto import free_port, mosquitto
from tests.scripted import HOP_NS, ScriptedEncoder, happy, pipeline

FLOOD_HZ, FLOOD = 1000, 4000
WAITING = 64
"""Texts that may wait."""


async def flood(port: int) -> None:
    """Publish `FLOOD` texts, `FLOOD_HZ` a second, in bursts of ten, of which every other one is nonsense."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for n in itertools.count():
            if n == FLOOD:
                return
            if n % 10 == 0:
                await asyncio.sleep(max(0, begin + n / FLOOD_HZ - loop.time()))
            payload = f"message {n}" if n % 2 else '{"text": 5}'
            await client.publish("attune/kiosk-1/text/in", payload, qos=0)


async def test_a_thousand_texts_a_second(tmp_path: Path) -> None:
    port, clock, wall = free_port(), RealClock(), WallClock()
    wall.read()
    inbox = TextInbox("text", clock=clock, mono_ns=wall.mono_ns, delivery=NeverDrop(WAITING))
    made = pipeline(clock, ScriptedEncoder(Modality.TEXT, happy), sources=inbox.sources)
    publisher = Publisher(
        Mqtt.model_validate({"broker": f"mqtt://127.0.0.1:{port}"}),
        node="kiosk-1", wall=wall, clock=clock, metrics=made.metrics, on_text=inbox.put,
    )  # fmt: skip
    decisions: list[Decision] = []
    agent = LiveAgent(made, sensors=[inbox], clock=clock, sinks=[publisher.decision, decisions.append])
    async with mosquitto(port, tmp_path), asyncio.timeout(PATIENCE_S):
        tasks = [asyncio.create_task(agent.run()), asyncio.create_task(publisher.run())]
        try:
            while not made.metrics.counts["mqtt.connections"]:  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.01)
            await flood(port)
            during = list(decisions)
            known = len(decisions)
            while len(decisions) < known + 5:  # noqa: ASYNC110 - it goes on afterwards
                await asyncio.sleep(HOP_NS / 1e9)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            made.close()
    assert not any(task.exception() for task in tasks if not task.cancelled())
    held, _ = made.window.held()[Modality.TEXT]
    left_out = sum(inbox.drops.values()) + made.metrics.counts["mqtt.incoming_dropped"]
    assert inbox.drops["field"] > FLOOD / 4, "nonsense is counted"
    assert left_out >= FLOOD / 2
    assert held <= Bounds().count
    ages = [decision.latency.total for decision in during]
    half = len(ages) // 2
    assert half >= 3
    assert min(ages[half:]) <= max(ages[:half]) + HOP_NS, "what is published grows older"
    assert any(Modality.TEXT in decision.modalities for decision in during)
