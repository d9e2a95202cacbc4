"""A publisher to test with, and what a subscriber sees of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiomqtt

from agent.clock import SECOND, RealClock, WallClock
from agent.config import Mqtt
from agent.control.commands import CommandHandler
from agent.health.metrics import Metrics
from agent.mqtt import Publisher
from agent.types import Absence, Contribution, Decision, Latency, Modality

NODE = "attune/kiosk-1"


def decision(seq: int, label: str | None = "happy") -> Decision:
    vision = Contribution("happy", 0.9, 0.8, 0.9, 20_100_000, 1.0, "camera", "onnxruntime", 2_100_000, {})
    return Decision(
        session="s",
        seq=seq,
        start_ns=0,
        end_ns=SECOND,
        label=label,
        confidence=0.83,
        conflict=0.07,
        rule="bayes",
        probabilities={"neutral": 0.17, "happy": 0.83},
        dimensions={"valence": 0.7, "arousal": 0.4},
        modalities={Modality.VISION: vision},
        missing={Modality.AUDIO: Absence.LATE, Modality.TEXT: Absence.SILENT},
        latency=Latency(3_000_000, 9_800_000, 100_000, 13_400_000),
    )


class Talker(Publisher):
    """A publisher, with what it counted and the texts that came."""

    def __init__(
        self,
        broker: str,
        *,
        settings: Mapping[str, object],
        on_command: CommandHandler | None,
        node: str = "kiosk-1",
        **more: Any,
    ) -> None:
        wall = WallClock()
        wall.calibrate(0, 1_795_255_200 * SECOND)
        self.counted = Metrics()
        self.texts: asyncio.Queue[bytes] = asyncio.Queue()
        super().__init__(
            Mqtt.model_validate({"broker": broker, **settings}),
            node=node,
            wall=wall,
            clock=RealClock(),
            metrics=self.counted,
            on_text=lambda payload, arrival_ns: self.texts.put_nowait(payload),
            on_command=on_command,
            **more,
        )


def talker(broker: str, on_command: CommandHandler | None = None, **settings: Any) -> Talker:
    """A publisher with these settings of ``[mqtt]``."""
    return Talker(broker, settings=settings, on_command=on_command)


@contextlib.asynccontextmanager
async def running(p: Publisher) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(p.run())
    await asyncio.sleep(0)  # it has begun: what is put down from here on is kept
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def collect(
    port: int, count: int, *topics: str, protocol: aiomqtt.ProtocolVersion, distinct: bool = True
) -> list[aiomqtt.Message]:
    """The first messages that a subscriber sees; if `distinct`, the newest of each topic, once there are `count`."""
    found: dict[object, aiomqtt.Message] = {}
    async with asyncio.timeout(20), aiomqtt.Client("127.0.0.1", port, protocol=protocol) as client:
        await client.subscribe([(f"attune/kiosk-1/{topic}", 1) for topic in topics])
        async for message in client.messages:
            found[str(message.topic) if distinct else len(found)] = message
            if len(found) == count:
                break
    return list(found.values())


def version_of(broker: str) -> aiomqtt.ProtocolVersion:
    return aiomqtt.ProtocolVersion.V311 if broker.startswith("embedded") else aiomqtt.ProtocolVersion.V5
