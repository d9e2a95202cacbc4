"""The trained fusion head that is shipped: found, checked, and run in the pipeline."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.clock import MS, SECOND, VirtualClock
from agent.config import Config
from agent.deciding.build import build_head, build_pipeline
from agent.fusion import EMBEDDED, EmbeddedHead, LearnedHead
from agent.playback import play
from agent.types import Evidence, Modality, Reading, Sample, Watermark
from engines.check import check_models
from engines.encoders import open_fusion
from engines.models import LOCK, LicenceError, ModelError, ModelStore, sha256_of
from tests.samples import frame, text
from tests.scripted import SOURCES, ScriptedEncoder

LEARNED = Config.model_validate({"fusion": {"rule": "learned"}})
LABELS = LEARNED.agent.labels
UNIFORM = np.full(len(LABELS), 1 / len(LABELS))


def sure_of(label: str, modality: Modality) -> ScriptedEncoder:
    """An encoder that sees the label in whatever it is shown."""
    probs = np.full(len(LABELS), 0.05)
    probs[LABELS.index(label)] = 1 - 0.05 * (len(LABELS) - 1)

    def answer(samples: Sequence[Sample]) -> Reading:
        return Reading(Evidence(modality, "it", probs, UNIFORM, 1.0, samples[-1].end_ns, "scripted"))

    return ScriptedEncoder(modality, answer)


def test_it_knows_the_modalities_and_the_default_labels() -> None:
    head = open_fusion(LEARNED, ModelStore())
    assert head is not None
    assert build_head(LEARNED, head).rule == "learned"


@pytest.mark.parametrize("rule", EMBEDDED)
def test_heads_that_read_embeddings_answer_whatever_is_missing(rule: str) -> None:
    config = Config.model_validate({"fusion": {"rule": rule, "dwell": "0 s"}})
    head = open_fusion(config, ModelStore())
    assert isinstance(head, EmbeddedHead)
    built = build_head(config, head)
    rng = np.random.default_rng(0)
    for m, size in zip(Modality, head.sizes, strict=True):
        embedding = rng.normal(size=size).astype(np.float32)
        alone = Evidence(m, "it", UNIFORM, UNIFORM, 1.0, 0, "scripted", embedding=embedding)
        assert built.judge([alone], 0).probs.sum() == pytest.approx(1)
        assert not np.allclose(built.judge([alone], 0).probs, UNIFORM, atol=1e-3), "the embedding says something"
    assert built.judge([], 0).probs == pytest.approx(UNIFORM)


def test_no_other_rule_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("")
    assert open_fusion(Config(), ModelStore(lock=tmp_path / "models.toml")) is None


async def test_it_decides_in_the_pipeline() -> None:
    clock = VirtualClock()
    pipeline = build_pipeline(
        LEARNED,
        sources=SOURCES,
        encoders={m: sure_of("happy", m) for m in (Modality.VISION, Modality.TEXT)},
        transcriber=None,
        clock=clock,
        session="test",
        learned=open_fusion(LEARNED, ModelStore()),
    )
    events: list[Sample | Watermark] = [
        frame(100 * MS),
        text(200 * MS),
        *(Watermark(source.name, SECOND) for source in SOURCES),
    ]
    try:
        decisions = [decided.decision async for decided in play(events, pipeline, clock)]
    finally:
        pipeline.close()
    assert {decision.rule for decision in decisions} == {"learned"}
    assert decisions[0].label == "happy"


def test_it_was_trained_on_speech_that_is_not_for_commercial_use() -> None:
    with pytest.raises(LicenceError, match=r'rule = "learned": .*fusion-head.*forbids that'):
        open_fusion(LEARNED, ModelStore(commercial=True))


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_what_is_wrong_with_its_file_is_said(damage: str, tmp_path: Path) -> None:
    copy = tmp_path / "engines" / "weights" / "fusion.npz"
    copy.parent.mkdir(parents=True)
    if damage == "corrupt":
        shutil.copy(ModelStore().path("fusion-head"), copy)
        copy.write_bytes(copy.read_bytes()[:-20])
    store = ModelStore(lock=LOCK, root=tmp_path)
    said = {"missing": "is missing; it is part of the repository", "corrupt": "is not what models.toml says"}[damage]
    with pytest.raises(ModelError, match=f'rule = "learned": model fusion-head: .*fusion.npz {said}'):
        open_fusion(LEARNED, store)


def test_check_says_so() -> None:
    refused = LEARNED.model_copy(
        update={"models": Config.model_validate({"models": {"licences": "commercial"}}).models}
    )
    *_, finding = check_models(refused)
    assert not finding.ok
    assert "fusion-head" in finding.said


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    weights = tmp_path / "engines" / "weights"
    weights.mkdir(parents=True)
    np.savez(weights / "fusion.npz", allow_pickle=False, mix=np.eye(3))
    store = ModelStore(root=tmp_path)
    model = store.model("fusion-head")
    store.models["fusion-head"] = model.model_copy(update={"sha256": (sha256_of(weights / "fusion.npz"),)})
    with pytest.raises(ModelError, match=r"fusion.npz: not a trained fusion head: modalities, .* missing"):
        open_fusion(LEARNED, store)


def test_bayes_is_where_its_training_began() -> None:
    head = open_fusion(LEARNED, ModelStore())
    assert isinstance(head, LearnedHead)
    start = LearnedHead.bayes(head.modalities, head.labels)
    assert head.mix.shape == start.mix.shape
    assert np.abs(head.mix - start.mix).max() > 0.01, "something was learned"
