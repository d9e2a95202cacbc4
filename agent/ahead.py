"""Working ahead: what blocks, such as decoding, goes on in a thread while the last of it is used."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def ahead(items: Iterator[T], *, count: int, name: str) -> AsyncGenerator[T, None]:
    """`items`, of which the next ``count`` are worked out while the last ``count`` are used.

    A thread of that name works them out, one for all, for their order and for decoders; there they are closed, too.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        next_ones = thread.submit(_take, items, count)
        while batch := await asyncio.wrap_future(next_ones):
            next_ones = thread.submit(_take, items, count)
            for item in batch:
                yield item
    finally:
        if isinstance(items, Generator):
            thread.submit(items.close)
        thread.shutdown(wait=False)


def _take(items: Iterator[T], count: int) -> list[T]:
    return list(itertools.islice(items, count))
