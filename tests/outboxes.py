"""An outbox that runs for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.clock import SECOND
from agent.health.metrics import Metrics
from agent.mqtt.outbox import Outbox
from agent.mqtt.shelf import Bounds

WALL_NS = 1_795_255_200 * SECOND


@asynccontextmanager
async def open_outbox(path: Path, bounds: Bounds) -> AsyncIterator[tuple[Outbox, Metrics]]:
    """Run one for as long as the block lasts."""
    metrics = Metrics()
    outbox = Outbox(path, bounds, metrics=metrics, wall_ns=lambda now_ns: WALL_NS + now_ns)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox, metrics
    finally:
        task.cancel()
        await asyncio.wait([task])
        await outbox.close()
