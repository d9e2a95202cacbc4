"""What the encoders cost on the bundled session, one after the other, on one thread each."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.clock import SECOND
from agent.config import Config
from agent.types import Audio, Frame, Modality, Sample, Text, Utterance
from engines.encoders import open_encoders
from engines.models import ModelStore
from sensors.session import Session

ROOT = Path(__file__).parent.parent.parent


def took_ms(work: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begin) / 1e6


def said(name: str, took: list[float], what: str) -> None:
    ordered = sorted(took)
    p99 = ordered[round(0.99 * (len(ordered) - 1))]
    print(f"{name:8} {statistics.median(ordered):6.1f} ms median, {p99:6.1f} ms p99 of {len(took)} {what}")


def main() -> None:
    events = [e for e in Session.open(ROOT / "sensors" / "demo").events() if isinstance(e, Sample)]
    encoders, transcriber = open_encoders(Config(), ModelStore())
    assert transcriber
    frames = [e for e in events if isinstance(e.payload, Frame)][::3]
    eyes = encoders[Modality.VISION]
    said("vision", [took_ms(partial(eyes.encode, [f], f.end_ns)) for f in frames], "frames, each looked at alone")
    blocks = [e for e in events if isinstance(e.payload, Audio)]
    ears, took, utterances = encoders[Modality.AUDIO], list[float](), list[Utterance]()
    for end_ns in range(SECOND // 2, 38 * SECOND, SECOND // 2):
        part = [block for block in blocks if end_ns - 3 * SECOND < block.end_ns <= end_ns]
        begin = time.perf_counter_ns()
        utterances += ears.encode(part, end_ns).utterances
        took.append((time.perf_counter_ns() - begin) / 1e6)
    said("audio", took, "windows of 3 s, half a second of it new")
    texts = [e for e in events if isinstance(e.payload, Text)]
    reader = encoders[Modality.TEXT]
    said("text", [took_ms(partial(reader.encode, [t], t.end_ns)) for t in texts], "messages")
    said("speech", [took_ms(partial(transcriber.transcribe, u)) for u in utterances], "utterances of 4 to 5 s")
