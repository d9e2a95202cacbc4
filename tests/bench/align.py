"""What lining up costs a sample: the window and the set policies, against what people use else.

Three streams of 30, 50 and 1 samples/s with jittered stamps, and multiples of these rates, the same stamps for all.
The two others: ROS message_filters' Python synchroniser, written anew from its description (per topic a dictionary of
the newest stamps; each arrival goes through every stamp of the other topics), and the join that one writes in an
evening (append, sort, bisect the others for the nearest).
"""

import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import product
from operator import truediv

from agent.align import ApproximateTime, ExactTime
from agent.clock import MS, SECOND
from agent.types import Modality, Sample, Source
from agent.window import Bounds, SlidingWindow
from tests.samples import audio, frame, text

FACTORS = (1, 10, 100)
RATES_HZ = (30, 50, 1)
SLOP_NS = 20 * MS
RUNS = 5
SAMPLES = 8_000
Arrival = tuple[int, int]
"""Topic and stamp."""
Feed = Callable[[Arrival], object]


def arrivals(factor: int) -> list[Arrival]:
    """The samples of all streams, in the order of their jittered stamps; each stream's stamps rise."""
    chance = random.Random(factor)

    def stream(topic: int, period_ns: int) -> Iterator[tuple[int, int]]:
        t_ns = chance.randrange(period_ns)
        while True:
            yield t_ns + chance.randrange(period_ns // 5), topic
            t_ns += period_ns

    duration_ns = SAMPLES * SECOND // (sum(RATES_HZ) * factor)
    found = []
    for topic, rate_hz in enumerate(RATES_HZ):
        for t_ns, _ in stream(topic, SECOND // (rate_hz * factor)):
            if t_ns > duration_ns:
                break
            found.append((t_ns, topic))
    return [(topic, t_ns) for t_ns, topic in sorted(found)]


class SlopSynchronizer:
    """ROS message_filters' Python ``ApproximateTimeSynchronizer``, from its description."""

    def __init__(self, topics: int, queue_size: int, slop_ns: int) -> None:
        self._queues: list[dict[int, object]] = [{} for _ in range(topics)]
        self._queue_size, self._slop_ns = queue_size, slop_ns

    def add(self, topic: int, t_ns: int, item: object) -> list[tuple[object, ...]]:
        queue = self._queues[topic]
        queue[t_ns] = item
        while len(queue) > self._queue_size:
            del queue[min(queue)]
        near: list[list[int]] = []
        for index, other in enumerate(self._queues):
            if index == topic:
                near.append([t_ns])
                continue
            close = sorted((abs(t - t_ns), t) for t in other if abs(t - t_ns) <= self._slop_ns)
            if not close:
                return []
            near.append([t for _, t in close])
        for stamps in product(*near):
            if max(stamps) - min(stamps) < self._slop_ns:
                return [tuple(queue.pop(t) for queue, t in zip(self._queues, stamps, strict=True))]
        return []


class SortedJoin:
    """For each sample of the first stream the nearest of the others: append, sort, bisect."""

    def __init__(self, topics: int, queue_size: int, slop_ns: int) -> None:
        self._queues: list[list[tuple[int, object]]] = [[] for _ in range(topics)]
        self._queue_size, self._slop_ns = queue_size, slop_ns

    def add(self, topic: int, t_ns: int, item: object) -> list[tuple[object, ...]]:
        self._queues[topic] = sorted([*self._queues[topic], (t_ns, item)])[-self._queue_size :]
        if topic != 0:
            return []
        found: list[object] = [item]
        for other in self._queues[1:]:
            at = bisect_left(other, (t_ns,))
            close = [(abs(t - t_ns), i) for i, (t, _) in enumerate(other[max(0, at - 1) : at + 1], max(0, at - 1))]
            if not close or min(close)[0] > self._slop_ns:
                return []
            found.append(other[min(close)[1]][1])
        return [tuple(found)]


def sets(policy: ExactTime | ApproximateTime | SlopSynchronizer | SortedJoin) -> Feed:
    return lambda arrival: policy.add(arrival[0], arrival[1], arrival)


def window(samples: list[Sample]) -> Feed:
    """Adds the next sample, asks whether a window is due, and cuts those that are."""
    sources = [Source("camera", Modality.VISION), Source("microphone", Modality.AUDIO), Source("text", Modality.TEXT)]
    spans_ns = {Modality.VISION: SECOND, Modality.AUDIO: 3 * SECOND, Modality.TEXT: 6 * SECOND}
    cutter = SlidingWindow(
        sources, spans_ns=spans_ns, hop_ns=500 * MS, lateness_ns=250 * MS, bounds=Bounds(count=1_000_000)
    )
    following = iter(samples)

    def feed(_: Arrival) -> None:
        sample = next(following)
        cutter.add(sample)
        if sample.end_ns >= cutter.next_end_ns:
            cutter.cut(sample.end_ns)

    return feed


CONTENDERS: dict[str, Callable[[list[Sample]], Feed]] = {
    "window": window,
    "exact, queue 10": lambda _: sets(ExactTime(3, 10)),
    "exact, queue 100": lambda _: sets(ExactTime(3, 100)),
    "approximate, queue 10": lambda _: sets(ApproximateTime(3, 10)),
    "approximate, queue 100": lambda _: sets(ApproximateTime(3, 100)),
    "ROS' Python, queue 10": lambda _: sets(SlopSynchronizer(3, 10, SLOP_NS)),
    "ROS' Python, queue 100": lambda _: sets(SlopSynchronizer(3, 100, SLOP_NS)),
    "sorted join, queue 10": lambda _: sets(SortedJoin(3, 10, SLOP_NS)),
    "sorted join, queue 100": lambda _: sets(SortedJoin(3, 100, SLOP_NS)),
}


def run_us(feed: Feed, stream: list[Arrival]) -> float:
    begin = time.thread_time_ns()  # processor time: what else runs on the machine does not count
    for arrival in stream:
        feed(arrival)
    return (time.thread_time_ns() - begin) / len(stream) / 1_000


def main() -> None:
    make = (frame, lambda t_ns: audio(t_ns, t_ns), text)
    found: dict[tuple[str, int], list[float]] = {}
    for factor in FACTORS:
        stream = arrivals(factor)
        samples = [make[topic](t_ns) for topic, t_ns in stream]
        for _ in range(RUNS):  # in turn, so that a slower moment of the machine meets all alike
            for name, contender in CONTENDERS.items():
                found.setdefault((name, factor), []).append(run_us(contender(samples), stream))
    print(f"µs a sample at 1x, 10x, 100x of {', '.join(map(str, RATES_HZ))} samples/s; medians of {RUNS} runs")
    for name in CONTENDERS:
        medians = [statistics.median(found[name, factor]) for factor in FACTORS]
        print(f"{name:<24}" + "".join(f"{us:9.2f}" for us in medians))
    for size in (10, 100):
        pairs = {f: (found[f"ROS' Python, queue {size}", f], found[f"approximate, queue {size}", f]) for f in FACTORS}
        ratios = [statistics.median(map(truediv, theirs, ours)) for theirs, ours in pairs.values()]
        print(f"ROS' Python / approximate, queue {size}: " + ", ".join(f"{ratio:.1f}" for ratio in ratios))
    share = 100 * sum(RATES_HZ) * statistics.median(found["window", 1]) / 1e6
    print(f"the window at {sum(RATES_HZ)} samples/s: {share:.3f} % of one core")
