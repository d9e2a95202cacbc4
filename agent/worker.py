"""Threads for what blocks. They are daemons: an engine that hangs must not hold up the end of the process.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter ends, whatever they do; hence these few
lines of our own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One named thread that does one piece of work after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """What `work` will return or raise, done in the thread after what it was given before."""
        future: Future[T] = Future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(partial(_fulfil, future, work))
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done in the thread. Cancelling gives up waiting; begun work goes on."""
        return await asyncio.wrap_future(self.begin(work))

    def dismiss(self, last: Callable[[], object] | None = None) -> None:
        """Let the thread end once it has done what it was given, and ``last``, whose result nobody hears of."""
        if last:
            self._work.put(partial(_fulfil, Future(), last))
        self._work.put(None)

    def ended(self, patience_s: float) -> bool:
        """Whether the thread has ended, or does within `patience_s`."""
        if self._thread is not None:
            self._thread.join(patience_s)
        return self._thread is None or not self._thread.is_alive()

    def _main(self) -> None:
        while piece := self._work.get():
            piece()


class DaemonExecutor(ThreadPoolExecutor):
    """A thread a call, never joined: for the loop's default executor, in which aiomqtt connects to the broker."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn`` in a thread of its own."""
        future: Future[T] = Future()
        work = partial(_fulfil, future, partial(fn, *args, **kwargs))
        threading.Thread(target=work, name="daemon executor", daemon=True).start()
        return future


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    """Do the work and put what comes of it into the future."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)
