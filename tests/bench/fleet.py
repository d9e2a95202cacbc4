"""How many decisions a second one Mosquitto carries: what `docs/scale.md` reckons with.

A broker, senders and takers of its own clients, all on this machine, so that the broker shares the cores with them:
what is measured is less than what the broker can do on a machine of its own.
"""

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.clock import SECOND, VirtualClock, WallClock
from agent.config import Config
from agent.deciding.build import build_pipeline
from agent.payload import decision_payload, encode
from agent.playback import play
from agent.types import Evidence, Modality, Reading, Sample, Source
from tests.mosquitto import free_port, mosquitto
from tests.samples import audio, frame, text
from tests.scripted import ScriptedEncoder

SENDERS = 4
MESSAGES = 40_000
RUNS = 3
TICK = b"x\n"
"""What a taker writes for each message."""


async def decision() -> bytes:
    """The payload of a decision to which all three modalities contributed."""

    def answer(samples: Sequence[Sample]) -> Reading:
        newest, probs = samples[-1], np.full(7, 0.05)
        probs[1] = 0.7
        evidence = Evidence(newest.modality, newest.source, probs, np.full(7, 1 / 7), 0.9, newest.end_ns, "onnxruntime")
        return Reading(evidence)

    clock, wall = VirtualClock(), WallClock()
    wall.calibrate(0, time.time_ns())
    pipeline = build_pipeline(
        Config(),
        sources=[Source(m.value, m) for m in Modality],
        encoders={m: ScriptedEncoder(m, answer) for m in Modality},
        transcriber=None,
        clock=clock,
        session="bench",
    )
    ends_ns = range(SECOND // 4, 2 * SECOND, SECOND // 4)
    events = [s for e in ends_ns for s in (frame(e, "vision"), audio(e - SECOND // 4, e, "audio"), text(e))]
    *_, last = [decided async for decided in play(events, pipeline, clock)]
    pipeline.close()
    return encode(decision_payload(last.decision, node="kiosk-1", wall=wall))


async def carried(line: bytes, *, qos: int, takers: int) -> tuple[float, float]:
    """Messages a second from the first to the last that came, and the share of them that came."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        settings = ("allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 1000")
        async with mosquitto(port, Path(folder), *settings):
            topic = "attune/+/decision" if takers == 1 else "$share/store/attune/+/decision"
            where = ("-h", "127.0.0.1", "-p", str(port), "-q", str(qos), "-V", "5")
            pipe = asyncio.subprocess.PIPE
            taking = [
                await asyncio.create_subprocess_exec(
                    "mosquitto_sub", *where, "-t", topic, "-F", "x", "-W", "20", stdout=pipe
                )
                for _ in range(takers)
            ]
            await asyncio.sleep(0.5)  # the clients say nothing once they have subscribed
            begin_s = time.monotonic()
            sending = [
                await asyncio.create_subprocess_exec(
                    "mosquitto_pub", *where, "-t", f"attune/node-{i}/decision", "-l", stdin=pipe
                )
                for i in range(SENDERS)
            ]
            feeds = [asyncio.create_task(sender.communicate(line * (MESSAGES // SENDERS))) for sender in sending]
            came, last_s = 0, begin_s
            while came < MESSAGES * len(TICK):
                reads = [asyncio.ensure_future(_some(taker)) for taker in taking]
                done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for read in waiting:
                    read.cancel()
                if not (size := sum(read.result() for read in done)):
                    break
                came, last_s = came + size, time.monotonic()
            await asyncio.gather(*feeds)
            for taker in taking:
                if taker.returncode is None:
                    taker.terminate()
                await taker.wait()
            return came / len(TICK) / (last_s - begin_s), came / len(TICK) / MESSAGES


async def _some(taker: asyncio.subprocess.Process) -> int:
    assert taker.stdout
    return len(await taker.stdout.read(1 << 16))


async def _measure() -> None:
    payload = await decision()
    print(f"a decision is {len(payload)} bytes; {MESSAGES} of them from {SENDERS} senders, median of {RUNS} runs")
    for qos, takers in ((0, 1), (1, 1), (1, 2)):
        runs = [await carried(payload + b"\n", qos=qos, takers=takers) for _ in range(RUNS)]
        rate, share = sorted(runs)[RUNS // 2]
        shared = "" if takers == 1 else " that share one subscription"
        print(f"QoS {qos}, {takers} taker{'s' * (takers > 1)}{shared}: {rate:,.0f} a second, {100 * share:.1f} % came")


def main() -> None:
    logging.disable(logging.WARNING)
    print(f"{os.cpu_count()} cores for broker, senders and takers together")
    asyncio.run(_measure())
