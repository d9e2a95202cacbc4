"""What waits to be written: bounded in number and in bytes, and never in the way of the agent."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from agent.types import Sample, nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One message to write, or two for a sample: its payload and its row."""

    topic: str
    row: dict[str, Any]
    log_ns: int
    """Wall clock, in ns since the Unix epoch: when it came."""
    publish_ns: int
    """When it happened."""
    sample: Sample | None = None

    @property
    def nbytes(self) -> int:
        """Of the payload."""
        return nbytes(self.sample.payload) if self.sample else 0


class Line:
    """A queue from the event loop to the thread that writes.

    Where the payloads are too many bytes, a sample's row goes on without its payload (counted as ``payloads``); where
    there are too many items, the new one is left out (``items``). So a disk that is too slow costs pictures first.
    """

    COUNT = 20_000
    """Items at most: some minutes of three sensors without their payloads."""

    def __init__(self, most_bytes: int) -> None:
        self.dropped: Counter[str] = Counter()
        self._most_bytes = most_bytes
        self._items: deque[Item] = deque()
        self._nbytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> bool:
        """Take in an item; False where it, or its payload, was left out."""
        with self._changed:
            if len(self._items) >= self.COUNT:
                self.dropped["items"] += 1
                return False
            kept = self._nbytes + item.nbytes <= self._most_bytes
            if not kept:
                self.dropped["payloads"] += 1
                item = Item(item.topic, item.row | {"lost": True}, item.log_ns, item.publish_ns)
            self._items.append(item)
            self._nbytes += item.nbytes
            self._changed.notify()
        return kept

    def take(self, patience_s: float) -> Item | None:
        """The oldest item; None where none came within ``patience_s``, or it is closed and empty."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(patience_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._nbytes -= item.nbytes
            return item

    def close(self) -> None:
        """Nothing more will be put in."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def over(self) -> bool:
        """Whether it is closed and everything was taken."""
        with self._changed:
            return self._closed and not self._items

    def __len__(self) -> int:
        return len(self._items)
