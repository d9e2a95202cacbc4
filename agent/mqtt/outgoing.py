"""What waits to be sent, events excepted: the newest of each retained topic, and a bounded queue of the rest."""

from __future__ import annotations

import asyncio

from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import Queue
from agent.health.metrics import Metrics
from agent.mqtt.message import Message


class Outgoing:
    """Never holds anybody up: when the queue is full its oldest gives way, counted as ``publish.dropped``."""

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queue: Mailbox[Message] = Mailbox(Queue(size))
        self._kept: dict[str, Message] = {}
        self._unsent: dict[str, None] = {}  # topics of what is kept and was not sent in this connection
        self._something = asyncio.Event()
        self.drained = asyncio.Event()
        """Set while everything has been sent."""

    def __len__(self) -> int:
        """Messages in the queue, those that are kept not counted."""
        return len(self._queue)

    def queue(self, message: Message) -> None:
        """Send it once, unless others push it out."""
        if self._queue.put(message, message.put_ns):
            self._metrics.count("publish.dropped")
        self._wake()

    def keep(self, message: Message) -> None:
        """Send it in the place of what was kept of that topic, and again in each new connection."""
        self._kept[message.topic] = message
        self._unsent[message.topic] = None
        self._wake()

    def again(self, topic: str | None = None) -> None:
        """Send what is kept once more, of one topic or of all: the broker may have forgotten it."""
        self._unsent.update(dict.fromkeys(self._kept if topic is None else {topic} & self._kept.keys()))
        self._wake()

    async def next(self) -> Message:
        """What is to be sent next; what is kept comes first."""
        while True:
            if self._unsent:
                topic = next(iter(self._unsent))
                del self._unsent[topic]
                return self._kept[topic]
            if isinstance(message := self._queue.take(0), Message):
                return message
            self._something.clear()
            self.drained.set()
            await self._something.wait()

    def _wake(self) -> None:
        self.drained.clear()
        self._something.set()
