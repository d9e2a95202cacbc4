"""Delivery policies: recorded cases from their definitions, laws for any input, and each with a slow reader."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from agent.delivery.mailbox import Mailbox
from agent.delivery.policy import Delivery, Latest, MaxAge, NeverDrop, Queue, Reason, Throttle
from agent.seams import SensorError
from agent.types import Sample, Watermark
from sensors.bridge import Bridge
from sensors.camera import CameraSensor
from sensors.video import Format, open_video
from tests.reading import WAIT_S, read_samples
from tests.samples import frame
from tests.streams import make_video

EVER = 1 << 60


def drained(box: Mailbox[Sample], now_ns: int) -> list[Sample | Watermark]:
    items = []
    while (item := box.take(now_ns)) is not None:
        items.append(item)
    return items


def run(
    delivery: Delivery, arrivals: Iterable[tuple[int, int]], takes: Iterable[int], end: int
) -> tuple[list[int], dict[str, int]]:
    """The stamps of what a reader gets that takes one item at each of `takes`, and at `end` what is left; the drops.

    `arrivals` are (arrival, stamp). At one instant things arrive before they are taken. All in ms.
    """
    box: Mailbox[Sample] = Mailbox(delivery)
    events = sorted([(at, 0, stamp) for at, stamp in arrivals] + [(at, 1, 0) for at in takes])
    got: list[Sample | Watermark | None] = []
    for at, takes_one, stamp in events:
        if takes_one:
            got.append(box.take(at * MS))
        else:
            box.put(frame(stamp * MS), at * MS)
    got += drained(box, end * MS)
    return [item.end_ns // MS for item in got if isinstance(item, Sample)], dict(box.drops)


def fresh(*stamps: int) -> list[tuple[int, int]]:
    """Arrivals at the instant of capture."""
    return [(stamp, stamp) for stamp in stamps]


THIRTY_HZ = (0, 33, 67, 100, 133, 167, 200, 233, 267, 300)

CASES = [
    # A receiver that needs 500 ms for messages that come each 100 ms gets what is newest when it is free.
    (Latest(), fresh(*range(0, 1100, 100)), [0, 500, 1000], [0, 500, 1000], {"overflow": 8}),
    (Latest(), fresh(0, 10, 20), [], [20], {"overflow": 2}),
    (Latest(), fresh(0, 10, 20), [0, 10, 20], [0, 10, 20], {}),
    (Latest(), [(0, 50), (10, 40)], [], [40], {"overflow": 1}),  # newest by arrival, not by stamp
    (Queue(3), fresh(*range(10)), [], [7, 8, 9], {"overflow": 7}),
    (Queue(3), fresh(0, 1, 2, 3, 4, 5), [2, 4], [0, 2, 3, 4, 5], {"overflow": 1}),
    (Queue(3), fresh(0, 1, 2), [], [0, 1, 2], {}),
    # Dropped is what is older than the limit, not what is exactly as old.
    (MaxAge(200 * MS), fresh(99, 100, 101, 300), [], [100, 101, 300], {"aged": 1}),
    (MaxAge(200 * MS), [(500, 299), (500, 300), (500, 400)], [500, 500], [300, 400], {"aged": 1}),  # held up on its way
    (MaxAge(200 * MS), [(0, 300), (300, 0)], [], [300], {"aged": 1}),  # out of order: each by its own age
    (MaxAge(200 * MS, size=2), [(10, 10), (20, 20), (300, 300)], [], [300], {"aged": 2}),
    (MaxAge(400 * MS, size=2), [(10, 10), (20, 20), (300, 300)], [], [20, 300], {"overflow": 1}),
    # The first of each interval: 10 Hz of 30.
    (Throttle(100 * MS), fresh(*THIRTY_HZ), THIRTY_HZ, [0, 100, 200, 300], {"throttled": 6}),
    (Throttle(100 * MS), [(1000 - t, t) for t in THIRTY_HZ[::-1]], [], [300, 167, 33], {"throttled": 7}),
    # Jitter: one of each interval all the same, and the intervals stay where they are.
    (Throttle(100 * MS), fresh(0, 99, 133, 199, 201, 299, 301), [], [0, 133, 201, 301], {"throttled": 3}),
    (Throttle(100 * MS), fresh(0, 1050, 1090, 1100), [], [0, 1050, 1100], {"throttled": 1}),
    (Throttle(100 * MS), [(0, 0), (10, 100), (20, 99), (30, 0)], [], [0, 100], {"throttled": 2}),  # late, no jump
    (Throttle(100 * MS), [(0, 1000), (10, 899), (20, 950), (30, 999)], [], [1000, 899, 999], {"throttled": 1}),
    (Throttle(100 * MS), [(0, 1000), (10, 900), (20, 1100)], [], [1000, 1100], {"throttled": 1}),
    (Throttle(100 * MS, size=1), fresh(0, 50, 100), [], [100], {"throttled": 1, "overflow": 1}),
    (NeverDrop(2), fresh(0, 1, 2, 3), [1, 2], [0, 1, 2, 3], {}),
    (NeverDrop(2), fresh(0, 1, 2, 3), [], [0, 1], {"refused": 2}),  # by one who did not wait
    (NeverDrop(2), [(0, 5), (900_000, 3)], [], [5, 3], {}),
]


@pytest.mark.parametrize(("delivery", "arrivals", "takes", "kept", "dropped"), CASES)
def test_recorded_cases(
    delivery: Delivery,
    arrivals: list[tuple[int, int]],
    takes: list[int],
    kept: list[int],
    dropped: dict[str, int],
) -> None:
    end = max(at for at, _ in arrivals)
    assert run(delivery, arrivals, takes, end) == (kept, dropped)


def test_put_says_what_it_cost() -> None:
    assert Mailbox[Sample](Latest()).put(frame(0), 0) is None
    costs: list[tuple[Delivery, Reason]] = [
        (Latest(), Reason.OVERFLOW),
        (MaxAge(1, size=1), Reason.AGED),
        (Throttle(2, size=1), Reason.THROTTLED),
        (NeverDrop(1), Reason.REFUSED),
    ]
    for delivery, reason in costs:
        box: Mailbox[Sample] = Mailbox(delivery)
        box.put(frame(0), 0)
        assert box.put(frame(1), 5) is reason
        assert box.drops == {reason: 1}


def test_of_marks_side_by_side_the_furthest_stays_in_its_place() -> None:
    box: Mailbox[Sample] = Mailbox(Queue(2))
    first, second, third = (frame(t) for t in (1, 2, 3))
    for item in (first, Watermark("a", 1), second, Watermark("a", 2), Watermark("b", 9), Watermark("a", 1)):
        box.put(item, 0)
    assert len(box) == 2
    box.put(third, 0)  # `first` goes, its mark does not
    assert drained(box, 0) == [Watermark("a", 1), second, Watermark("a", 2), Watermark("b", 9), third]
    assert box.empty


def test_marks_that_come_to_stand_side_by_side_are_one() -> None:
    box: Mailbox[Sample] = Mailbox(Latest())
    for n in range(1000):
        box.put(frame(n), 0)
        box.put(Watermark("camera", n), 0)
    last = box.take(0), box.take(0), box.take(0)
    assert last[0] == Watermark("camera", 998)
    assert isinstance(last[1], Sample)
    assert last[2] == Watermark("camera", 999)
    assert box.empty
    assert box.drops == {"overflow": 999}


def test_what_was_asked_for_is_not_asked_for_twice() -> None:
    box: Mailbox[Sample] = Mailbox(Throttle(10, size=9))
    for t in (0, 0, 5, 10, 19, 20):
        if box.admits(t):
            box.put(frame(t), t)
    box.put(frame(20), 20)
    assert [item.end_ns for item in drained(box, 20) if isinstance(item, Sample)] == [0, 10, 20]
    assert box.drops == {"throttled": 4}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Queue(0),
        lambda: Queue(1025),
        lambda: MaxAge(0),
        lambda: Throttle(-1),
        lambda: NeverDrop(0),
        lambda: Throttle(1, size=0),
    ],
)
def test_a_policy_that_makes_no_sense_can_not_be_built(make: Callable[[], Delivery]) -> None:
    with pytest.raises(ValueError, match="from 1 to 1024 items may wait, and a time is above 0"):
        make()


sizes = st.integers(1, 5)
policies = (
    st.just(Latest())
    | st.builds(Queue, sizes)
    | st.builds(MaxAge, st.integers(1, 40), sizes)
    | st.builds(Throttle, st.integers(1, 40), sizes)
    | st.builds(NeverDrop, sizes)
)
stamps = st.integers(-50, 200)
steps = st.lists(
    st.builds(frame, stamps) | st.builds(Watermark, st.sampled_from("abc"), stamps) | st.just("take"), max_size=60
)
"""What is put, one a tick, and when the reader takes."""


def followed(
    delivery: Delivery, script: list[Sample | Watermark | str]
) -> tuple[list[Sample | Watermark], Counter[str]]:
    """What came out, and the drops."""
    box: Mailbox[Sample] = Mailbox(delivery)
    out = []
    for now_ns, step in enumerate(script):
        if isinstance(step, str):
            out.append(box.take(now_ns))
        else:
            box.put(step, now_ns)
        assert len(box) <= delivery.size
    return [item for item in [*out, *drained(box, len(script))] if item is not None], box.drops


@given(policies, steps)
def test_each_item_is_delivered_once_and_in_order_or_counted(
    delivery: Delivery, script: list[Sample | Watermark | str]
) -> None:
    out, drops = followed(delivery, script)
    put = [step for step in script if isinstance(step, Sample)]
    got = [item for item in out if isinstance(item, Sample)]
    places = [put.index(item) for item in got]
    assert places == sorted(set(places))
    assert len(got) + drops.total() == len(put)


@given(policies, steps)
def test_no_mark_is_lost_or_overtakes(delivery: Delivery, script: list[Sample | Watermark | str]) -> None:
    """What a mark says comes after the items that were put before it, and before those that were put after it."""
    out, _ = followed(delivery, script)
    place = {id(item): n for n, item in enumerate(script)}
    for n, step in enumerate(script):
        if not isinstance(step, Watermark):
            continue
        said = next(
            k
            for k, item in enumerate(out)
            if isinstance(item, Watermark) and item.source == step.source and item.t_ns >= step.t_ns
        )
        assert all(place[id(item)] < n for item in out[:said] if isinstance(item, Sample))
    for k, item in enumerate(out):
        if isinstance(item, Watermark):
            assert all(place[id(later)] > place[id(item)] for later in out[k:] if isinstance(later, Sample))


@given(policies, steps)
def test_memory_is_bounded(delivery: Delivery, script: list[Sample | Watermark | str]) -> None:
    box: Mailbox[Sample] = Mailbox(delivery)
    for now_ns, step in enumerate(script):
        if not isinstance(step, str):
            box.put(step, now_ns)
    held = drained(box, -EVER)  # an instant at which nothing is old
    assert sum(isinstance(item, Sample) for item in held) <= delivery.size
    assert sum(isinstance(item, Watermark) for item in held) <= 3 * (delivery.size + 1)


@given(sizes, st.lists(stamps, max_size=60), st.randoms(use_true_random=False))
def test_never_drop_loses_nothing_of_one_who_waits(size: int, ends_ns: list[int], random: object) -> None:
    box: Mailbox[Sample] = Mailbox(NeverDrop(size))
    put = [frame(end_ns) for end_ns in ends_ns]
    got: list[Sample | Watermark | None] = []
    for now_ns, item in enumerate(put):
        while box.refuses:
            got.append(box.take(now_ns))
        box.put(item, now_ns)
    assert [*got, *drained(box, EVER)] == put
    assert not box.drops


@given(st.lists(stamps, min_size=1, max_size=30))
def test_latest_keeps_one_and_it_is_the_newest(ends_ns: list[int]) -> None:
    box: Mailbox[Sample] = Mailbox(Latest())
    put = [frame(end_ns) for end_ns in ends_ns]
    for item in put:
        box.put(item, 0)
    assert drained(box, EVER) == put[-1:]


@given(steps)
def test_latest_is_a_queue_of_one(script: list[Sample | Watermark | str]) -> None:
    assert followed(Latest(), script) == followed(Queue(1), script)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 100), stamps), max_size=40))
def test_nothing_is_delivered_that_is_too_old_and_nothing_else_is_left_out(
    age_ns: int, arrivals: list[tuple[int, int]]
) -> None:
    box: Mailbox[Sample] = Mailbox(MaxAge(age_ns))
    now_ns = max((at for at, _ in arrivals), default=0)
    for at, end_ns in arrivals:
        box.put(frame(end_ns), at)
    kept = [item.end_ns for item in drained(box, now_ns) if isinstance(item, Sample)]
    assert kept == [end_ns for _, end_ns in arrivals if now_ns - end_ns <= age_ns]


@given(st.integers(1, 40), st.lists(st.integers(0, 30), max_size=60))
def test_throttle_keeps_the_first_of_each_interval(interval_ns: int, gaps_ns: list[int]) -> None:
    ends_ns = [sum(gaps_ns[: n + 1]) for n in range(len(gaps_ns))]
    first_of: dict[int, int] = {}
    for end_ns in ends_ns:
        first_of.setdefault((end_ns - ends_ns[0]) // interval_ns, end_ns)
    box: Mailbox[Sample] = Mailbox(Throttle(interval_ns, size=64))
    for end_ns in ends_ns:
        box.put(frame(end_ns), 0)
    assert [item.end_ns for item in drained(box, 0) if isinstance(item, Sample)] == list(first_of.values())


@given(st.integers(1, 40), st.lists(stamps, max_size=60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_what_throttle_keeps_depends_on_the_stamps_alone(
    interval_ns: int, ends_ns: list[int], takes: list[bool]
) -> None:
    """Whenever things come and whoever asks first."""
    results = []
    for now_ns, asks in ((0, False), (EVER, True)):
        box: Mailbox[Sample] = Mailbox(Throttle(interval_ns, size=64))
        kept: list[Sample | Watermark | None] = []
        for end_ns, takes_one in zip(ends_ns, takes, strict=False):
            if not asks or box.admits(end_ns):
                box.put(frame(end_ns), now_ns)
            if takes_one and asks:
                kept.append(box.take(now_ns))
        kept += drained(box, now_ns)
        results.append(([item.end_ns for item in kept if isinstance(item, Sample)], box.drops))
    assert results[0] == results[1]


def bridged(delivery: Delivery, drive: Callable[[Bridge[Sample]], None], drops: Counter[str]) -> Bridge[Sample]:
    return Bridge("sensor", drive=drive, delivery=delivery, stall_s=WAIT_S, open_s=WAIT_S, drops=drops)


async def held_up(delivery: Delivery, items: list[Sample | Watermark]) -> tuple[list[Sample | Watermark], Counter[str]]:
    """What a reader gets that is held up after the first item until the driver has put all the others; the drops."""
    drops: Counter[str] = Counter()
    held, done = threading.Event(), threading.Event()

    def drive(bridge: Bridge[Sample]) -> None:
        bridge.put(items[0])
        held.wait(WAIT_S)
        for item in items[1:]:
            bridge.put(item)
        done.set()

    bridge = bridged(delivery, drive, drops)
    got = []
    async with aclosing(bridge.items()) as stream:
        async for item in stream:
            got.append(item)
            held.set()
            assert done.wait(WAIT_S)  # blocks the loop, as whatever is slow in it would
    return got, drops


async def test_live_latest() -> None:
    items: list[Sample | Watermark] = [frame(n) for n in range(10)]
    assert await held_up(Latest(), items) == ([items[0], items[9]], {"overflow": 8})


async def test_live_queue() -> None:
    items: list[Sample | Watermark] = [frame(n) for n in range(10)]
    assert await held_up(Queue(3), items) == ([items[0], *items[7:]], {"overflow": 6})


async def test_live_max_age() -> None:
    now_ns = time.monotonic_ns()
    items: list[Sample | Watermark] = [frame(now_ns - hours * 3600 * SECOND) for hours in (0, 1, 2, 0, 3, 0)]
    got, drops = await held_up(MaxAge(1800 * SECOND), items)
    assert (got, drops) == ([items[0], items[3], items[5]], {"aged": 3})


async def test_live_throttle() -> None:
    items: list[Sample | Watermark] = [frame(t * MS) for t in THIRTY_HZ]
    got, drops = await held_up(Throttle(100 * MS), items)
    assert [item.end_ns // MS for item in got if isinstance(item, Sample)] == [0, 100, 200, 300]
    assert drops == {"throttled": 6}


async def test_live_never_drop_makes_the_driver_wait() -> None:
    items = [frame(n) for n in range(200)]
    got: list[Sample | Watermark] = []
    ahead: list[int] = []

    def drive(bridge: Bridge[Sample]) -> None:
        for n, item in enumerate(items):
            bridge.put(item)
            ahead.append(n + 1 - len(got))

    bridge = bridged(NeverDrop(3), drive, Counter())
    async with asyncio.timeout(WAIT_S), aclosing(bridge.items()) as stream:
        async for item in stream:
            got.append(item)
    assert got == items
    # Three wait, and one is on its way from the mailbox into our list.
    assert max(ahead) <= 4


async def test_live_a_driver_that_waits_ends_when_the_reader_leaves() -> None:
    full = threading.Event()
    drops: Counter[str] = Counter()

    def drive(bridge: Bridge[Sample]) -> None:
        bridge.put(frame(0))
        bridge.put(frame(1))
        full.set()
        while not bridge.stopping.is_set():
            bridge.put(frame(2))

    bridge = bridged(NeverDrop(1), drive, drops)
    async with asyncio.timeout(WAIT_S), aclosing(bridge.items()) as stream:
        await anext(stream)
        assert full.wait(WAIT_S)
    assert not bridge.hangs
    assert not drops


@pytest.mark.parametrize("delivery", [Latest(), Queue(2), MaxAge(1), Throttle(SECOND), NeverDrop(9)])
async def test_live_closing_marks_and_the_end_come_whatever_the_policy(delivery: Delivery) -> None:
    marks: list[Watermark] = [Watermark("camera", n) for n in range(8)]
    items = [item for n, mark in enumerate(marks) for item in (frame(n), mark)]
    got, _ = await held_up(delivery, [Watermark("camera", -1), *items])
    assert [item for item in got if isinstance(item, Watermark)][-1] == marks[-1]
    assert got[-1] == marks[-1]


@pytest.mark.parametrize("asks", [False, True])
async def test_live_a_driver_whose_items_are_not_wanted_does_not_stall(
    monkeypatch: pytest.MonkeyPatch, *, asks: bool
) -> None:
    loop = asyncio.get_running_loop()
    real, ahead_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead_s)

    async def turns() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def drive(bridge: Bridge[Sample]) -> None:
        nonlocal ahead_s
        bridge.put(frame(0))
        for _ in range(5):
            if asks:
                assert not bridge.admits(0)
            else:
                bridge.put(frame(0))
            asyncio.run_coroutine_threadsafe(turns(), loop).result(WAIT_S)
            ahead_s += 0.6 * WAIT_S

    bridge = bridged(Throttle(SECOND), drive, Counter())
    assert len([item async for item in bridge.items()]) == 1


class CountingCapture:
    """A capture that counts the pictures that were asked of it."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self.retrieved = 0

    def retrieve(self) -> Any:
        self.retrieved += 1
        return self._capture.retrieve()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)


