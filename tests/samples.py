"""Samples for tests: small payloads with the stamps that a test is about; no picture is black or like its neighbour."""

import numpy as np

from agent.types import Audio, Frame, Payload, Sample, Text


def frame(end_ns: int, source: str = "camera", arrival_ns: int | None = None) -> Sample:
    grey = np.full((2, 2, 3), 100 + end_ns // 1_000_000 % 97, np.uint8)
    return _sample(source, Frame(grey), end_ns, end_ns, arrival_ns)


def audio(t_ns: int, end_ns: int, source: str = "microphone", arrival_ns: int | None = None) -> Sample:
    return _sample(source, Audio(np.array([0.1, -0.1, 0.1, -0.1], np.float32)), t_ns, end_ns, arrival_ns)


def text(end_ns: int, words: str = "hello", source: str = "text", arrival_ns: int | None = None) -> Sample:
    return _sample(source, Text(words), end_ns, end_ns, arrival_ns)


def _sample(source: str, payload: Payload, t_ns: int, end_ns: int, arrival_ns: int | None) -> Sample:
    return Sample(source, payload, t_ns, end_ns, end_ns if arrival_ns is None else arrival_ns)
