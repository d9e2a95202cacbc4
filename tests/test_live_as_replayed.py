"""A window that is cut live equals the one that is cut in replay, whatever comes when."""

import asyncio
from functools import partial
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import MS, VirtualClock
from agent.live import LiveAgent
from agent.playback import play
from agent.seams import SensorError
from agent.types import Decided, Modality, Sample, Watermark
from agent.window import SourceState
from tests.samples import audio, frame
from tests.scripted import HOP_NS, SOURCES, ScriptedSensor, Steps, pipeline

END_NS = 20 * HOP_NS + 1
TURNS = 30
"""Turns of the loop in which everything that is due at one instant has been done."""
Arrivals = list[tuple[int, Sample | Watermark]]
Cut = tuple[int, int, bool, dict[Modality, list[int]], dict[Modality, str]]


def cut_of(decided: Decided) -> Cut:
    """What was given to be decided: end, instant of the cut, settled, ends of the samples, what is missing."""
    window = decided.window
    parts = {modality: [sample.end_ns for sample in part] for modality, part in window.parts.items()}
    return window.end_ns, window.cut_ns, window.settled, parts, dict(window.missing)


class Noted:
    """An observer that notes the windows."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []

    def fed(self, item: Sample | Watermark) -> None:
        pass

    def marked(self, source: str, state: SourceState) -> None:
        pass

    def decided(self, decided: Decided) -> None:
        self.cuts.append(cut_of(decided))


async def live(streams: list[Arrivals], fails_ns: int | None = None) -> list[Cut]:
    """The first source's stream breaks at `fails_ns`, and ends at the next try."""
    clock = VirtualClock()

    def run(arrivals: Arrivals) -> Steps:
        async def steps() -> Steps:
            for arrival_ns, item in arrivals:
                await clock.sleep_until(arrival_ns)
                yield item
            if fails_ns is not None and arrivals is streams[0]:
                await clock.sleep_until(fails_ns)
                raise SensorError("broken")

        return steps()

    sensors = [
        ScriptedSensor(source.name, source, partial(run, arrivals), partial(run, []))
        for source, arrivals in zip(SOURCES, streams, strict=True)
    ]
    p = pipeline(clock)
    noted = Noted()
    agent = asyncio.create_task(LiveAgent(p, sensors=sensors, clock=clock, sinks=[], observers=[noted]).run())
    while not agent.done():
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if (next_ns := clock.next_ns()) is not None:
            clock.advance_to(next_ns)
    await agent
    p.close()
    return noted.cuts


async def replayed(streams: list[Arrivals]) -> list[Cut]:
    clock = VirtualClock()
    p = pipeline(clock)
    events = [item for _, item in sorted((arrival for stream in streams for arrival in stream), key=lambda a: a[0])]
    cuts = [cut_of(decided) async for decided in play(events, p, clock)]
    p.close()
    return cuts


@st.composite
def arriving(draw: st.DrawFn) -> list[Arrivals]:
    """A camera, a microphone with gaps and a text source with heartbeats; each in order, late by up to two hops.

    Stamps are even and instants of arrival odd, so that nothing arrives at the very instant of a cut.
    """
    streams: list[Arrivals] = []
    for source in SOURCES:
        gaps = draw(st.lists(st.integers(1, 3 * HOP_NS // (2 * MS)), min_size=1, max_size=25))
        ends = [end * 2 * MS for end in accumulate(gaps) if end * 2 * MS < END_NS]
        delays = draw(st.lists(st.integers(0, 2 * HOP_NS // MS), min_size=len(ends), max_size=len(ends)))
        came = list(accumulate((end + delay * MS for end, delay in zip(ends, delays, strict=True)), max))
        arrivals: Arrivals = []
        for end, arrival in zip(ends, came, strict=True):
            arrival_ns = arrival + 2 * len(arrivals) + 1
            match source.modality:
                case Modality.VISION:
                    arrivals.append((arrival_ns, frame(end, arrival_ns=arrival_ns)))
                case Modality.AUDIO:
                    arrivals.append((arrival_ns, audio(end - MS, end, arrival_ns=arrival_ns)))
                case Modality.TEXT:
                    arrivals.append((arrival_ns, Watermark("text", arrival_ns)))
        streams.append([*arrivals, (END_NS + 10 * HOP_NS, Watermark(source.name, END_NS + 10 * HOP_NS))])
    return streams


@settings(max_examples=60, deadline=None)
@given(arriving())
def test_a_window_cut_live_equals_the_one_cut_in_replay(streams: list[Arrivals]) -> None:
    here, there = asyncio.run(live(streams)), asyncio.run(replayed(streams))
    before_the_end = [cut for cut in here if cut[1] < END_NS + 9 * HOP_NS]
    assert [end for end, *_ in before_the_end] == [
        before_the_end[0][0] + i * HOP_NS for i in range(len(before_the_end))
    ]
    assert before_the_end == [cut for cut in there if cut[1] < END_NS + 9 * HOP_NS]
    assert len(before_the_end) >= 20
    assert all(a[1] <= b[1] for a, b in pairwise(here))


def test_a_source_that_breaks_releases_the_window_that_waits_for_it() -> None:
    """The camera breaks 10 ms after the end of the window at 200 ms, which has all else: nobody waits on."""
    sound: Arrivals = [(t, audio(t - MS, t, arrival_ns=t)) for t in range(HOP_NS // 2, 3 * HOP_NS, HOP_NS // 2)]
    text: Arrivals = [(t, Watermark("text", t)) for t in range(HOP_NS // 2, 3 * HOP_NS, HOP_NS // 2)]
    fails_ns = 2 * HOP_NS + 10 * MS
    cuts = asyncio.run(live([[(HOP_NS, frame(HOP_NS))], sound, text], fails_ns))
    end_ns, cut_ns, settled, _, missing = cuts[1]
    assert (end_ns, cut_ns, settled) == (2 * HOP_NS, fails_ns, True)
    assert missing[Modality.VISION] == "failed"