async def test_a_file_is_thinned_out_by_its_own_stamps_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "fast.mp4", seconds=0.5, fps=40)
    opened: list[CountingCapture] = []

    def opening(name: str, device: str, *, wanted: Format, timeout_ns: int) -> CountingCapture:
        opened.append(CountingCapture(open_video(name, device, wanted=wanted, timeout_ns=timeout_ns)))
        return opened[-1]

    monkeypatch.setattr("sensors.camera.open_video", opening)
    sensor = CameraSensor("camera", device=str(video), delivery=Throttle(100 * MS))
    samples = await read_samples(sensor, 100)
    assert [round((sample.t_ns - samples[0].t_ns) / MS) for sample in samples] == [0, 100, 200, 300, 400]
    assert sensor.drops == {"throttled": 15}
    assert [capture.retrieved for capture in opened] == [5]


@pytest.mark.parametrize("device", ["0", "/dev/video0", "rtsp://user:secret@host/x", "videotestsrc ! appsink"])
def test_a_live_camera_can_not_promise_to_drop_nothing(device: str) -> None:
    with pytest.raises(
        SensorError, match=r"camera: .* is live and can not wait.*set `delivery` to \"queue\(4\)\""
    ) as caught:
        CameraSensor("camera", device=device, delivery=NeverDrop())
    assert "secret" not in str(caught.value)
