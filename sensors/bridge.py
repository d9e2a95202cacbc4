"""From a blocking driver thread into the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Generic, TypeVar

from agent.clock import SECOND, rfc3339
from agent.delivery.mailbox import Mailbox, Stamped
from agent.delivery.policy import Delivery
from agent.seams import SensorError
from agent.types import Watermark

T = TypeVar("T", bound=Stamped)
log = logging.getLogger(__name__)


class Bridge(Generic[T]):
    """Runs `drive` in a daemon thread of its own and hands what it puts to the loop.

    Device drivers block, and some hang for good: no time-out reaches a read that is stuck in a kernel or a library. So
    each gets a thread with one owner, `items`. A driver that keeps silent for `stall_s` is an error; when it does not
    end within `JOIN_S` of being told to, it is abandoned and holds up neither the loop nor the end of the process.

    The hand-over is bounded as `delivery` says, and what it leaves out is counted in `drops`. With `NeverDrop` the
    driver waits in `put` while the loop is behind: that is for drivers whose input waits too, such as a file.
    """

    JOIN_S = 1.0

    def __init__(
        self,
        name: str,
        *,
        drive: Callable[[Bridge[T]], None],
        delivery: Delivery,
        stall_s: float,
        open_s: float,
        drops: Counter[str],
    ) -> None:
        self.name = name
        self.stopping = threading.Event()
        """Set when the driver is to end."""
        self.told_at = ""
        """Wall-clock time at which the driver was told to end, for people to read."""
        self._drive = drive
        self._stall_s = stall_s
        self._open_s = open_s
        self._mailbox: Mailbox[T] = Mailbox(delivery, drops=drops)
        self._room = threading.Condition()
        """Guards the mailbox, and is notified when it has room again."""
        self._wake = asyncio.Event()
        self._over = False
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def hangs(self) -> bool:
        """Whether the driver was told to end and still has not."""
        return bool(self.told_at) and not self._over

    def admits(self, end_ns: int) -> bool:
        """Whether an item of that stamp is wanted; ask before what is dear, such as decoding, and then `put`."""
        with self._room:
            wanted = self._mailbox.admits(end_ns)
        if not wanted:
            self._rouse()  # a driver whose items are not wanted does not stall
        return wanted

    def put(self, item: T | Watermark) -> None:
        """Hand one item over; on the driver's thread. Blocks only with `NeverDrop`, until there is room or it ends."""
        with self._room:
            while self._mailbox.refuses and not self.stopping.is_set():
                self._room.wait()
            if not self.stopping.is_set():
                self._mailbox.put(item, time.monotonic_ns())
        self._rouse()

    async def items(self) -> AsyncGenerator[T | Watermark, None]:
        """What the driver puts, until it returns. Once only.

        Raises what the driver raised, and `SensorError` when it stalls: before its first item it may take `open_s`.
        """
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._main, name=f"{self.name} driver", daemon=True)
        thread.start()
        patience_s = self._open_s
        try:
            while True:
                self._wake.clear()
                over = self._over
                while (item := self._take()) is not None:
                    patience_s = self._stall_s
                    yield item
                if over:
                    break
                await self._next(patience_s)
            if self._error is not None:
                raise self._error
        finally:
            self.told_at = rfc3339(time.time_ns())
            with self._room:
                self.stopping.set()
                self._room.notify()
            await self._join()

    def _take(self) -> T | Watermark | None:
        with self._room:
            item = self._mailbox.take(time.monotonic_ns())
            self._room.notify()
        return item

    async def _next(self, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await self._wake.wait()
        except TimeoutError:
            raise SensorError(
                f"{self.name}: delivered nothing for {patience_s:g} s;"
                " check that the device or stream is alive, or raise its `stall`"
            ) from None

    async def _join(self) -> None:
        try:
            async with asyncio.timeout(self.JOIN_S):
                while not self._over:
                    self._wake.clear()
                    if not self._over:
                        await self._wake.wait()
        except TimeoutError:
            log.warning("%s: its driver does not react and is left behind", self.name)

    def _main(self) -> None:
        try:
            self._drive(self)
        except BaseException as error:  # noqa: BLE001 - raised again by `items`, in the task that owns the sensor
            self._error = error
        self._over = True
        self._rouse()

    def _rouse(self) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # an abandoned driver came back after the loop had closed
            self.stopping.set()


class Bridges(Generic[T]):
    """One `Bridge` after the other for a sensor that is opened again and again.

    An abandoned thread can not be ended, so while one lives there is no other: one a sensor, not one a try.
    """

    def __init__(
        self,
        name: str,
        *,
        drive: Callable[[Bridge[T]], None],
        delivery: Delivery,
        stall_ns: int,
        drops: Counter[str],
    ) -> None:
        """As `Bridge`; opening may take twice the stall."""
        self._name = name
        self._drive = drive
        self._delivery = delivery
        self._stall_s = stall_ns / SECOND
        self._drops = drops
        self._abandoned: Bridge[T] | None = None

    @property
    def hanging(self) -> bool:
        """Whether a driver was abandoned and has not ended yet."""
        return self._abandoned is not None and self._abandoned.hangs

    @asynccontextmanager
    async def items(self) -> AsyncIterator[AsyncGenerator[T | Watermark, None]]:
        """Those of a new `Bridge`. Raises `SensorError`, and starts nothing, while an abandoned driver hangs."""
        if self._abandoned is not None and self._abandoned.hangs:
            # The instant, not how long ago: the same words each time are logged once.
            raise SensorError(
                f"{self._name}: its driver hangs, was told to end at {self._abandoned.told_at} and does not react; it"
                " is not opened again before that ends; if it stays so, plug the device in anew or restart the agent"
            )
        bridge = Bridge(
            self._name,
            drive=self._drive,
            delivery=self._delivery,
            stall_s=self._stall_s,
            # OpenCV's own time-outs for streams are as long as the stall: theirs is the better message.
            open_s=2 * self._stall_s,
            drops=self._drops,
        )
        try:
            async with aclosing(bridge.items()) as items:
                yield items
        finally:
            self._abandoned = bridge if bridge.hangs else None
