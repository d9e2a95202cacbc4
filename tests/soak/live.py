"""Minutes by the real clock: the demo, looping, with the embedded broker, and a reader that comes and goes."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiomqtt

from tests.mosquitto import free_port
from tests.outside import agent
from tests.soak.usage import Usage

LOOK_S = 2.0
STAYS = 20
"""Decisions that a reader takes before it leaves and comes anew."""


@dataclass(slots=True)
class Heard:
    """What came out of the agent while it was looked at."""

    decisions: int = 0
    visits: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Of the decisions, by modality and reason."""
    counts: dict[str, int] = field(default_factory=dict)
    """Of its newest metrics."""


async def soak(minutes: float, heard: Heard) -> AsyncIterator[Usage]:
    """What ``launch.py demo`` holds, every `LOOK_S`; it must live for so long."""
    port = free_port()
    async with agent("demo", "--set", f"mqtt.broker=embedded:{port}") as process, asyncio.TaskGroup() as group:
        assert process.stdout is not None
        drain = group.create_task(_drain(process.stdout))
        reader = group.create_task(_visit(port, heard))
        begin_s = time.monotonic()
        while (at_s := time.monotonic() - begin_s) < 60 * minutes:
            if process.returncode is not None:
                raise RuntimeError(f"the agent ended after {at_s:.0f} s, with {process.returncode}")
            yield Usage.of(process.pid, at_s)
            await asyncio.sleep(LOOK_S)
        reader.cancel()
        drain.cancel()


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.read(1 << 16):
        pass


async def _visit(port: int, heard: Heard) -> None:
    while True:
        try:
            async with aiomqtt.Client("127.0.0.1", port) as client:
                heard.visits += 1
                await client.subscribe([("attune/+/decision", 1), ("attune/+/metrics", 0)])
                await _read(client, heard)
        except aiomqtt.MqttError:  # at first it does not listen yet
            await asyncio.sleep(0.5)


async def _read(client: aiomqtt.Client, heard: Heard) -> None:
    taken = 0
    async for message in client.messages:
        document = json.loads(message.payload)
        if message.topic.value.endswith("/metrics"):
            heard.counts = document["counts"]
            continue
        heard.decisions += 1
        heard.missing.update(f"{modality} {reason}" for modality, reason in document["missing"].items())
        taken += 1
        if taken == STAYS:
            return
