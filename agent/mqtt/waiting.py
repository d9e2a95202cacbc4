"""Waiting on a connection without losing a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def either(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs that never end until one fails, with that error.

    No TaskGroup: in Python 3.11 and 3.12 one whose task fails in the turn of its own cancellation swallows the
    cancellation, and this runs in a loop that catches the error and goes on.
    """
    tasks = [asyncio.create_task(job, name=f"mqtt {getattr(job, '__qualname__', '')}") for job in jobs]
    for task in tasks:  # cancelled a second time, this leaves before it has looked at all of them
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while alive := [task for task in tasks if not task.done()]:
            for task in alive:
                task.cancel()  # more than once if need be, see `heed_cancellation`
            await asyncio.wait(alive, timeout=0.1)
        failed = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    for error in failed:
        raise error


def heed_cancellation() -> None:
    """Raise a cancellation that got lost: `asyncio.wait_for`, by which aiomqtt waits, may swallow it in Python 3.11."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
