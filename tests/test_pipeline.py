import math
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.clock import MS, VirtualClock
from agent.deciding.encoding import Encoding
from agent.deciding.pipeline import SPEECH
from agent.playback import play
from agent.seams import EncoderError
from agent.types import Absence, Decision, Modality, Reading, Sample, Utterance, Watermark
from agent.window import SourceState
from tests.samples import audio, frame, text
from tests.scripted import HOP_NS, SOURCES, Echo, ScriptedEncoder, happy, pipeline, silent

VISION, AUDIO, TEXT = Modality
Event = Sample | Watermark


def heartbeats(until_ns: int) -> list[Event]:
    return [Watermark("text", t) for t in range(0, until_ns + 1, HOP_NS // 2)]


def merged(*streams: Sequence[Event]) -> list[Event]:
    def arrival(event: Event) -> int:
        return event.arrival_ns if isinstance(event, Sample) else event.t_ns

    return sorted((event for stream in streams for event in stream), key=arrival)


async def decisions(
    events: Sequence[Event], *encoders: ScriptedEncoder, transcriber: Echo | None = None
) -> list[Decision]:
    clock = VirtualClock()
    p = pipeline(clock, *encoders, transcriber=transcriber)
    try:
        return [decided.decision async for decided in play(events, p, clock)]
    finally:
        p.close()
        assert all(encoder.closed for encoder in encoders)


async def test_a_decision_says_what_each_modality_contributed_and_what_is_missing() -> None:
    events = merged(
        [frame(t) for t in range(0, 5 * HOP_NS, HOP_NS // 4)],
        [audio(t - HOP_NS // 5, t) for t in range(HOP_NS // 5, 5 * HOP_NS, HOP_NS // 5)],
        heartbeats(5 * HOP_NS),
    )
    eyes, ears = ScriptedEncoder(VISION, happy), ScriptedEncoder(AUDIO, silent)
    found = await decisions(events, eyes, ears, ScriptedEncoder(TEXT, silent))
    decision = found[1]
    assert [d.seq for d in found] == list(range(len(found)))
    assert (decision.id, decision.label, decision.abstained) == ("test-1", "happy", False)
    assert (decision.end_ns, decision.latency.align) == (2 * HOP_NS, 0)
    assert decision.missing == {AUDIO: Absence.SILENT, TEXT: Absence.SILENT}
    seen = decision.modalities[VISION]
    assert (seen.label, seen.contribution, seen.age_ns) == ("happy", 1.0, 0)
    assert seen.weight == pytest.approx(0.9)
    assert eyes.shown[1] == (HOP_NS * 5 // 4, HOP_NS * 6 // 4, HOP_NS * 7 // 4, 2 * HOP_NS)


async def test_a_weight_falls_with_the_age_of_the_evidence() -> None:
    events = merged([frame(HOP_NS // 2)], [audio(0, 2 * HOP_NS)], heartbeats(2 * HOP_NS))
    (first, *_) = await decisions(events, ScriptedEncoder(VISION, happy))
    assert first.modalities[VISION].weight == pytest.approx(0.9 * math.exp(-0.5))


async def test_when_nothing_is_sensed_it_abstains() -> None:
    (first, *_) = await decisions(heartbeats(2 * HOP_NS), *(ScriptedEncoder(m, happy) for m in Modality))
    assert (first.label, first.abstained, first.modalities) == (None, True, {})
    assert first.missing == {VISION: Absence.LATE, AUDIO: Absence.LATE, TEXT: Absence.SILENT}


async def test_a_modality_without_an_encoder_is_disabled() -> None:
    events = merged([frame(HOP_NS)], [audio(0, HOP_NS)], heartbeats(HOP_NS))
    (first, *_) = await decisions(events, ScriptedEncoder(AUDIO, happy))
    assert first.missing[VISION] is Absence.DISABLED


async def test_an_encoder_that_fails_leaves_its_modality_out_and_the_agent_goes_on() -> None:
    def broken(samples: Sequence[Sample]) -> Reading:
        raise EncoderError("the engine has run out of memory")

    events = merged(
        [frame(HOP_NS), frame(2 * HOP_NS)], [audio(0, HOP_NS), audio(HOP_NS, 2 * HOP_NS)], heartbeats(2 * HOP_NS)
    )
    first, second = await decisions(events, ScriptedEncoder(VISION, broken), ScriptedEncoder(AUDIO, happy))
    for decision in (first, second):
        assert decision.missing[VISION] is Absence.FAILED
        assert decision.label == "happy"


async def test_texts_in_languages_that_nobody_reads_are_counted() -> None:
    p = pipeline(clock := VirtualClock(), ScriptedEncoder(TEXT, lambda samples: Reading(None, unread=2)))
    found = [d.decision async for d in play(merged([text(HOP_NS, "Guten Tag")], heartbeats(2 * HOP_NS)), p, clock)]
    p.close()
    assert found[0].missing[TEXT] is Absence.SILENT
    assert p.metrics.counts["text.language_refused"] == 2 * len(found)


async def test_a_bug_in_an_encoder_is_not_swallowed() -> None:
    def buggy(samples: Sequence[Sample]) -> Reading:
        raise ZeroDivisionError

    events = merged([frame(HOP_NS)], [audio(0, HOP_NS)], heartbeats(HOP_NS))
    with pytest.raises(ZeroDivisionError):
        await decisions(events, ScriptedEncoder(VISION, buggy))


async def test_an_utterance_becomes_a_text_with_its_span_in_the_windows_to_come() -> None:
    said = Utterance("microphone", np.zeros(4, np.float32), HOP_NS // 4, HOP_NS // 2)

    def hears_once(samples: Sequence[Sample]) -> Reading:
        return Reading(None, (said,) if samples[-1].end_ns == HOP_NS else ())

    reader = ScriptedEncoder(TEXT, happy)
    events = merged([audio(t - HOP_NS, t) for t in range(HOP_NS, 5 * HOP_NS, HOP_NS)], heartbeats(4 * HOP_NS))
    transcriber = Echo("good morning")
    found = await decisions(events, ScriptedEncoder(AUDIO, hears_once), reader, transcriber=transcriber)
    assert transcriber.heard == [said]
    assert TEXT in found[0].missing
    assert found[1].modalities[TEXT].source == SPEECH
    assert found[1].modalities[TEXT].age_ns == 2 * HOP_NS - said.end_ns
    assert reader.shown[0] == (said.end_ns,)


async def test_an_utterance_without_words_is_no_text() -> None:
    said = Utterance("microphone", np.zeros(4, np.float32), 0, HOP_NS // 2)
    ears = ScriptedEncoder(AUDIO, lambda samples: Reading(None, (said,)))
    events = merged([audio(t - HOP_NS, t) for t in range(HOP_NS, 4 * HOP_NS, HOP_NS)], heartbeats(3 * HOP_NS))
    found = await decisions(events, ears, ScriptedEncoder(TEXT, happy), transcriber=Echo(None))
    assert all(TEXT in decision.missing for decision in found)


async def test_a_transcriber_that_fails_costs_its_words_and_nothing_else() -> None:
    class Broken(Echo):
        def transcribe(self, utterance: Utterance) -> str | None:
            raise EncoderError("out of memory")

    said = Utterance("microphone", np.zeros(4, np.float32), 0, HOP_NS // 2)
    ears = ScriptedEncoder(AUDIO, lambda samples: Reading(happy(samples).evidence, (said,)))
    events = merged([audio(t - HOP_NS, t) for t in range(HOP_NS, 4 * HOP_NS, HOP_NS)], heartbeats(3 * HOP_NS))
    found = await decisions(events, ears, transcriber=Broken("never"))
    assert len(found) == 2
    assert all(AUDIO in decision.modalities for decision in found)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probs": np.array([0.1, np.nan, 0.1])}, "its posterior is not finite"),
        ({"probs": np.array([0.5, 0.5])}, r"its posterior has the shape \(2,\); there are 3 labels"),
        ({"probs": np.array([[0.1, 0.8, 0.1]])}, "its posterior has the shape"),
        ({"probs": np.array([0.6, 0.6, -0.2])}, "its posterior is no distribution: least -0.2, sum 1"),
        ({"probs": np.array([0.1, 0.1, 0.1])}, "its posterior is no distribution: least 0.1, sum 0.3"),
        ({"prior": np.zeros(3)}, "its prior is no distribution"),
        ({"quality": math.nan}, "its quality is nan"),
        ({"quality": 1.5}, "its quality is 1.5"),
        ({"modality": AUDIO}, "it is about audio"),
        ({"dimensions": {"arousal": math.inf}}, "its arousal is inf"),
    ],
)
async def test_what_is_no_evidence_is_refused_counted_and_said_once(
    wrong: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(samples: Sequence[Sample]) -> Reading:
        evidence = happy(samples).evidence
        assert evidence
        return Reading(evidence if samples[-1].end_ns == 5 * HOP_NS else replace(evidence, **wrong))

    events = merged([frame(t) for t in range(HOP_NS, 9 * HOP_NS, HOP_NS)], heartbeats(8 * HOP_NS))
    clock = VirtualClock()
    p = pipeline(clock, ScriptedEncoder(VISION, broken))
    found = [decided.decision async for decided in play(events, p, clock)]
    p.close()
    refused = [decision.missing.get(VISION) for decision in found]
    assert refused[4] is None
    assert {reason for i, reason in enumerate(refused) if i != 4} == {Absence.FAILED}
    assert p.metrics.counts["encode.vision.failed"] == len(found) - 1
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 1, "once in a minute, also where it had gone well meanwhile"
    assert all(re.search(said, line) for line in lines)


async def test_an_encoder_that_hangs_is_skipped_until_it_has_done_and_close_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hangs(samples: Sequence[Sample]) -> Reading:
        release.wait()
        return happy(samples)

    clock = VirtualClock()
    eyes, ears = ScriptedEncoder(VISION, hangs), ScriptedEncoder(AUDIO, happy)
    p = pipeline(clock, eyes, ears, patience_ns=50 * MS)
    monkeypatch.setattr(Encoding, "CLOSE_S", 0.05)
    found = []
    for i in range(1, 4):
        p.feed(frame(i * HOP_NS))
        p.feed(audio((i - 1) * HOP_NS, i * HOP_NS))
        p.feed(Watermark("text", i * HOP_NS))
        (window,) = p.window.cut(i * HOP_NS)
        found.append((await p.decide(window)).decision)
    assert [decision.missing[VISION] for decision in found] == [Absence.SKIPPED] * 3
    assert all(AUDIO in decision.modalities for decision in found)
    assert len(eyes.shown) == 1
    p.close()
    assert ears.closed
    assert not eyes.closed
    release.set()


async def test_what_no_encoder_reads_is_dropped_and_not_waited_for() -> None:
    p = pipeline(VirtualClock(), ScriptedEncoder(AUDIO, happy), sources=SOURCES[1:2], ignored=["camera"])
    p.feed(frame(HOP_NS))
    p.mark("camera", SourceState.FAILED)
    p.feed(audio(0, HOP_NS))
    (window,) = p.window.cut(HOP_NS)
    decision = (await p.decide(window)).decision
    p.close()
    assert window.settled
    assert decision.missing == {VISION: Absence.DISABLED, TEXT: Absence.DISABLED}


async def test_playing_twice_gives_the_same_decisions() -> None:
    events = merged(
        [frame(t) for t in range(0, 9 * HOP_NS, HOP_NS // 3)],
        [audio(t - HOP_NS, t) for t in range(HOP_NS, 9 * HOP_NS, HOP_NS)],
        [text(3 * HOP_NS), text(5 * HOP_NS, arrival_ns=5 * HOP_NS + HOP_NS // 4)],
        heartbeats(9 * HOP_NS),
    )
    first, second = [await decisions(events, *(ScriptedEncoder(m, happy) for m in Modality)) for _ in range(2)]
    assert first == second
    assert len(first) == 8  # the ninth is still open when the events end
