"""Text that people send: messages handed over by the MQTT client, and lines on standard input."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agent.clock import MS, SECOND, Clock
from agent.seams import SensorError
from agent.types import Modality, Sample, Source, Text, Watermark
from sensors.message import Message, Unreadable, parse

log = logging.getLogger(__name__)

HEARTBEAT_NS = 100 * MS
"""How often a silent source says that it is only silent: a window settles this much after its end at the latest."""
MAX_BYTES = 64 * 1024
MAX_DELAY_NS = 10 * SECOND
"""A stamp older than this is not believed."""
MAX_FUTURE_NS = SECOND
"""A stamp that is ahead of us by up to this is a sender's clock running ahead: taken for now. Further: not believed."""


class TextInbox:
    """A `Sensor` of one text source, fed by `put`.

    Whatever comes in, nothing is raised. `drops` counts by reason. Left out: ``size`` (above `max_bytes`),
    ``overflow`` (the oldest of the waiting messages, when there are `queue`), ``utf8``, ``json`` (begins with ``{`` and
    is none), ``field`` (no usable "text"), ``empty``. Taken, but put right: ``stamp`` (not a time, or not a plausible
    one: arrival is used), ``lang`` (not a language tag: ignored).
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        mono_ns: Callable[[int], int],
        max_delay_ns: int = MAX_DELAY_NS,
        max_bytes: int = MAX_BYTES,
        queue: int = 64,
    ) -> None:
        """`mono_ns` converts wall-clock ns since the Unix epoch to `clock`; `queue` messages may wait."""
        self.name = name
        self.sources = (Source(name, Modality.TEXT, awaited=True, late_by_ns=max_delay_ns),)
        self.drops: Counter[str] = Counter()
        self._clock = clock
        self._mono_ns = mono_ns
        self._max_delay_ns = max_delay_ns
        self._max_bytes = max_bytes
        self._queue = queue
        self._waiting: deque[Sample] = deque()
        self._wake = asyncio.Event()
        self.closed = False
        """Whether nothing will be put any more."""

    def put(self, payload: bytes, arrival_ns: int) -> None:
        """Take in one message that came at `arrival_ns`; on the loop's thread, never blocks, never raises."""
        if len(payload) > self._max_bytes:
            self.drops["size"] += 1
            return
        try:
            message = parse(payload)
        except Unreadable as error:
            self.drops[error.reason] += 1
            return
        self.drops.update(message.ignored)
        t_ns = self._stamp(message, arrival_ns)
        if len(self._waiting) == self._queue:
            self._waiting.popleft()
            self.drops["overflow"] += 1
        text = Text(message.text, lang=message.lang)
        self._waiting.append(Sample(self.name, text, t_ns=t_ns, end_ns=t_ns, arrival_ns=arrival_ns))
        self._wake.set()

    def _stamp(self, message: Message, arrival_ns: int) -> int:
        if message.wall_ns is None:
            return arrival_ns
        t_ns = self._mono_ns(message.wall_ns)
        if not arrival_ns - self._max_delay_ns <= t_ns <= arrival_ns + MAX_FUTURE_NS:
            self.drops["stamp"] += 1
            return arrival_ns
        return min(t_ns, arrival_ns)

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`. A heartbeat every `HEARTBEAT_NS`; ends when it is closed and nothing waits."""
        while True:
            self._wake.clear()
            while self._waiting:
                yield self._waiting.popleft()
            now_ns = self._clock.now_ns()
            yield Watermark(self.name, now_ns)
            if self._waiting:
                continue
            if self.closed:
                return
            await self._rest(now_ns + HEARTBEAT_NS)

    def close(self) -> None:
        """Nothing will be put any more."""
        self.closed = True
        self._wake.set()

    async def _rest(self, until_ns: int) -> None:
        """Return at `until_ns`, or earlier when something comes in."""
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(self._clock.sleep_until(until_ns), name=f"{self.name} heartbeat")
            beat.add_done_callback(lambda _: self._wake.set())
            await self._wake.wait()
            beat.cancel()


class StdinSensor:
    """A `Sensor` of one text source: every line on standard input is a message, parsed as in `TextInbox`.

    Ends at the end of the input, such as of ``/dev/null`` under a service manager, and at once where there is none. It
    reads on the loop when there is something to be read: a thread that waits in ``read`` could not be told to end.
    """

    CHUNK = 4096
    """Bytes a turn of the loop, so that a long input holds nothing else up.

    Of more short lines than the inbox holds the oldest go, as in any flood, and are counted as ``overflow``.
    """
    PACE_S = 0.01
    """Pause between chunks of a regular file, which is always ready."""

    def __init__(self, name: str, *, clock: Clock, mono_ns: Callable[[int], int], fd: int | None = None) -> None:
        """`fd` is the file descriptor to read, standard input by default; it stays open."""
        self._inbox = TextInbox(name, clock=clock, mono_ns=mono_ns)
        self.name = name
        self.sources = self._inbox.sources
        self.drops = self._inbox.drops
        self._clock = clock
        self._fd = fd
        self._line = bytearray()
        self._error: OSError | None = None

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        fd = self._fd
        if fd is None:
            if sys.stdin is None:  # closed by who started us, as with `<&-`
                log.info("%s: there is no standard input", self.name)
                return
            fd = sys.stdin.fileno()
        self._inbox.closed, self._error = False, None
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(fd, self._read, fd)
            reader = None
        except PermissionError:  # epoll does not take regular files and /dev/null
            reader = asyncio.create_task(self._read_file(fd), name=f"{self.name} file")
            reader.add_done_callback(lambda _: self._inbox.close())
        try:
            async with aclosing(self._inbox.stream()) as items:
                async for item in items:
                    yield item
            if reader is not None:
                await reader
            if self._error is not None:
                raise SensorError(
                    f"{self.name}: standard input can not be read ({self._error}); an agent in the background has no"
                    " terminal: bring it to the foreground, or start it with `< /dev/null`"
                )
        finally:
            if reader is None:
                loop.remove_reader(fd)
            else:
                reader.cancel()
                await asyncio.wait([reader])  # it must not close the inbox of the next run

    async def _read_file(self, fd: int) -> None:
        while not self._inbox.closed:
            self._read(fd)
            await asyncio.sleep(self.PACE_S)

    def _read(self, fd: int) -> None:
        try:
            chunk = os.read(fd, self.CHUNK)
        except BlockingIOError:  # who shares it made it non-blocking, and was faster
            return
        except OSError as error:  # EIO from a terminal in whose background we are; left in place, it is ready for ever
            self._error = error
            chunk = b""
        arrival_ns = self._clock.now_ns()
        for piece in chunk.splitlines(keepends=True):
            # What is over the limit need not be kept to be counted as too long.
            self._line += piece[: max(0, MAX_BYTES + 1 - len(self._line))]
            if piece.endswith(b"\n"):
                self._flush(arrival_ns)
        if not chunk:
            self._flush(arrival_ns)
            asyncio.get_running_loop().remove_reader(fd)
            self._inbox.close()

    def _flush(self, arrival_ns: int) -> None:
        line = bytes(self._line).strip()
        self._line.clear()
        if line:
            self._inbox.put(line, arrival_ns)
