"""The pipeline's own time for a window, and what the whole agent costs, with encoders that answer at once.

Three sources whose last sample of a window ends with it, by the real clock, through the whole agent with the embedded
broker. The time for a window is counted from the last of these samples coming in until its decision has been handed
over to the MQTT client, less the encoding; the cost is the process's processor time, broker included.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np

from agent.assembly import Agent
from agent.clock import MS, SECOND, RealClock, VirtualClock, WallClock
from agent.config import Config
from agent.deciding.build import build_pipeline
from agent.playback import play
from agent.types import Decision, Evidence, Modality, Reading, Sample, Source
from tests.mosquitto import free_port
from tests.samples import audio, frame, text
from tests.scripted import ScriptedEncoder, ScriptedSensor, Steps

CLOCK = RealClock()
came_ns: dict[int, int] = {}
"""When the last of the samples that end at an instant came in."""


def sensor(name: str, modality: Modality, *, a_hop: int, hop_ns: int, hops: int) -> ScriptedSensor:
    """``a_hop`` samples a hop, the last of them at the multiple of the hop."""

    async def run() -> Steps:
        begin_ns = (CLOCK.now_ns() // hop_ns + 1) * hop_ns
        for i in range(1, hops * a_hop + 1):
            end_ns = begin_ns + i * hop_ns // a_hop
            await CLOCK.sleep_until(end_ns)
            came_ns[end_ns] = CLOCK.now_ns()
            match modality:
                case Modality.VISION:
                    yield frame(end_ns, name)
                case Modality.AUDIO:
                    yield audio(end_ns - hop_ns // a_hop, end_ns, name)
                case Modality.TEXT:
                    yield text(end_ns, source=name)

    return ScriptedSensor(name, Source(name, modality), run)


def answer(samples: Sequence[Sample]) -> Reading:
    newest, probs = samples[-1], np.full(7, 0.05)
    probs[1] = 0.7
    return Reading(Evidence(newest.modality, newest.source, probs, np.full(7, 1 / 7), 0.9, newest.end_ns, "none"))


async def measured(*, hop_ms: int, a_hop: tuple[int, int, int], hops: int) -> tuple[list[int], float]:
    """What each window took in ns, sorted; and the processor time a second of the run, in s."""
    wall = WallClock()
    wall.read()
    came_ns.clear()
    took_ns: list[int] = []

    def sink(decision: Decision) -> None:  # runs right after the hand-over to the publisher
        if decision.end_ns in came_ns:  # not before the first samples, nor after the last
            took_ns.append(CLOCK.now_ns() - came_ns[decision.end_ns] - decision.latency.encode)

    config = Config.model_validate({"agent": {"hop": f"{hop_ms} ms"}, "mqtt": {"broker": f"embedded:{free_port()}"}})
    named = (("camera", Modality.VISION), ("microphone", Modality.AUDIO), ("text", Modality.TEXT))
    agent = Agent(
        config,
        sensors=[
            sensor(name, modality, a_hop=count, hop_ns=hop_ms * MS, hops=hops)
            for (name, modality), count in zip(named, a_hop, strict=True)
        ],
        encoders={modality: ScriptedEncoder(modality, answer) for modality in Modality},
        transcriber=None,
        clock=CLOCK,
        wall=wall,
        sinks=[sink],
    )
    begin_ns, used_s = CLOCK.now_ns(), time.process_time()
    await agent.run()
    share = (time.process_time() - used_s) / ((CLOCK.now_ns() - begin_ns) / SECOND)
    return sorted(took_ns), share


async def replayed(seconds: int) -> float:
    """The processor time a second of 30, 50 and 1 samples/s, in s: window, encoders' threads and fusion, no more."""
    clock = VirtualClock()
    sources = [Source("camera", Modality.VISION), Source("microphone", Modality.AUDIO), Source("text", Modality.TEXT)]
    samples = [
        *(frame(i * SECOND // 30) for i in range(1, 30 * seconds)),
        *(audio((i - 1) * SECOND // 50, i * SECOND // 50) for i in range(1, 50 * seconds)),
        *(text(i * SECOND) for i in range(1, seconds)),
    ]
    pipeline = build_pipeline(
        Config(),
        sources=sources,
        encoders={modality: ScriptedEncoder(modality, answer) for modality in Modality},
        transcriber=None,
        clock=clock,
        session="bench",
    )
    samples.sort(key=lambda sample: sample.arrival_ns)
    used_s = time.process_time()
    async for _ in play(samples, pipeline, clock):
        pass
    used_s = time.process_time() - used_s
    pipeline.close()
    return used_s / seconds


def main() -> None:
    logging.disable(logging.WARNING)
    took_ns, _ = asyncio.run(measured(hop_ms=100, a_hop=(3, 5, 1), hops=300))
    p50, p99 = (took_ns[round(q * (len(took_ns) - 1))] / MS for q in (0.5, 0.99))
    print(f"{len(took_ns)} windows of 0.1 s: p50 {p50:.2f} ms, p99 {p99:.2f} ms besides the encoding")
    share = asyncio.run(replayed(300))
    print(f"30, 50 and 1 samples/s, two decisions a second: window and pipeline take {100 * share:.2f} % of one core")
    _, share = asyncio.run(measured(hop_ms=1_000, a_hop=(30, 50, 1), hops=20))
    print(
        "30, 50 and 1 samples/s, a decision a second: the whole agent, with the broker,"
        f" takes {100 * share:.1f} % of one core"
    )
