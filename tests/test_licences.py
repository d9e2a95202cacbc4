"""``[models] licences = "commercial"``: what must not be used so is refused, and the next best takes its place."""

import logging
from pathlib import Path

import numpy as np
import pytest

from agent.config import Config
from agent.types import Modality
from engines.encoders import open_encoders
from engines.models import LicenceError, ModelStore
from tests.speech import blocks, say

COMMERCIAL = Config.model_validate({"models": {"licences": "commercial"}, "agent": {"transcribe": False}})


def test_weights_that_forbid_it_are_refused_by_name() -> None:
    store = ModelStore.configured(COMMERCIAL.models)
    with pytest.raises(
        LicenceError, match=r"voice-head: .*CC-BY-NC-SA-4.0, forbids that; train one on data of your own"
    ):
        store.path("voice-head")
    assert store.path("face-head").exists()


def test_by_default_they_are_used() -> None:
    assert ModelStore.configured(Config().models).path("voice-head").exists()


def test_nothing_that_is_opened_forbids_commercial_use(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore.configured(COMMERCIAL.models)
    asked: list[str] = []
    path = store.path

    def noted(name: str) -> Path:
        asked.append(name)
        return path(name)

    monkeypatch.setattr(store, "path", noted)
    encoders, _ = open_encoders(COMMERCIAL, store)
    for encoder in encoders.values():
        encoder.close()
    refused = {name for name in asked if not store.model(name).commercial}
    assert refused == {"voice-head"}  # asked for, refused, done without


def test_of_the_voice_arousal_is_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoders, _ = open_encoders(COMMERCIAL, ModelStore.configured(COMMERCIAL.models), {Modality.AUDIO})
    assert "voice-head" in caplog.text
    assert "only arousal is read" in caplog.text
    heard = blocks(say("What a wonderful day this is, I can hardly believe it!"))[:150]
    encoder = encoders[Modality.AUDIO]
    evidence = encoder.encode(heard, heard[-1].end_ns).evidence
    encoder.close()
    assert evidence is not None
    assert 0 < evidence.dimensions["arousal"] < 1
    labels = COMMERCIAL.agent.labels
    p = dict(zip(labels, evidence.probs, strict=True))
    assert p["angry"] == pytest.approx(p["happy"])  # it tells high from low arousal, not one label from another
    assert p["neutral"] == pytest.approx(p["sad"])
    np.testing.assert_allclose(evidence.probs.sum(), 1)
