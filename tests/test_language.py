"""The text encoder, with its real models: what it says of sentences, how it pools them, how it knows its language."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.types import AUDIO_RATE_HZ, Audio, Evidence, Modality, Sample, Text
from engines.language import BATCH, HALF_LIFE_NS, MOST_NEW, PIECES, LanguageEncoder, SentenceEmbedder
from engines.models import ModelStore
from engines.training.language import GROUPS, LABELS, main, read_split
from engines.wording import LONGEST, spell_out

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def encoder() -> Iterator[LanguageEncoder]:
    encoder = LanguageEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime")
    yield encoder
    encoder.close()


@pytest.fixture(scope="module")
def embedder() -> Iterator[SentenceEmbedder]:
    embedder = SentenceEmbedder.open(ModelStore(), backend="onnxruntime")
    yield embedder
    embedder.engine.close()


def text(words: str, *, at_s: float = 0, source: str = "text", lang: str | None = None) -> Sample:
    t_ns = int(at_s * SECOND)
    return Sample(source, Text(words, lang), t_ns, t_ns, t_ns)


def evidence(encoder: LanguageEncoder, *samples: Sample) -> Evidence:
    found = encoder.encode(samples, max(sample.end_ns for sample in samples)).evidence
    assert found is not None
    return found


def label(found: Evidence) -> str:
    return LABELS[int(found.probs.argmax())]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("I love this, thank you!", "happy"),
        ("I am so angry about this", "angry"),
        ("I miss her so much, this is so sad", "sad"),
        ("I'm really scared, please help me", "fearful"),
        ("That is disgusting, it makes me sick", "disgusted"),
        ("Wow, what a surprise!", "surprised"),
        ("The meeting starts at ten in room four.", "neutral"),
        ("😡", "angry"),
        ("😂", "happy"),
        ("❤️", "happy"),
    ],
)
def test_plain_sentences(encoder: LanguageEncoder, words: str, wanted: str) -> None:
    found = evidence(encoder, text(words))
    assert label(found) == wanted
    assert found.modality is Modality.TEXT
    assert found.probs.shape == found.prior.shape == (7,)
    assert found.probs.sum() == pytest.approx(1)
    assert found.probs.min() > 0
    assert found.engine == "onnxruntime"


@pytest.mark.parametrize("words", [" ", "\n\t", "...", "?!", "42", "🇩🇪", "\u200d\ufe0f", "\x00\x01", "⠀⣿⠛"])
def test_what_says_nothing_is_no_evidence(encoder: LanguageEncoder, words: str) -> None:
    assert encoder.encode([text(words)], 0).evidence is None


def test_nothing_beside_something_changes_nothing(encoder: LanguageEncoder) -> None:
    alone = evidence(encoder, text("I love this, thank you!"))
    beside = evidence(encoder, text("I love this, thank you!"), text("...", at_s=1))
    np.testing.assert_array_equal(alone.probs, beside.probs)
    assert alone.t_ns == beside.t_ns


def test_of_a_flood_only_the_newest_are_read() -> None:
    encoder = LanguageEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime")
    flood = [text("I am so angry about this", at_s=0.001 * i) for i in range(500)]
    newest = [text("I love this, thank you!", at_s=1 + 0.001 * i) for i in range(MOST_NEW)]
    found = evidence(encoder, *flood, *newest)
    alone = evidence(encoder, *newest)
    encoder.close()
    assert label(found) == "happy"
    np.testing.assert_allclose(found.probs, alone.probs)


def test_no_texts_are_no_evidence(encoder: LanguageEncoder) -> None:
    assert encoder.encode([], SECOND).evidence is None


FOREIGN = [
    "Ich bin so wütend darüber, das ist doch nicht zu glauben!",
    "Mir geht es heute sehr gut, danke.",
    "Das ist alles ganz schrecklich",
    "Jestem bardzo szczęśliwy, że tu jesteś.",
    "To jest straszne, nie lubie tego",
    "Je suis très content de vous voir",
    "Estoy muy feliz de verte hoy",
    "我今天很高兴",
    "Мне очень грустно",
]


@pytest.mark.parametrize("words", FOREIGN)
def test_other_languages_have_low_quality(encoder: LanguageEncoder, words: str) -> None:
    assert evidence(encoder, text(words)).quality < 0.35


@pytest.mark.parametrize(
    "words", ["I love this, thank you!", "That café was great, wasn't it?", "LeBron scores against the Warriors again"]
)
def test_english_has_high_quality(encoder: LanguageEncoder, words: str) -> None:
    assert evidence(encoder, text(words)).quality > 0.7


def test_a_longer_text_and_a_tag_make_quality(encoder: LanguageEncoder) -> None:
    assert evidence(encoder, text("nice")).quality < evidence(encoder, text("this is a very nice place")).quality
    assert evidence(encoder, text("Lust auf Gift", lang="en-GB")).quality > 0.7
    assert evidence(encoder, text("this is a very nice place", lang="de")).quality < 0.1


def test_a_thought_in_two_messages_is_read_as_one(encoder: LanguageEncoder) -> None:
    assert label(evidence(encoder, text("really"))) == "neutral"
    found = evidence(encoder, text("I love this, thank you!", at_s=1), text("really", at_s=2))
    assert label(found) == "happy"
    assert found.t_ns == 2 * SECOND


def test_a_change_of_mind_is_believed(encoder: LanguageEncoder) -> None:
    found = evidence(encoder, text("I am so angry about this"), text("I love this, thank you!", at_s=6))
    assert label(found) == "happy"


def test_pooling_by_hand(encoder: LanguageEncoder) -> None:
    old, new = text("I am so angry about this"), text("I love this, thank you!", at_s=HALF_LIFE_NS / SECOND)
    first, second = evidence(encoder, old), evidence(encoder, new)
    share = 0.5 * first.quality / (0.5 * first.quality + second.quality)
    wanted = first.probs**share * second.probs ** (1 - share)
    pooled = evidence(encoder, old, new)
    np.testing.assert_allclose(pooled.probs, wanted / wanted.sum())
    assert pooled.quality == pytest.approx(share * first.quality + (1 - share) * second.quality)


def test_of_two_sources_the_clearer_decides_and_the_other_is_a_rival(encoder: LanguageEncoder) -> None:
    typed = text("ok", at_s=1, source="text")
    spoken = text("I am so angry about all of this", at_s=1, source="speech")
    found = evidence(encoder, typed, spoken)
    assert (found.source, label(found)) == ("speech", "angry")
    assert found.rivals == {"text": evidence(encoder, typed).quality}
    later = evidence(encoder, spoken, text("thanks", at_s=9, source="text"))
    assert later.source == "text", "what was said long before gives way"


def test_a_batch_equals_one_at_a_time(embedder: SentenceEmbedder) -> None:
    words = ["no", "I love this, thank you!", "word " * 300, *(f"this is number {n}" for n in range(BATCH))]
    ids = [embedder.tokenize(sentence).ids for sentence in words]
    together = embedder.embed(ids)
    alone = np.concatenate([embedder.embed([one]) for one in ids])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_a_text_is_encoded_once_and_forgotten_with_its_sample(
    encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embed = SentenceEmbedder.embed

    def spy(self: SentenceEmbedder, pieces: Sequence[Sequence[int]]) -> object:
        seen.append(len(pieces))
        return embed(self, pieces)

    monkeypatch.setattr(SentenceEmbedder, "embed", spy)
    gc.collect()
    before = len(encoder._said)
    samples = [text("first thing", at_s=1), text("second thing", at_s=2), text("...", at_s=3)]
    encoder.encode(samples, 3 * SECOND)
    encoder.encode([*samples[1:], text("third thing", at_s=4)], 4 * SECOND)
    assert seen == [2, 1], "the new texts of a window go together, each once"
    del samples
    gc.collect()
    assert len(encoder._said) == before


def test_a_huge_text_costs_no_more_than_a_long_one(encoder: LanguageEncoder, embedder: SentenceEmbedder) -> None:
    huge = "so very happy " * 700_000  # 10 MB
    assert len(spell_out(huge)) <= LONGEST
    assert len(embedder.tokenize(spell_out(huge)).ids) == PIECES
    assert label(evidence(encoder, text(huge))) == "happy"


def test_what_is_no_text_is_a_bug_of_the_caller(encoder: LanguageEncoder) -> None:
    sound = Sample("microphone", Audio(np.zeros(AUDIO_RATE_HZ, np.float32)), 0, SECOND, SECOND)
    with pytest.raises(AssertionError, match="microphone sent Audio"):
        encoder.encode([sound], SECOND)


def test_labels_of_the_agent(encoder: LanguageEncoder) -> None:
    del encoder
    few = ("calm", "glad", "cross")
    mapping = {"neutral": "calm", "happy": "glad", "angry": "cross", "disgusted": "cross"}
    other = LanguageEncoder.open(ModelStore(), labels=few, mapping=mapping, backend="onnxruntime")
    found = evidence(other, text("I am so angry about this"))
    assert few[int(found.probs.argmax())] == "cross"
    other.close()


def test_it_says_what_it_is(encoder: LanguageEncoder) -> None:
    assert "English" in str(encoder)
    assert "language-encoder.onnx on onnxruntime" in str(encoder)


def test_word_pieces_are_those_of_bert(embedder: SentenceEmbedder) -> None:
    """The ids are line numbers, from 0, in the published vocab.txt of bert-base-uncased, which the model uses."""
    assert embedder.tokenize("Hello world!").ids == [101, 7592, 2088, 999, 102]
    assert embedder.tokenize("café").tokens == ["[CLS]", "cafe", "[SEP]"]
    assert len(embedder.tokenize("word " * 300).ids) == PIECES


def test_embeddings_are_those_of_sentence_transformers(embedder: SentenceEmbedder) -> None:
    """The sentences and cosines in the README of sentence-transformers 5, of the model in 32 bits by torch."""
    words = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = embedder.embed([embedder.tokenize(sentence).ids for sentence in words])
    wanted = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=0.005)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("so\n  good 👍🏽", "so good thumbs up"),
        ("😂😡", "haha angry"),
        ("😲", "astonished"),
        ("I 💜❤️ it", "I love love it"),
        ("🤷🏼‍♀️ whatever", "shrug whatever"),
        ("plain – text, 20 °C", "plain – text, 20 °C"),
        ("12:30", ""),
    ],
)
def test_emoji_are_spelled_out(words: str, wanted: str) -> None:
    assert spell_out(words) == wanted


def test_training_reads_goemotions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine = " ".join(GROUPS.values()).split()
    assert len(fine) == 28
    (tmp_path / "labels.txt").write_text("\n".join(fine))
    love, joy, anger = (str(fine.index(name)) for name in ("love", "joy", "anger"))
    lines = [f"so good\t{love},{joy}\ta", f"mixed\t{love},{anger}\tb", f"grr\t{anger}\tc", f"...\t{anger}\td"]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    split = read_split(tmp_path, "train")
    assert split.texts == ("so good", "grr")
    assert [LABELS[k] for k in split.y] == ["happy", "angry"]
    (tmp_path / "train.tsv").write_text("so good\t99\ta\n")
    assert main(["--data", str(tmp_path)]) == 2
    assert "train.tsv, line 1" in capsys.readouterr().err
