"""A TCP road to a port of this machine that a test can break while it is used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK = 1 << 14


class Proxy:
    """Carries bytes both ways. ``async with`` opens the road, on a port that stays the same over `refuse` and `accept`.

    `hold` makes connections half-open: nothing gets through and nothing is closed, as when a cable is cut behind a
    switch; `release` ends that. `spoil` overwrites a byte in so many on the way from the far end; `pace` lets so many
    bytes a second through. `hang` takes connections and carries nothing, not even to the far end.
    """

    def __init__(self, to: int) -> None:
        self.port = 0
        self.carried = 0
        """Bytes, both ways."""
        self._carried = asyncio.Event()
        self._to = to
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._free = asyncio.Event()
        self._free.set()
        self._one_in = 0
        self._bytes_per_s = 0
        self._random = random.Random(7)

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut all connections, and take no more."""
        if self._server:
            self._server.close()
            self._server = None
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def hold(self) -> None:
        """Let nothing through from now on, without a word."""
        self._free.clear()

    def release(self) -> None:
        """Let it through again, what was held included."""
        self._free.set()

    def spoil(self, one_in: int) -> None:
        """Overwrite about one byte in so many of what comes from the far end; 0 for none."""
        self._one_in = one_in

    def pace(self, bytes_per_s: int) -> None:
        """Let no more through than that in either direction; 0 for all."""
        self._bytes_per_s = bytes_per_s

    async def until_carried(self, more: int) -> None:
        """Return once that many more bytes got through."""
        wanted = self.carried + more
        while self.carried < wanted:
            self._carried.clear()
            await self._carried.wait()

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._free.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            try:
                ways = [
                    asyncio.create_task(self._carry(reader, far_writer, lambda data: data)),
                    asyncio.create_task(self._carry(far_reader, writer, self._spoilt)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                far_writer.transport.abort()
        except OSError:  # the far end is not there
            pass
        finally:
            writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, made: Callable[[bytes], bytes]
    ) -> None:
        while True:
            await self._free.wait()
            data = await reader.read(min(CHUNK, self._bytes_per_s // 10 or CHUNK))
            if not data:
                return
            await self._free.wait()
            self.carried += len(data)
            self._carried.set()
            writer.write(made(data))
            await writer.drain()
            if self._bytes_per_s:
                await asyncio.sleep(len(data) / self._bytes_per_s)

    def _spoilt(self, data: bytes) -> bytes:
        if not self._one_in:
            return data
        spoilt = bytearray(data)
        for _ in range(max(1, len(data) // self._one_in)):
            spoilt[self._random.randrange(len(spoilt))] = self._random.randrange(256)
        return bytes(spoilt)
