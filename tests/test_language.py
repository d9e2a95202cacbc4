"""The text encoder, with its real models: what it says of sentences, how it pools them, how it knows its language."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from agent.seams import EncoderError
from agent.types import AUDIO_RATE_HZ, Audio, Evidence, Modality, Sample, Text
from engines.language import HALF_LIFE_NS, MOST_NEW, LanguageEncoder
from engines.models import ModelStore
from engines.sentences import PIECES, SentenceReader
from engines.training.comments import LABELS
from engines.wording import LONGEST, spell_out

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def encoder() -> Iterator[LanguageEncoder]:
    encoder = LanguageEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime")
    yield encoder
    encoder.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[SentenceReader]:
    reader = SentenceReader.open(ModelStore(), backend="onnxruntime")
    yield reader
    reader.engine.close()


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


@pytest.mark.parametrize(
    ("plain", "denied", "felt"),
    [
        ("I am happy", "I am not happy", "happy"),
        ("I am happy about this", "I'm not at all happy about this", "happy"),
        ("I like this", "I don't like this", "happy"),
        ("That was fun", "That was not fun", "happy"),
        ("I am sad", "I am not sad", "sad"),
        ("I am angry", "I'm not angry", "angry"),
        ("I am scared", "I am not scared", "fearful"),
    ],
)
def test_what_is_denied_is_not_felt(encoder: LanguageEncoder, plain: str, denied: str, felt: str) -> None:
    said = LABELS.index(felt)
    assert label(evidence(encoder, text(plain))) == felt
    assert label(evidence(encoder, text(denied))) != felt
    assert evidence(encoder, text(denied)).probs[said] < evidence(encoder, text(plain)).probs[said] / 2


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("see you tomorrow 😡", "angry"),
        ("the train leaves at ten 😂😂", "happy"),
        ("what a day 😭", "sad"),
        ("😱 what was that", "fearful"),
    ],
)
def test_an_emoji_says_how_words_are_meant(encoder: LanguageEncoder, words: str, wanted: str) -> None:
    plain = "".join(character for character in words if character.isascii())
    k = LABELS.index(wanted)
    assert evidence(encoder, text(words)).probs[k] > 2 * evidence(encoder, text(plain)).probs[k]


def test_english_in_another_language_is_still_read(encoder: LanguageEncoder) -> None:
    found = evidence(encoder, text("我今天 so happy, thank you so much 谢谢"))
    assert label(found) == "happy"
    assert 0.1 < found.quality < evidence(encoder, text("so happy, thank you so much")).quality


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
    untagged, unknown = (evidence(encoder, text("Lust auf Gift", lang=lang)) for lang in (None, "und"))
    assert unknown.quality == untagged.quality


def test_texts_tagged_as_others_are_left_out_and_reported_once(encoder: LanguageEncoder) -> None:
    foreign = text("this is a very nice place", lang="de")
    first, again = encoder.encode([foreign], 0), encoder.encode([foreign], 0)
    assert (first.evidence, first.unread) == (None, 1)
    assert (again.evidence, again.unread) == (None, 0)
    beside = encoder.encode([foreign, text("I love this, thank you!"), text("bardzo", lang="pl")], 0)
    assert beside.unread == 1
    assert beside.evidence is not None
    assert label(beside.evidence) == "happy"


def test_a_language_that_no_model_reads_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"languages: no model that is there reads de, only en"):
        LanguageEncoder.open(ModelStore(), labels=LABELS, languages=["en", "de"], backend="onnxruntime")


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


def test_embeddings_are_pooled_as_the_posteriors_are(encoder: LanguageEncoder, reader: SentenceReader) -> None:
    words = ["I love this so much today", "Now I am quite angry about it"]
    alone = reader.read([reader.tokenize(spell_out(each)).ids for each in words])["embedding"]
    texts = [text(each, at_s=3 * i) for i, each in enumerate(words)]
    one, both = evidence(encoder, texts[0]), evidence(encoder, *texts)
    assert one.embedding is not None
    assert both.embedding is not None
    assert one.embedding.dtype == both.embedding.dtype == np.float32
    np.testing.assert_allclose(one.embedding, alone[0], atol=1e-5)
    qualities = np.array([evidence(encoder, each).quality for each in texts]) * [0.5, 1]  # 3 s are a half-life
    np.testing.assert_allclose(both.embedding, np.average(alone, axis=0, weights=qualities), atol=1e-5)


def test_of_two_sources_the_clearer_decides_and_the_other_is_a_rival(encoder: LanguageEncoder) -> None:
    typed = text("ok", at_s=1, source="text")
    spoken = text("I am so angry about all of this", at_s=1, source="speech")
    found = evidence(encoder, typed, spoken)
    assert (found.source, label(found)) == ("speech", "angry")
    assert found.rivals == {"text": evidence(encoder, typed).quality}
    later = evidence(encoder, spoken, text("thanks", at_s=9, source="text"))
    assert later.source == "text", "what was said long before gives way"


def test_what_a_text_says_does_not_depend_on_its_neighbours(reader: SentenceReader) -> None:
    words = ["no", "I love this, thank you!", "word " * 300, *(f"this is number {n}" for n in range(20))]
    ids = [reader.tokenize(sentence).ids for sentence in words]
    together = reader.read(ids)
    alone = [reader.read([one]) for one in ids]
    for name, values in together.items():
        np.testing.assert_array_equal(values, np.concatenate([one[name] for one in alone]))
    assert together["features"].shape == (len(words), len(LABELS))


def test_a_text_is_encoded_once_and_forgotten_with_its_sample(
    encoder: LanguageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    read = SentenceReader.read

    def spy(self: SentenceReader, pieces: Sequence[Sequence[int]]) -> object:
        seen.append(len(pieces))
        return read(self, pieces)

    monkeypatch.setattr(SentenceReader, "read", spy)
    gc.collect()
    before = len(encoder._said)
    samples = [text("first thing", at_s=1), text("second thing", at_s=2), text("...", at_s=3)]
    encoder.encode(samples, 3 * SECOND)
    encoder.encode([*samples[1:], text("third thing", at_s=4)], 4 * SECOND)
    assert seen == [2, 1], "the new texts of a window go together, each once"
    del samples
    gc.collect()
    assert len(encoder._said) == before


def test_a_huge_text_costs_no_more_than_a_long_one(encoder: LanguageEncoder, reader: SentenceReader) -> None:
    huge = "so very happy " * 700_000  # 10 MB
    assert len(spell_out(huge)) <= LONGEST
    assert len(reader.tokenize(spell_out(huge)).ids) == PIECES
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


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("Hello world!", ["hello", "world", "!"]),
        ("café", ["cafe"]),
        ("unputdownable", ["un", "##put", "##down", "##able"]),
        ("高兴 хорошо", ["[UNK]", "[UNK]", "[UNK]"]),
    ],
)
def test_word_pieces(reader: SentenceReader, words: str, wanted: list[str]) -> None:
    assert reader.tokenize(words).tokens == ["[CLS]", *wanted, "[SEP]"]
    assert len(reader.tokenize(f"{words} " * 300).ids) == PIECES


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
