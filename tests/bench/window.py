"""What the sliding window costs a sample, at 30 frames/s + 50 audio blocks/s and at multiples of those rates."""

import heapq
import statistics
import time

import numpy as np

from agent.clock import MS, SECOND
from agent.types import Audio, Frame, Modality, Sample, Source
from agent.window import Bounds, SlidingWindow

SPANS_NS = {Modality.VISION: SECOND, Modality.AUDIO: 3 * SECOND}
RUNS = 5
SAMPLES = 40_000


def stream(factor: int) -> list[Sample]:
    """The samples of both sources in the order of their ends."""
    frame, block = Frame(np.zeros((2, 2, 3), np.uint8)), Audio(np.zeros(4, np.float32))
    eye = (Sample("camera", frame, t, t, t) for t in range(SECOND // 30, 1 << 60, SECOND // (30 * factor)))
    length = SECOND // (50 * factor)
    ear = (Sample("microphone", block, t - length, t, t) for t in range(length, 1 << 60, length))
    both = heapq.merge(eye, ear, key=lambda sample: sample.end_ns)
    return [sample for sample, _ in zip(both, range(SAMPLES), strict=False)]


def run_us(samples: list[Sample]) -> float:
    """µs a sample: adding it, asking whether a window is due, and cutting those that are."""
    window = SlidingWindow(
        [Source("camera", Modality.VISION), Source("microphone", Modality.AUDIO)],
        spans_ns=SPANS_NS,
        hop_ns=500 * MS,
        lateness_ns=250 * MS,
        bounds=Bounds(count=1_000_000),
    )
    begin = time.perf_counter_ns()
    for sample in samples:
        window.add(sample)
        if sample.end_ns >= window.next_end_ns:
            window.cut(sample.end_ns)
    return (time.perf_counter_ns() - begin) / len(samples) / 1_000


def main() -> None:
    streams = {factor: stream(factor) for factor in (1, 10, 100)}
    found: dict[int, list[float]] = {factor: [] for factor in streams}
    for _ in range(RUNS):  # in turn, so that a slower moment of the machine meets all alike
        for factor, samples in streams.items():
            found[factor].append(run_us(samples))
    base = statistics.median(found[1])
    for factor, us in found.items():
        median = statistics.median(us)
        print(f"{factor:4d}x of 30 + 50 samples/s: {median:.2f} µs a sample, {median / base:.2f} of 1x")
