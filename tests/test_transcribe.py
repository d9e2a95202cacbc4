from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from agent.types import AUDIO_RATE_HZ, F64, Utterance
from engines import Array, Engine, EngineError
from engines.transcribe import Transcript, WhisperTranscriber, loop_length, non_speech
from tests.speech import SENTENCE, engine, hush, say, store

SENTENCES = (SENTENCE, "Please turn on the lights in the kitchen.", "I have never been so happy in my whole life.")


@pytest.fixture(scope="module")
def transcriber() -> Iterator[WhisperTranscriber]:
    made = WhisperTranscriber.open(store(), backend="onnxruntime")
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(store().path("speech-tokenizer")))


def utterance(pcm: npt.NDArray[np.floating]) -> Utterance:
    return Utterance("microphone", pcm.astype(np.float32), 0, len(pcm) * 1_000_000_000 // AUDIO_RATE_HZ)


def words(text: str) -> set[str]:
    return set("".join(c for c in text.lower() if c.isalpha() or c == " ").split())


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words_are_understood(transcriber: WhisperTranscriber, sentence: str) -> None:
    text = transcriber.transcribe(utterance(np.concatenate([hush(0.1), say(sentence), hush(0.1)])))
    assert text is not None
    said = words(sentence)
    assert len(said & words(text)) / len(said) >= 0.7, text


def test_the_same_sound_gives_the_same_words(transcriber: WhisperTranscriber) -> None:
    first, second = (transcriber.decode(say(SENTENCE)) for _ in range(2))
    assert first == second


def noises() -> dict[str, F64]:
    rng = np.random.default_rng(2)
    t = np.arange(2 * AUDIO_RATE_HZ)
    return {
        "silence": np.zeros(len(t)),
        "a quiet room": 0.001 * rng.normal(size=len(t)),
        "white noise": 0.1 * rng.normal(size=len(t)),
        "rumble": 0.001 * np.cumsum(rng.normal(size=len(t))),
        "hum": 0.2 * np.sin(2 * np.pi * 50 / AUDIO_RATE_HZ * t) + 0.001 * rng.normal(size=len(t)),
        "whistle": 0.2 * np.sin(2 * np.pi * 1500 / AUDIO_RATE_HZ * t),
        "clicks": 0.5 * (rng.random(len(t)) < 0.0005),
        "a tenth of a second": 0.01 * rng.normal(size=1600),
        "nothing": np.zeros(0),
    }


@pytest.mark.parametrize("name", noises())
def test_noise_says_nothing(transcriber: WhisperTranscriber, name: str) -> None:
    assert transcriber.transcribe(utterance(noises()[name])) is None


def test_what_is_too_long_is_cut(transcriber: WhisperTranscriber) -> None:
    long = np.tile(np.concatenate([say(SENTENCE), hush(0.3)]), 10)
    assert len(long) > 30 * AUDIO_RATE_HZ
    text = transcriber.transcribe(utterance(long))
    assert text is None or len(text) < 600


@pytest.mark.parametrize(
    ("tokens", "length"),
    [([5, 5, 5], 1), ([1, 2, 3, 2, 3, 2, 3], 2), ([1, 2, 1, 2], 0), ([], 0), ([4, 4, 4, 5], 0), ([1, 2, 3] * 3, 3)],
)
def test_loops_are_seen(tokens: list[int], length: int) -> None:
    assert loop_length(tokens) == length


class Insisting:
    """A decoder that wants one phrase for ever."""

    def __init__(self, engine: Engine, phrase: Sequence[int]) -> None:
        self._engine = engine
        self._phrase = phrase
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self.calls = 0

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        result = self._engine.infer(feeds)
        logits = np.full_like(result["logits"], -20)
        logits[self._phrase[max(0, self.calls - 1) % len(self._phrase)]] = 0
        self.calls += 1
        return result | {"logits": logits}

    def close(self) -> None:
        self._engine.close()


def test_a_loop_is_left_after_its_first_round(tokenizer: Tokenizer) -> None:
    decoder = Insisting(engine("speech-decoder"), tokenizer.encode(" very good", add_special_tokens=False).ids)
    transcriber = WhisperTranscriber(encoder=engine("speech-encoder"), decoder=decoder, tokenizer=tokenizer)
    assert transcriber.decode(say(SENTENCE)).text == "very good"
    assert decoder.calls < 10


@pytest.mark.parametrize(
    ("transcript", "understood"),
    [
        (Transcript("Hello.", log_prob=-0.3, no_speech=0.1), True),
        (Transcript("Hello.", log_prob=-0.3, no_speech=0.9), True),
        (Transcript("you", log_prob=-0.9, no_speech=0.98), False),
        (Transcript("I'm going", log_prob=-1.9, no_speech=0.1), False),
        (Transcript("...", log_prob=-0.1, no_speech=0.0), False),
        (Transcript("", log_prob=-0.1, no_speech=0.0), False),
    ],
)
def test_doubtful_words_are_not_passed_on(transcript: Transcript, understood: bool) -> None:
    assert transcript.understood is understood


def test_the_tokens_that_are_not_spoken_are_openais(tokenizer: Tokenizer) -> None:
    """The list in the model's own config.json, less the control tokens."""
    listed = """1 2 7 8 9 10 14 25 26 27 28 29 31 58 59 60 61 62 63 90 91 92 93 357 366 438 532 685 705 796 930 1058
    1220 1267 1279 1303 1343 1377 1391 1635 1782 1875 2162 2361 2488 3467 4008 4211 4600 4808 5299 5855 6329 7203 9609
    9959 10563 10786 11420 11709 11907 13163 13697 13700 14808 15306 16410 16791 17992 19203 19510 20724 22305 22935
    27007 30109 30420 33409 34949 40283 40493 40549 47282 49146"""
    assert non_speech(tokenizer) == {int(number) for number in listed.split()}


def test_a_tokenizer_of_another_model_is_refused() -> None:
    other = Tokenizer(WordLevel({"hello": 0}, unk_token="hello"))
    with pytest.raises(EngineError, match=r"has no token <\|startoftranscript\|>"):
        WhisperTranscriber(encoder=engine("speech-encoder"), decoder=engine("speech-decoder"), tokenizer=other)
