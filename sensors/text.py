"""Text that people send: messages handed over by the MQTT client, and lines on standard input."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

from agent.clock import MS, SECOND, Clock
from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import Delivery, NeverDrop, Reason
from agent.delivery.rate import RateLimit
from agent.seams import Sensor, SensorError
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

    Whatever comes in, nothing is raised. `drops` counts by reason. Left out: ``rate`` (more than `max_rate_hz`),
    ``size`` (above `max_bytes`), ``utf8``, ``json`` (begins with ``{`` and is none), ``field`` (no usable "text"),
    ``empty``, and by `delivery` those of `agent.delivery.policy`. Taken, but put right: ``stamp`` (not a time, or not a
    plausible one: arrival is used), ``lang`` (not a language tag: ignored).

    With `NeverDrop` what was taken in is delivered. Who can wait awaits `room` first and loses nothing; who can not,
    such as the MQTT client, is refused when the bound is reached, which is counted and logged.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        mono_ns: Callable[[int], int],
        max_delay_ns: int = MAX_DELAY_NS,
        max_bytes: int = MAX_BYTES,
        max_rate_hz: float | None = None,
        delivery: Delivery = NeverDrop(),  # noqa: B008 - frozen
    ) -> None:
        """`mono_ns` converts wall-clock ns since the Unix epoch to `clock`."""
        self.name = name
        self.sources = (Source(name, Modality.TEXT, awaited=True, late_by_ns=max_delay_ns),)
        self.drops: Counter[str] = Counter()
        self._clock = clock
        self._mono_ns = mono_ns
        self._max_delay_ns = max_delay_ns
        self._max_bytes = max_bytes
        self._rate = RateLimit(max_rate_hz) if max_rate_hz else None
        self._waiting: Mailbox[Sample] = Mailbox(delivery, drops=self.drops)
        self._refusing = False
        self._wake = asyncio.Event()
        self._taken = asyncio.Event()
        self.closed = False
        """Whether nothing will be put any more."""

    def put(self, payload: bytes, arrival_ns: int) -> None:
        """Take in one message that came at `arrival_ns`; on the loop's thread, never blocks, never raises."""
        if self._rate and not self._rate.passes(arrival_ns):
            self.drops["rate"] += 1
            return
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
        text = Text(message.text, lang=message.lang)
        sample = Sample(self.name, text, t_ns=t_ns, end_ns=t_ns, arrival_ns=arrival_ns)
        if self._waiting.put(sample, self._clock.now_ns()) is Reason.REFUSED and not self._refusing:
            self._refusing = True  # once a flood
            log.warning(
                "%s: %d messages wait, so no more are taken in until one was read (counted as %s); send fewer, or let"
                ' more wait: delivery = "never_drop(N)"',
                *(self.name, len(self._waiting), Reason.REFUSED),
            )
        self._wake.set()

    async def room(self) -> None:
        """Return once `put` would not refuse; at once where it never does."""
        while self._waiting.refuses:
            self._taken.clear()
            await self._taken.wait()

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
            while (item := self._waiting.take(self._clock.now_ns())) is not None:
                self._refusing = False
                self._taken.set()
                yield item
            now_ns = self._clock.now_ns()
            yield Watermark(self.name, now_ns)
            if not self._waiting.empty:
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
    With `NeverDrop` it reads no further while the inbox is full, so that who writes into the pipe waits.
    """

    CHUNK = 4096
    """Bytes a turn of the loop, so that a long input holds nothing else up."""
    PACE_S = 0.01
    """Pause between chunks of a regular file, which is always ready."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        mono_ns: Callable[[int], int],
        fd: int | None = None,
        delivery: Delivery = NeverDrop(),  # noqa: B008 - frozen
    ) -> None:
        """`fd` is the file descriptor to read, standard input by default; it stays open."""
        self._inbox = TextInbox(name, clock=clock, mono_ns=mono_ns, delivery=delivery)
        self.name = name
        self.sources = self._inbox.sources
        self.drops = self._inbox.drops
        self._clock = clock
        self._fd = fd
        self._line = bytearray()

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """See `agent.seams.Sensor`."""
        fd = self._fd
        if fd is None:
            if sys.stdin is None:  # closed by who started us, as with `<&-`
                log.info("%s: there is no standard input", self.name)
                return
            fd = sys.stdin.fileno()
        self._inbox.closed = False
        reader = asyncio.create_task(self._read(fd), name=f"{self.name} reader")
        reader.add_done_callback(lambda _: self._inbox.close())
        try:
            async with aclosing(self._inbox.stream()) as items:
                async for item in items:
                    yield item
            await reader
        finally:
            reader.cancel()
            await asyncio.wait([reader])  # it must not close the inbox of the next run

    async def _read(self, fd: int) -> None:
        """Put line after line into the inbox until the input ends. Raises `SensorError`."""
        error: OSError | None = None
        chunk: bytes | None = None
        while chunk != b"":
            await self._readable(fd)
            try:
                chunk = os.read(fd, self.CHUNK)
            except BlockingIOError:  # who shares it made it non-blocking, and was faster
                continue
            except OSError as failed:  # EIO from a terminal in whose background we are
                chunk, error = b"", failed
            for line in self._lines(chunk or b"\n"):  # the last line need not end in one
                await self._inbox.room()
                # It arrives now: until here it was not delivered, whatever the watermarks said meanwhile.
                self._inbox.put(line, self._clock.now_ns())
        if error is not None:
            raise SensorError(
                f"{self.name}: standard input can not be read ({error}); an agent in the background has no"
                " terminal: bring it to the foreground, or start it with `< /dev/null`"
            ) from error

    async def _readable(self, fd: int) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(fd, ready.set)
        except PermissionError:  # epoll does not take regular files and /dev/null
            await asyncio.sleep(self.PACE_S)
            return
        try:
            await ready.wait()
        finally:
            loop.remove_reader(fd)

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes, without white space around them and without the empty ones."""
        for piece in chunk.splitlines(keepends=True):
            # What is over the limit need not be kept to be counted as too long.
            self._line += piece[: max(0, MAX_BYTES + 1 - len(self._line))]
            if piece.endswith(b"\n"):
                line = bytes(self._line).strip()
                self._line.clear()
                if line:
                    yield line


def hand_out(sensors: Sequence[Sensor]) -> Callable[[bytes, int], None] | None:
    """What puts a text that comes over MQTT into every inbox; None where there is none."""
    inboxes = [sensor for sensor in sensors if isinstance(sensor, TextInbox)]

    def put(payload: bytes, arrival_ns: int) -> None:
        for inbox in inboxes:
            inbox.put(payload, arrival_ns)

    return put if inboxes else None
