"""An encoder that is slow, raises, hangs, or says what is no evidence: the others decide, and it is named."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from agent.seams import EncoderError
from agent.types import Absence, Evidence, Modality, Reading, Sample
from tests.faults.living import living
from tests.scripted import HOP_NS, ScriptedEncoder, ScriptedSensor, happy
from tests.test_live import AUDIO, CAMERA, MICROPHONE, VISION, blocks, frames


def evidence(samples: Sequence[Sample]) -> Evidence:
    found = happy(samples).evidence
    assert found is not None
    return found


def raises(samples: Sequence[Sample]) -> Reading:
    raise EncoderError("the engine says: out of memory")


def says(**what: object) -> Callable[[Sequence[Sample]], Reading]:
    return lambda samples: Reading(replace(evidence(samples), **what))  # type: ignore[arg-type]


ODD: dict[str, Callable[[Sequence[Sample]], Reading]] = {
    "raises": raises,
    "posterior not a number": says(probs=np.full(3, np.nan)),
    "posterior infinite": says(probs=np.array([np.inf, 0.0, 0.0])),
    "posterior negative": says(probs=np.array([1.2, -0.1, -0.1])),
    "posterior of two labels": says(probs=np.array([0.5, 0.5])),
    "posterior sums to 2.7": says(probs=np.array([0.9, 0.9, 0.9])),
    "prior not a number": says(prior=np.full(3, np.nan)),
    "quality not a number": says(quality=float("nan")),
    "arousal not a number": says(dimensions={"arousal": float("nan")}),
    "another modality": says(modality=Modality.TEXT),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
async def test_what_is_no_evidence_never_reaches_the_decision(answer: Callable[[Sequence[Sample]], Reading]) -> None:
    sensors = [ScriptedSensor("camera", CAMERA, frames(4000)), ScriptedSensor("microphone", MICROPHONE, blocks(4000))]
    async with living(sensors, ScriptedEncoder(VISION, answer), ScriptedEncoder(AUDIO, happy)) as seen:
        decision = await seen.until_decided(
            lambda decision: decision.missing.get(VISION) is Absence.FAILED and AUDIO in decision.modalities
        )
    assert decision.label == "happy"
    for each in seen.decisions:
        assert VISION not in each.modalities
        assert np.isfinite(list(each.probabilities.values())).all()
        assert sum(each.probabilities.values()) == pytest.approx(1)


async def test_an_encoder_that_is_slow_costs_windows_and_not_their_age() -> None:
    """Three times as slow as windows come: the newest is decided, the rest is passed over, and nothing piles up."""
    wait = threading.Event()

    def slow(samples: Sequence[Sample]) -> Reading:
        wait.wait(3 * HOP_NS / 1e9)
        return happy(samples)

    sensors = [ScriptedSensor("camera", CAMERA, frames(4000)), ScriptedSensor("microphone", MICROPHONE, blocks(4000))]
    async with living(sensors, ScriptedEncoder(VISION, slow), ScriptedEncoder(AUDIO, happy)) as seen:
        await seen.until(lambda: len(seen.decisions) >= 12)
        found = list(seen.decisions)
    assert seen.metrics.counts["windows_skipped"] >= len(found)
    ages = [decision.latency.total for decision in found]
    assert min(ages[6:]) < 2 * max(ages[:6]), "the age must not grow"
    assert all(VISION in decision.modalities for decision in found[-3:])
