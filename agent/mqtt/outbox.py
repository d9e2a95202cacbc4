"""Events wait here until the broker has acknowledged them: on disk, and in memory while the disk fails.

What the loop puts down goes to disk in a thread of its own, and only from there to the broker. In order, at least once:
an event may come twice, with the same ``id``, and for the first time not before an older one, unless the broker refuses
the older one while it takes the newer. Bounded by number and age; what goes for that is counted as
``outbox.overflow`` and ``outbox.aged``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config import Mqtt
from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import Queue
from agent.health.metrics import Metrics
from agent.mqtt.journal import Row
from agent.mqtt.shelf import Bounds, Shelf
from agent.worker import Worker

BATCH = 64
"""Events read at once, and deleted at once when all were acknowledged: after a kill as many come twice at most."""
PENDING = 1024
"""Events that wait for the thread at most; the oldest gives way, counted as ``outbox.flooded``."""


@dataclass(frozen=True, slots=True)
class _Put:
    """An event on the way to the thread."""

    body: bytes
    end_ns: int
    """When it was put down."""


class Outbox:
    """The loop's side. `run` writes down what was `put`, until it is cancelled; `close` writes down the rest."""

    def __init__(self, path: Path, bounds: Bounds, *, metrics: Metrics, wall_ns: Callable[[int], int]) -> None:
        """``wall_ns`` converts an instant to ns since the Unix epoch. Nothing is opened yet."""
        self._shelf = Shelf(path, bounds, metrics=metrics)
        self._metrics = metrics
        self._wall_ns = wall_ns
        self._worker = Worker("outbox")
        self._pending: Mailbox[_Put] = Mailbox(Queue(PENDING))
        self._unwritten = 0
        self._acknowledged = 0
        self._put = asyncio.Event()
        self._written = asyncio.Event()
        self.drained = asyncio.Event()
        """Set while the broker has everything that was put down so far."""

    @property
    def waiting(self) -> int:
        """Events that the broker has not acknowledged."""
        return self._unwritten + self._shelf.count

    def put(self, body: bytes, now_ns: int) -> None:
        """Put down an event, a JSON object with at least one key; it gets a ``seq``. Returns at once."""
        if self._pending.put(_Put(body, now_ns), now_ns):
            self._metrics.count("outbox.flooded")
        self._unwritten = len(self._pending)
        self.drained.clear()
        self._put.set()

    async def run(self) -> None:
        """Write down what comes, after what an earlier run left behind was found."""
        await self._worker.run(self._shelf.look)
        self._written.set()
        while True:
            await self._put.wait()
            self._put.clear()
            await self._write()

    async def oldest(self) -> Sequence[Row]:
        """Up to `BATCH` events that are not acknowledged, oldest first; waits until there is one."""
        while True:
            self._written.clear()
            if rows := await self._worker.run(self._next_batch):
                return [Row(row.seq, row.wall_ns, b'{"seq":%d,%b' % (row.seq, row.body[1:])) for row in rows]
            if not self.waiting:
                self.drained.set()
            await self._written.wait()

    def acknowledge(self, seq: int) -> None:
        """The broker has everything up to and with that number: it is deleted before more is read."""
        self._acknowledged = seq

    async def close(self) -> None:
        """Write down what still waits, and close the file."""
        await self._write()
        await self._worker.run(self._close)
        self._worker.dismiss()

    async def _write(self) -> None:
        puts = []
        while isinstance(put := self._pending.take(0), _Put):
            puts.append((put.body, self._wall_ns(put.end_ns)))
        if puts:
            await self._worker.run(lambda: self._shelf.add(puts))
            self._unwritten = len(self._pending)
            self._written.set()

    def _next_batch(self) -> Sequence[Row]:
        done, self._acknowledged = self._acknowledged, 0  # a number may mean another event in the next batch
        self._shelf.done(done)
        return self._shelf.oldest(BATCH)

    def _close(self) -> None:
        self._shelf.done(self._acknowledged)
        self._shelf.close()


def outbox_path(settings: Mqtt, node: str) -> Path:
    """Where the events of a node wait: in the folder of the config, or in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = settings.outbox or (Path(state) if state else Path.home() / ".local" / "state") / "attune"
    return folder / f"{settings.base}.{node}.db"
