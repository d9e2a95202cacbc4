"""The pipeline's own time for a window: align, fuse, hand over to the MQTT client; encoders that answer at once.

Three sources whose last sample of a window ends with it, by the real clock, through the whole agent with the embedded
broker. What is counted is the time from the last of these samples coming in until its window's decision has been handed
over, less the encoding.
"""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from agent.assembly import Agent
from agent.clock import MS, SECOND, RealClock, WallClock
from agent.config import Config
from agent.types import Decision, Evidence, Modality, Reading, Sample, Source
from tests.mosquitto import free_port
from tests.samples import audio, frame, text
from tests.scripted import ScriptedEncoder, ScriptedSensor, Steps

HOP_NS = 100 * MS
WINDOWS = 300
CLOCK = RealClock()
came_ns: dict[int, int] = {}
"""When the last of the samples that end at an instant came in."""


def sensor(name: str, modality: Modality, a_hop: int) -> ScriptedSensor:
    """``a_hop`` samples a hop, the last of them at the multiple of the hop."""

    async def run() -> Steps:
        begin_ns = (CLOCK.now_ns() // HOP_NS + 1) * HOP_NS
        for i in range(1, WINDOWS * a_hop + 1):
            end_ns = begin_ns + i * HOP_NS // a_hop
            await CLOCK.sleep_until(end_ns)
            came_ns[end_ns] = CLOCK.now_ns()
            match modality:
                case Modality.VISION:
                    yield frame(end_ns, name)
                case Modality.AUDIO:
                    yield audio(end_ns - HOP_NS // a_hop, end_ns, name)
                case Modality.TEXT:
                    yield text(end_ns, source=name)

    return ScriptedSensor(name, Source(name, modality), run)


def answer(samples: Sequence[Sample]) -> Reading:
    newest, probs = samples[-1], np.full(7, 0.05)
    probs[1] = 0.7
    return Reading(Evidence(newest.modality, newest.source, probs, np.full(7, 1 / 7), 0.9, newest.end_ns, "none"))


async def measured() -> list[int]:
    wall = WallClock()
    wall.read()
    took_ns: list[int] = []

    def sink(decision: Decision) -> None:  # runs right after the hand-over to the publisher
        if decision.end_ns in came_ns:  # not before the first samples, nor after the last
            took_ns.append(CLOCK.now_ns() - came_ns[decision.end_ns] - decision.latency.encode)

    config = Config.model_validate({"agent": {"hop": "100 ms"}, "mqtt": {"broker": f"embedded:{free_port()}"}})
    agent = Agent(
        config,
        sensors=[
            sensor("camera", Modality.VISION, 3),
            sensor("microphone", Modality.AUDIO, 5),
            sensor("text", Modality.TEXT, 1),
        ],
        encoders={modality: ScriptedEncoder(modality, answer) for modality in Modality},
        transcriber=None,
        clock=CLOCK,
        wall=wall,
        sinks=[sink],
    )
    await agent.run()
    return sorted(took_ns)


def main() -> None:
    logging.disable(logging.WARNING)
    took_ns = asyncio.run(measured())
    p50, p99 = (took_ns[round(q * (len(took_ns) - 1))] / MS for q in (0.5, 0.99))
    print(f"{len(took_ns)} windows of {HOP_NS / SECOND:.1f} s: p50 {p50:.2f} ms, p99 {p99:.2f} ms besides the encoding")
