from itertools import pairwise

from agent.clock import MS, SECOND, VirtualClock, WallClock
from agent.remote.clocks import BURST, CLOCKS, FORGET_NS, LOST_NS, PAUSE_NS, SPACING_NS, ClockId, Probe, RemoteClocks

HOUR_NS = 3600 * SECOND
PI, TV = ClockId("pi", "a"), ClockId("tv", "b")


def probes(clocks: RemoteClocks, clock: VirtualClock, until_ns: int) -> list[tuple[int, Probe]]:
    """All probes that fall due, with when."""
    sent = []
    while (due_ns := clocks.due_ns()) is not None and due_ns <= until_ns:
        clock.advance_to(due_ns)
        while probe := clocks.probe():
            sent.append((clock.now_ns(), probe))
    clock.advance_to(until_ns)
    return sent


def known(clock: VirtualClock, *heard: ClockId) -> RemoteClocks:
    clocks = RemoteClocks(clock)
    for one in heard:
        clocks.hear(one)
    return clocks


def test_a_clock_is_probed_in_bursts_as_long_as_it_is_heard_of() -> None:
    clock = VirtualClock(SECOND)
    sent = [t_ns for t_ns, _ in probes(known(clock, PI), clock, SECOND + FORGET_NS + 60 * SECOND)]
    gaps = [after - before for before, after in pairwise(sent)]
    assert sent[0] == SECOND
    assert gaps[:BURST] == [SPACING_NS] * (BURST - 1) + [PAUSE_NS]
    assert max(sent) <= SECOND + FORGET_NS


def test_an_answer_counts_once_from_the_clock_that_was_asked_and_in_time() -> None:
    clock = VirtualClock(SECOND)
    clocks = known(clock, PI, TV)
    probe = clocks.probe()
    assert probe is not None
    assert probe.clock == PI
    assert not clocks.answer(Probe(TV, probe.number), 5, 5, arrival_ns=SECOND + MS)
    assert not clocks.answer(Probe(PI, probe.number + 1), 5, 5, arrival_ns=SECOND + MS)
    assert clocks.offset(PI) is None
    assert clocks.offset(TV) is None
    assert clocks.answer(probe, 9 * SECOND, 9 * SECOND, arrival_ns=SECOND + MS)
    assert not clocks.answer(probe, 19 * SECOND, 19 * SECOND, arrival_ns=SECOND + MS)
    offset = clocks.offset(PI)
    assert offset is not None
    assert offset.at(SECOND).offset_ns == 8 * SECOND - MS // 2
    sent = probes(clocks, clock, SECOND + 3 * LOST_NS)
    late = sent[0][1]
    assert not clocks.answer(late, 9 * SECOND, 9 * SECOND, arrival_ns=clock.now_ns())


def test_there_is_news_at_first_and_once_a_burst() -> None:
    clock = VirtualClock(SECOND)
    clocks = known(clock, PI)
    news = []
    for _ in range(2 * BURST):
        due_ns = clocks.due_ns()
        assert due_ns is not None
        clock.advance_to(due_ns)
        probe = clocks.probe()
        assert probe is not None
        at_ns = clock.now_ns() + HOUR_NS
        news.append(clocks.answer(probe, at_ns, at_ns, arrival_ns=clock.now_ns()))
        clocks.hear(PI)
    assert [index for index, new in enumerate(news) if new] == [0, BURST - 1, 2 * BURST - 1]
    wall = WallClock()
    wall.calibrate(0, 0)
    report = clocks.report(PI, wall)
    assert (report["host"], report["clock"], report["offset_ns"]) == ("pi", "a", str(HOUR_NS))
    assert (report["probes"], report["answered"], report["impossible"]) == (2 * BURST, 2 * BURST, 0)


def test_what_is_remembered_is_bounded_and_who_was_silent_for_longest_goes() -> None:
    clock = VirtualClock(SECOND)
    clocks = known(clock, PI)
    probe = clocks.probe()
    assert probe is not None
    clocks.answer(probe, 0, 0, arrival_ns=SECOND)
    for count in range(CLOCKS):
        assert clocks.offset(PI) is not None
        clock.advance_to(clock.now_ns() + MS)
        clocks.hear(ClockId("flood", str(count)))
    assert clocks.offset(PI) is None
