"""A pause closes every device, forgets what was sensed, and lets nothing in until it is over."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import MS, RealClock, VirtualClock
from agent.health.metrics import Metrics
from agent.live import CLOSE_NS, LiveAgent
from agent.seams import Sensor, SensorError, Transcriber
from agent.supervisor import Switch, supervise
from agent.types import Absence, Decided, Decision, Modality, Reading, Sample, Source, Utterance, Watermark
from agent.window import SourceState
from sensors.camera import CameraSensor
from sensors.microphone import MicrophoneSensor
from tests.pulse import Pulse
from tests.samples import frame
from tests.scripted import HOP_NS, SOURCES, Echo, ScriptedEncoder, Steps, happy, pipeline, silent
from tests.streams import VideoServer, make_video

VISION, AUDIO, TEXT = Modality
CAMERA, MICROPHONE, _ = SOURCES
TURNS = 40
"""Turns of the loop in which everything that is due at one instant has been done."""


class Camera:
    """Delivers a frame every quarter of a hop, for ever; counts how often it is open, and closes as it is told to."""

    def __init__(self, clock: VirtualClock, name: str = "camera", source: Source = CAMERA) -> None:
        self.name = name
        self.sources = (source,)
        self.drops: Counter[str] = Counter()
        self.opened = 0
        self.open = 0
        self.fails: SensorError | None = None
        self.closing: Callable[[], Awaitable[object]] | None = None
        self._clock = clock

    async def stream(self) -> Steps:
        self.opened += 1
        self.open += 1
        assert self.open == 1, "opened a second time before it had closed"
        try:
            if self.fails:
                raise self.fails
            while True:
                await self._clock.sleep_until(self._clock.now_ns() + HOP_NS // 4)
                yield frame(self._clock.now_ns(), self.sources[0].name)
        finally:
            if self.closing:
                await self.closing()
            self.open -= 1


class Onlooker:
    def __init__(self) -> None:
        self.seen: deque[Sample | Watermark] = deque(maxlen=200)
        self.live: set[str] = set()

    def fed(self, item: Sample | Watermark) -> None:
        self.seen.append(item)

    def marked(self, source: str, state: SourceState) -> None:
        (self.live.add if state is SourceState.LIVE else self.live.discard)(source)

    def decided(self, decided: Decided) -> None:
        pass


async def pass_by(clock: VirtualClock, until_ns: int, agent: LiveAgent | None = None) -> None:
    """Let virtual time pass; encoders, which have threads of their own, take none of it."""
    while True:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if agent:
            await agent._idle.wait()
        next_ns = clock.next_ns()
        if next_ns is None or next_ns > until_ns:
            clock.advance_to(until_ns)
            return
        clock.advance_to(next_ns)


class Living:
    """A live agent on virtual time, with what it decided."""

    def __init__(self, clock: VirtualClock, *sensors: Sensor, transcriber: Transcriber | None = None) -> None:
        self.clock = clock
        self.found: list[Decision] = []
        self.onlooker = Onlooker()
        self.encoder = ScriptedEncoder(VISION, happy)
        sources = [source for sensor in sensors for source in sensor.sources]
        readers = [ScriptedEncoder(modality, silent) for modality in (AUDIO, TEXT)]
        self.pipeline = pipeline(clock, self.encoder, *readers, transcriber=transcriber, sources=sources)
        self.agent = LiveAgent(
            self.pipeline, sensors=sensors, clock=clock, sinks=[self.found.append], observers=[self.onlooker]
        )
        self._task = asyncio.create_task(self.agent.run())

    async def on(self, hops: float) -> list[Decision]:
        """What is decided within the next hops."""
        known = len(self.found)
        await pass_by(self.clock, self.clock.now_ns() + round(hops * HOP_NS), self.agent)
        return self.found[known:]

    async def end(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.pipeline.close()


async def test_windows_go_on_and_say_disabled_and_nothing_is_shown_or_kept() -> None:
    clock = VirtualClock()
    camera = Camera(clock)
    living = Living(clock, camera)
    assert VISION in (await living.on(4))[-1].modalities
    assert await living.agent.pause() == ()
    assert (living.agent.paused, living.agent.open, camera.open) == (True, (), 0)
    assert living.pipeline.window.held()[VISION] == (0, 0)
    living.onlooker.seen.clear()
    paused = await living.on(5)
    assert len(paused) >= 4
    assert all(decision.missing == dict.fromkeys(Modality, Absence.DISABLED) for decision in paused[1:])
    assert all(decision.abstained for decision in paused[1:])
    assert not living.onlooker.seen
    living.agent.resume()
    again = await living.on(4)
    assert VISION in again[-1].modalities
    assert camera.opened == 2
    assert not living.agent.paused
    await living.end()


async def test_encoders_forget_the_sources() -> None:
    clock, forgotten = VirtualClock(), list[str]()
    living = Living(clock, Camera(clock))
    living.encoder.forget = forgotten.append  # type: ignore[attr-defined]
    await living.on(2)
    await living.agent.pause()
    assert forgotten == ["camera"]
    await living.end()


async def test_encoders_forget_also_where_one_hangs_and_sensing_is_on_again_before_it_has_done() -> None:
    clock, forgotten = VirtualClock(), list[tuple[str, int]]()
    camera, microphone = Camera(clock), Camera(clock, "microphone", MICROPHONE)
    microphone.fails = SensorError("none there")
    living = Living(clock, camera, microphone)
    hung, release = threading.Event(), threading.Event()

    def hang(samples: Sequence[Sample]) -> Reading:
        hung.set()
        assert release.wait(10)
        return happy(samples)

    living.encoder._answer = hang
    for encoder in living.pipeline._encoding.encoders.values():
        encoder.forget = lambda name: forgotten.append((name, len(living.encoder.shown)))  # type: ignore[attr-defined]
    await pass_by(clock, 2 * HOP_NS)
    assert await asyncio.to_thread(hung.wait, 10)
    pausing = asyncio.create_task(living.agent.pause())
    await pass_by(clock, clock.now_ns() + CLOSE_NS)
    assert await pausing == ()
    living.agent.resume()
    assert ("camera", 1) not in forgotten
    release.set()
    assert VISION in (await living.on(4))[-1].modalities
    assert sorted(forgotten) == [("camera", 1), ("microphone", 1)], "each, and before it was shown anything new"
    await living.end()


async def test_one_that_hangs_in_closing_is_named_and_holds_up_no_other() -> None:
    clock = VirtualClock()
    hangs, other = Camera(clock), Camera(clock, "other", Source("other", VISION))
    released = asyncio.Event()
    hangs.closing = released.wait
    living = Living(clock, hangs, other)
    await living.on(2)
    pausing = asyncio.create_task(living.agent.pause())
    await pass_by(clock, clock.now_ns())
    assert (hangs.open, other.open) == (1, 0)  # the other has closed, with no time passing
    assert not pausing.done()
    await pass_by(clock, clock.now_ns() + CLOSE_NS)
    assert await pausing == ("camera",)
    living.agent.resume()
    await living.on(2)
    assert (hangs.opened, other.opened) == (1, 2)  # not a second time before it has closed
    released.set()
    hangs.closing = None
    await living.on(2)
    assert (hangs.opened, hangs.open) == (2, 1)
    await living.end()


async def test_a_resume_before_all_is_closed_ends_the_pause() -> None:
    clock = VirtualClock()
    camera = Camera(clock)
    released = asyncio.Event()
    camera.closing = released.wait
    living = Living(clock, camera)
    await living.on(1)
    pausing = asyncio.create_task(living.agent.pause())
    await pass_by(clock, clock.now_ns())
    living.agent.resume()
    await pass_by(clock, clock.now_ns())
    assert await pausing == ()
    released.set()
    camera.closing = None
    assert VISION in (await living.on(4))[-1].modalities
    await living.end()


class SlowEcho(Echo):
    """Understands only when it may."""

    def __init__(self) -> None:
        super().__init__("I am happy")
        self.begun, self.may, self.done = threading.Event(), threading.Event(), threading.Event()

    def transcribe(self, utterance: Utterance) -> str | None:
        self.begun.set()
        assert self.may.wait(20)
        self.done.set()
        return super().transcribe(utterance)


async def test_what_was_said_before_the_pause_is_not_understood_after_it() -> None:
    clock, echo = VirtualClock(), SlowEcho()
    living = Living(clock, Camera(clock), transcriber=echo)
    spoken = Utterance("microphone", np.zeros(4, np.float32), 0, HOP_NS)
    living.encoder._answer = lambda samples: Reading(None, utterances=(spoken,) * 3)
    await living.on(2)
    assert await asyncio.to_thread(echo.begun.wait, 20)
    await living.agent.pause()
    echo.may.set()
    assert await asyncio.to_thread(echo.done.wait, 20)
    await living.on(3)
    assert not [item for item in living.onlooker.seen if item.source == "speech"]
    assert len(echo.heard) <= 1  # the one that was being understood; those that waited are forgotten
    assert living.found[-1].missing[TEXT] is Absence.DISABLED
    living.encoder._answer = happy
    living.agent.resume()
    assert (await living.on(3))[-1].missing[TEXT] is Absence.SILENT
    await living.end()


async def test_a_source_that_fails_rests_during_the_pause_and_is_tried_at_once_after_it() -> None:
    clock = VirtualClock()
    camera = Camera(clock)
    camera.fails = SensorError("unplugged")
    living = Living(clock, camera)
    await living.on(2)
    tried = camera.opened
    await living.agent.pause()
    decisions = await living.on(600)
    assert camera.opened == tried
    assert {decision.missing[VISION] for decision in decisions[1:]} == {Absence.DISABLED}
    camera.fails = None
    living.agent.resume()
    assert VISION in (await living.on(2))[-1].modalities
    await living.end()


async def test_an_input_that_has_ended_stays_so() -> None:
    clock = VirtualClock()
    switch = Switch()

    class Ends(Camera):
        async def stream(self) -> Steps:
            self.opened += 1
            yield frame(clock.now_ns())

    sensor, states = Ends(clock), list[SourceState]()
    job = supervise(
        sensor,
        feed=lambda item: None,
        mark=lambda name, state: states.append(state),
        clock=clock,
        metrics=Metrics(),
        switch=switch,
    )
    await job
    switch.turn(on=False)
    switch.turn(on=True)
    assert sensor.opened == 1
    assert states == [SourceState.LIVE, SourceState.DISABLED]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2 * TURNS), st.integers(0, 900)), min_size=1, max_size=12))
def test_however_it_is_switched_nothing_is_open_twice_or_fed_while_off(turns: list[tuple[bool, int, int]]) -> None:
    async def lived() -> None:
        clock = VirtualClock()
        camera, switch = Camera(clock), Switch()
        camera.closing = partial(asyncio.sleep, 0)
        fed: list[bool] = []
        task = asyncio.create_task(
            supervise(
                camera,
                feed=lambda item: fed.append(switch.on),
                mark=lambda name, state: None,
                clock=clock,
                metrics=Metrics(),
                switch=switch,
            )
        )
        for on, loops, ms in turns:
            switch.turn(on=on)
            for _ in range(loops):
                await asyncio.sleep(0)
            await pass_by(clock, clock.now_ns() + ms * MS)
            assert (camera.open == 1) == on
            assert tuple(switch.opened) == (("camera",) if on else ())
        assert all(fed)
        task.cancel()
        await asyncio.wait([task])
        assert camera.open == 0

    asyncio.run(lived())


async def test_the_microphone_and_the_camera_are_let_go_of_and_taken_again(pulse: Pulse, tmp_path: Path) -> None:
    """A real sound server, a real stream over the network, and a file."""
    server, video = VideoServer(), make_video(tmp_path / "video.mp4", seconds=60)
    server.start()
    found: asyncio.Queue[Decision] = asyncio.Queue()
    sources = (CAMERA, MICROPHONE, Source("film", VISION))
    p = pipeline(RealClock(), ScriptedEncoder(VISION, happy), ScriptedEncoder(AUDIO, happy), sources=sources)
    sensors: list[Sensor] = [
        CameraSensor("camera", device=server.url),
        CameraSensor("film", device=str(video)),
        MicrophoneSensor("microphone"),
    ]
    onlooker = Onlooker()
    agent = LiveAgent(p, sensors=sensors, clock=RealClock(), sinks=[found.put_nowait], observers=[onlooker])
    task = asyncio.create_task(agent.run())

    async def until(wanted: Callable[[Decision], bool]) -> None:
        async with asyncio.timeout(60):
            while not wanted(await found.get()):
                pass

    def all_live(decision: Decision) -> bool:
        return onlooker.live == {"camera", "film", "microphone"} and {VISION, AUDIO} <= decision.modalities.keys()

    await until(all_live)
    assert len(await asyncio.to_thread(pulse.recorded_by)) == 1
    assert str(video) in opened_files()
    assert await agent.pause() == ()
    assert await asyncio.to_thread(pulse.recorded_by) == []
    assert str(video) not in opened_files()
    assert await asyncio.to_thread(server.left)
    await until(lambda decision: decision.missing == dict.fromkeys(Modality, Absence.DISABLED))
    server.start()
    agent.resume()
    await until(all_live)
    assert len(await asyncio.to_thread(pulse.recorded_by)) == 1
    task.cancel()
    await asyncio.wait([task])
    p.close()
    server.cut()


async def test_a_device_whose_driver_does_not_let_go_is_named_until_it_does(pulse: Pulse) -> None:
    """The sound server stands still; to close its stream waits for it."""
    p, onlooker = pipeline(RealClock(), ScriptedEncoder(AUDIO, happy), sources=(MICROPHONE,)), Onlooker()
    heard: asyncio.Queue[Decision] = asyncio.Queue()
    sensor = MicrophoneSensor("microphone")
    agent = LiveAgent(p, sensors=[sensor], clock=RealClock(), sinks=[heard.put_nowait], observers=[onlooker])
    task = asyncio.create_task(agent.run())
    async with asyncio.timeout(60):
        while AUDIO not in (await heard.get()).modalities:
            pass
    driver = next(thread for thread in threading.enumerate() if thread.name == "microphone driver")
    pulse.freeze()
    try:
        assert await agent.pause() == ("microphone",)
    finally:
        pulse.thaw()
    await asyncio.to_thread(driver.join, 30)
    assert agent.open == ()
    task.cancel()
    await asyncio.wait([task])
    p.close()


def opened_files() -> set[str]:
    """The files that this process has open."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(fd.readlink()))
    return found
