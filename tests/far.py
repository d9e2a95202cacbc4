"""Another host, for tests of remote sources: a clock of its own, what it senses, and the road to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import numpy as np

from agent.clock import MS, SECOND, RealClock
from agent.types import Audio, Frame, Modality, Payload, Sample, Source, Text, Watermark


class FarClock(RealClock):
    """This machine's clock, as a host would read it that is `offset_ns` ahead and runs `ppm` faster."""

    def __init__(self, offset_ns: int, ppm: int = 0) -> None:
        self._offset_ns, self._ppm = offset_ns, ppm
        self._start_ns = time.monotonic_ns()

    def reads(self, here_ns: int) -> int:
        """What it says at an instant of ours."""
        return here_ns + self._offset_ns + (here_ns - self._start_ns) * self._ppm // 1_000_000

    def now_ns(self) -> int:
        return self.reads(time.monotonic_ns())

    async def sleep_until(self, t_ns: int) -> None:
        await asyncio.sleep(max(0, t_ns - self.now_ns()) / SECOND)


class FarSensor:
    """Makes something of our clock's instants every 20 ms, `count` times or for ever, and stamps it by its own."""

    EVERY_NS = 20 * MS

    def __init__(
        self,
        name: str,
        modality: Modality,
        make: Callable[[int], Payload],
        clock: FarClock,
        count: int | None = None,
    ) -> None:
        self.name = name
        self.sources = (Source(name, modality),)
        self.drops: Counter[str] = Counter()
        self._make, self._clock, self._count = make, clock, count

    async def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        here_ns = time.monotonic_ns()
        for _ in itertools.count() if self._count is None else range(self._count):
            begin_ns, here_ns = here_ns, here_ns + self.EVERY_NS
            await RealClock().sleep_until(here_ns)
            payload, end_ns = self._make(here_ns), self._clock.reads(here_ns)
            t_ns = self._clock.reads(begin_ns) if isinstance(payload, Audio) else end_ns
            yield Sample(self.name, payload, t_ns, end_ns, arrival_ns=self._clock.now_ns())
            yield Watermark(self.name, end_ns)


def told(here_ns: int) -> Text:
    """The instant itself."""
    return Text(str(here_ns))


def tone(here_ns: int) -> Audio:
    """20 ms of 440 Hz."""
    return Audio((0.5 * np.sin(2 * np.pi * 440 / 16_000 * np.arange(320))).astype(np.float32))


def shade(here_ns: int) -> Frame:
    """A picture that goes from dark to bright."""
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    return Frame(np.repeat(np.repeat(ramp[None, :, None], 120, axis=0), 3, axis=2))


@contextlib.asynccontextmanager
async def road(port: int, *, there_ns: Sequence[int], back_ns: Sequence[int]) -> AsyncIterator[int]:
    """A way to the broker on `port` that takes so long in either direction: each piece the next of these times, from
    the first again at the end, and never before the piece that went ahead of it. Yields the port at which it begins."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delays_ns: Sequence[int]) -> None:
        on_the_way: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due_ns, piece = await on_the_way.get()
                await RealClock().sleep_until(due_ns)
                writer.write(piece)
                await writer.drain()
                if not piece:
                    return writer.close()

        arriving = asyncio.create_task(arrive())
        tasks.add(arriving)
        count = 0
        while True:
            piece = await reader.read(1 << 16)
            on_the_way.put_nowait((time.monotonic_ns() + delays_ns[count % len(delays_ns)], piece))
            count += 1
            if not piece:
                return

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        for way in (carry(reader, far_writer, there_ns), carry(far_reader, writer, back_ns)):
            tasks.add(asyncio.create_task(way))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
