"""Working ahead: what blocks, such as decoding, goes on in a thread while the last of it is used."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Generator, Iterator
from functools import partial
from typing import TypeVar

from agent.worker import Worker

T = TypeVar("T")


async def ahead(items: Iterator[T], *, count: int, name: str) -> AsyncGenerator[T, None]:
    """`items`, of which the next ``count`` are worked out while the last ``count`` are used.

    A thread of that name works them out, one for all, for their order and for decoders; there they are closed, too.
    """
    worker = Worker(name)
    more = partial(_take, items, count)
    try:
        next_ones = worker.begin(more)
        while batch := await asyncio.wrap_future(next_ones):
            next_ones = worker.begin(more)
            for item in batch:
                yield item
    finally:
        worker.dismiss(items.close if isinstance(items, Generator) else None)


def _take(items: Iterator[T], count: int) -> list[T]:
    return list(itertools.islice(items, count))
