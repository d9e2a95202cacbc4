"""The running agent: sensors feed the window, windows become decisions, all at once, by the real clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.clock import SECOND, Clock
from agent.deciding.pipeline import Pipeline
from agent.seams import Abandons, Observer, Sensor
from agent.supervisor import Switch, supervise
from agent.types import Absence, Decision, Modality, Sample, Utterance, Watermark, Window
from agent.window import SourceState

UTTERANCES = 4
"""Utterances that wait for the transcriber at most; the oldest gives way, and is counted."""
CLOSE_NS = 3 * SECOND
"""How long a pause waits for the devices to close before it names those that have not."""


class LiveAgent:
    """Runs the sensors and the pipeline until every sensor's input has ended, or until it is cancelled.

    Nothing queues: while one window is being decided, a newer one takes the place of the one that waits, so that the
    age of a decision stays bounded whatever the encoders cost. Windows passed over are counted as
    ``windows_skipped``.

    While it is paused every sensor is closed, all that was sensed and not yet decided is forgotten, nobody is shown
    anything, and windows go on and say ``disabled`` of every modality.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        sensors: Sequence[Sensor],
        clock: Clock,
        sinks: Sequence[Callable[[Decision], None]],
        observers: Sequence[Observer] = (),
    ) -> None:
        self._pipeline = pipeline
        self._window = pipeline.window
        self._metrics = pipeline.metrics
        self._sensors = sensors
        self._clock = clock
        self._sinks = sinks
        self._observers = observers
        self._switch = Switch()
        self._arrived = asyncio.Event()  # something came that may settle the next window
        self._waiting: Window | None = None
        self._cut = asyncio.Event()  # a window waits
        self._idle = asyncio.Event()  # no window waits or is being decided
        self._idle.set()
        self._utterances: deque[Utterance] = deque()
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Run; raises what a sensor, an encoder or a sink raises by mistake, with the task's name."""
        async with asyncio.TaskGroup() as work:
            loops = [
                work.create_task(self._cut_windows(), name="cut"),
                work.create_task(self._decide(), name="decide"),
                work.create_task(self._transcribe(), name="transcribe"),
            ]
            async with asyncio.TaskGroup() as sensing:
                for sensor in self._sensors:
                    sensing.create_task(self._sense(sensor), name=f"sensor {sensor.name}")
            await self._clock.sleep_until(self._window.deadline_ns)  # the last samples' window
            await self._idle.wait()
            for task in loops:
                task.cancel()

    @property
    def paused(self) -> bool:
        """Whether sensing is off."""
        return not self._switch.on

    @property
    def open(self) -> Sequence[str]:
        """Names of the sensors that have something open, or left a driver behind that has."""
        held = [sensor.name for sensor in self._sensors if isinstance(sensor, Abandons) and sensor.held]
        return tuple(dict.fromkeys([*self._switch.opened, *held]))

    async def pause(self) -> Sequence[str]:
        """Switch sensing off; returns once every device is closed, or after `CLOSE_NS` the names of those that are not.

        Each is closed by itself: one that hangs holds up none of the others. Also returns when `resume` comes first.
        """
        self._switch.turn(on=False)
        self._utterances.clear()
        self._pipeline.suspend()
        if self._waiting:
            self._waiting = replace(self._waiting, parts={}, missing=dict.fromkeys(Modality, Absence.DISABLED))
        closed = asyncio.create_task(self._let_go(), name="closing")
        late = asyncio.create_task(self._clock.sleep_until(self._clock.now_ns() + CLOSE_NS), name="closing too slowly")
        try:
            await asyncio.wait([closed, late], return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
            if not closed.cancel():
                closed.result()
        return self.open if self.paused else ()

    async def _let_go(self) -> None:
        await self._pipeline.forget()
        await self._switch.until_closed()

    def resume(self) -> None:
        """Switch sensing on again; every sensor opens anew, but for those whose input had ended."""
        self._pipeline.resume()
        self._switch.turn(on=True)

    async def _sense(self, sensor: Sensor) -> None:
        await supervise(
            sensor, feed=self._feed, mark=self._mark, clock=self._clock, metrics=self._metrics, switch=self._switch
        )

    def _mark(self, source: str, state: SourceState) -> None:
        for observer in self._observers:
            observer.marked(source, state)
        self._pipeline.mark(source, state)
        self._arrived.set()  # the others may have settled the window that waits for this source

    def _feed(self, item: Sample | Watermark) -> None:
        if self.paused:  # words that were still being understood
            return
        for observer in self._observers:
            observer.fed(item)
        self._pipeline.feed(item)
        reached_ns = item.end_ns if isinstance(item, Sample) else item.t_ns
        if reached_ns >= self._window.next_end_ns:
            self._arrived.set()

    async def _cut_windows(self) -> None:
        while True:
            windows = self._window.cut(self._clock.now_ns())
            if windows:
                passed_over = len(windows) - 1 + (self._waiting is not None)
                if passed_over:
                    self._metrics.count("windows_skipped", passed_over)
                self._waiting = windows[-1]
                self._idle.clear()
                self._cut.set()
            await self._clock.sleep_until(self._window.next_end_ns)
            await self._arrival_until(self._window.due_ns())

    async def _arrival_until(self, t_ns: int) -> None:
        """Wait for something that may settle the window, at longest until ``t_ns``."""
        self._arrived.clear()
        if t_ns <= self._clock.now_ns():
            return
        alarm = asyncio.create_task(self._alarm(t_ns), name="lateness")
        try:
            await self._arrived.wait()
        finally:
            alarm.cancel()

    async def _alarm(self, t_ns: int) -> None:
        await self._clock.sleep_until(t_ns)
        self._arrived.set()

    async def _decide(self) -> None:
        while True:
            await self._cut.wait()
            self._cut.clear()
            window, self._waiting = self._waiting, None
            assert window is not None, "the event says that one waits"
            decided = await self._pipeline.decide(window)
            for sink in self._sinks:
                sink(decided.decision)
            for observer in self._observers:
                observer.decided(decided)
            for utterance in decided.utterances:
                self._hear(utterance)
            if self._waiting is None:
                self._idle.set()

    def _hear(self, utterance: Utterance) -> None:
        if self.paused:
            return
        if len(self._utterances) == UTTERANCES:
            self._utterances.popleft()
            self._metrics.count("transcribe.dropped")
        self._utterances.append(utterance)
        self._heard.set()

    async def _transcribe(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            while self._utterances:
                sample = await self._pipeline.transcribe(self._utterances.popleft())
                if sample is not None:
                    self._feed(sample)
