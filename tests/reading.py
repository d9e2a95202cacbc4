"""Reading a sensor in a test."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import aclosing

from agent.seams import Sensor, SensorError
from agent.types import Sample, Watermark

WAIT_S = 30.0
"""What a loaded machine may take; nothing here waits for it to pass."""


async def read_until(sensor: Sensor, enough: Callable[[list[Sample | Watermark]], bool]) -> list[Sample | Watermark]:
    """What `sensor` delivers until it is enough or the sensor ends."""
    items: list[Sample | Watermark] = []
    async with asyncio.timeout(WAIT_S), aclosing(sensor.stream()) as stream:
        async for item in stream:
            items.append(item)
            if enough(items):
                break
    return items


async def read_samples(sensor: Sensor, count: int) -> list[Sample]:
    """The first `count` samples, or fewer where the sensor ends."""
    items = await read_until(sensor, lambda items: sum(isinstance(item, Sample) for item in items) >= count)
    return [item for item in items if isinstance(item, Sample)]


async def read_till_lost(sensor: Sensor, *, cut: Callable[[], None]) -> None:
    """Read one item, `cut`, and read on until the sensor raises or ends."""
    async with asyncio.timeout(WAIT_S), aclosing(sensor.stream()) as stream:
        await anext(stream)
        cut()
        async for _ in stream:
            pass


async def read_till_back(sensor: Sensor, count: int) -> tuple[list[Sample], list[str]]:
    """As `read_samples`, opening again after each `SensorError`, whose messages come second."""
    errors: list[str] = []
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await read_samples(sensor, count), errors
            except SensorError as error:
                errors.append(str(error))


async def left_behind(sensor: Sensor, rounds: int) -> tuple[int, int]:
    """Threads and file descriptors that are more after `rounds` of opening `sensor` and reading one sample."""
    await read_samples(sensor, 1)  # what is made once for all
    before = _held()
    for _ in range(rounds):
        await read_samples(sensor, 1)
    deadline = time.monotonic() + WAIT_S
    while max(more := tuple(now - then for now, then in zip(_held(), before, strict=True))) > 0:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0)  # a thread that was joined may need a moment more until the kernel has let go of it
    return more[0], more[1]


def _held() -> tuple[int, int]:
    """How many threads and descriptors the kernel holds for us."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
