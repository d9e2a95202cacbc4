"""How far off samples of another host are: a real Mosquitto, roads of different kinds; takes three minutes."""

import asyncio
import random
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from agent.clock import MS, SECOND
from agent.types import Modality, Sample
from tests.far import FarClock, FarSensor, road, told
from tests.mosquitto import free_port, mosquitto
from tests.test_remote import error_ns, listening, sending, sensor

SECONDS = 56
"""Of each road; the second half is measured."""


def _jittered(count: int, seed: int) -> list[int]:
    """Delays of 5 ms and an exponential rest of 5 ms on average."""
    chance = random.Random(seed)
    return [round((5 + chance.expovariate(1 / 5)) * MS) for _ in range(count)]


async def over(name: str, there_ns: list[int], back_ns: list[int]) -> None:
    """A clock that is 7 h ahead and 100 ppm fast sends a text each 20 ms over that road."""
    clock = FarClock(7 * 3600 * SECOND, ppm=100)
    off_ms: list[float] = []
    unsure_ms: list[float] = []
    outside = 0
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        async with mosquitto(port, Path(folder)), road(port, there_ns=there_ns, back_ns=back_ns) as door:
            at = listening(f"mqtt://127.0.0.1:{port}")
            async with sending(f"mqtt://127.0.0.1:{door}", clock, FarSensor("notes", Modality.TEXT, told, clock)):
                begin_s = time.monotonic()
                async with aclosing(sensor(at).stream()) as stream:
                    async for item in stream:
                        if isinstance(item, Sample):
                            (estimate,) = at.clocks.estimates().values()
                            error_ms, bound_ms = abs(error_ns(item)) / MS, estimate.uncertainty_ns / MS
                            outside += error_ms > bound_ms + 0.01
                            if time.monotonic() - begin_s > SECONDS / 2:
                                off_ms.append(error_ms)
                                unsure_ms.append(bound_ms)
                        if time.monotonic() - begin_s > SECONDS:
                            break
    print(
        f"{name}: {len(off_ms)} samples, {statistics.mean(off_ms):.2f} ms off on average, at most {max(off_ms):.2f},"
        f" within {statistics.mean(unsure_ms):.2f} ms on average; {outside} outside"
    )


async def roads() -> None:
    await over("loopback", [0], [0])
    await over("5 ms each way and jitter of 5 ms", _jittered(997, 3), _jittered(991, 4))
    await over("30 ms there, 2 ms back", [30 * MS], [2 * MS])


def main() -> None:
    asyncio.run(roads())
