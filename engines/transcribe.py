"""Speech to text: Whisper tiny.en (Radford et al. 2022), greedy, for utterances of some seconds.

The encoder sees the utterance and `TAIL` of silence instead of the 30 s it was trained on, which makes it quick and
prone to two faults that are guarded against: words where nobody speaks, and phrases that repeat without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from agent.types import AUDIO_RATE_HZ, F32, F64, Utterance
from engines import Backend, Engine, EngineError, open_engine
from engines.mel import log_mel
from engines.models import ModelStore

TAIL = AUDIO_RATE_HZ
"""Samples of silence behind the utterance: one second. Without it the last word is often lost."""
LONGEST = 29 * AUDIO_RATE_HZ
"""Samples that the encoder has positions for, less the tail. What is longer is cut."""
LEAST_LOG_PROB = -1.0
"""Mean per token; below it, nothing was understood (``logprob_threshold`` of whisper/transcribe.py)."""
MOST_NO_SPEECH = 0.6
"""Above this probability of no speech (``no_speech_threshold`` there) words must be surer, by `SURE_LOG_PROB`."""
SURE_LOG_PROB = -0.5
TOKENS_PER_SECOND = 8
"""Nobody speaks faster: fast English has about 5 tokens a second."""
TOKENS_SPARE = 8
REPEATS = 3
"""A phrase that comes this often in a row is a loop."""
PHRASE = 12
"""Longest phrase, in tokens, that is looked at for loops."""


class WhisperTranscriber:
    """English only; other languages come out as English-looking nonsense or as None."""

    def __init__(self, *, encoder: Engine, decoder: Engine, tokenizer: Tokenizer) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._tokens = _Specials.of(tokenizer)
        (vocabulary,) = (tensor.shape[0] for tensor in decoder.outputs if tensor.name == "logits")
        self._mute = np.zeros(int(vocabulary), np.float32)
        """(V,), added to the logits: -inf for what is never said."""
        self._mute[[*non_speech(tokenizer), *self._tokens.never]] = -np.inf
        self._mute[self._tokens.no_timestamps + 1 :] = -np.inf
        self._mute_first = self._mute.copy()
        self._mute_first[[*tokenizer.encode(" ", add_special_tokens=False).ids, self._tokens.end]] = -np.inf

    @classmethod
    def open(cls, store: ModelStore, *, backend: Backend = "auto", threads: int = 1) -> WhisperTranscriber:
        """With the models of the lock file. Raises `engines.models.ModelError` and `EngineError`.

        The decoder always runs on ONNX Runtime: its matrices are 8-bit integers, and its work is one token at a time.
        """
        return cls(
            encoder=open_engine(store.path("speech-encoder"), backend, threads=threads),
            decoder=open_engine(store.path("speech-decoder"), "onnxruntime", threads=threads),
            tokenizer=Tokenizer.from_file(str(store.path("speech-tokenizer"))),
        )

    def transcribe(self, utterance: Utterance) -> str | None:
        result = self.decode(utterance.pcm)
        return result.text if result.understood else None

    def close(self) -> None:
        self._encoder.close()
        self._decoder.close()

    def decode(self, pcm: F32) -> Transcript:
        """What `pcm` (T,) says, and how sure that is, whether or not it is sure enough."""
        sound = np.concatenate([pcm[:LONGEST], np.zeros(TAIL, np.float32)])
        encoded = self._encoder.infer({"mel": log_mel(sound)[np.newaxis]})
        step = _Step(self._decoder, encoded["cross_keys"], encoded["cross_values"])
        no_speech = float(np.exp(_log_softmax(step(self._tokens.start))[self._tokens.no_speech]))
        logits = step(self._tokens.no_timestamps) + self._mute_first
        words: list[int] = []
        log_prob = 0.0
        for _ in range(TOKENS_SPARE + TOKENS_PER_SECOND * len(pcm) // AUDIO_RATE_HZ):
            log_probs = _log_softmax(logits)
            token = int(log_probs.argmax())
            log_prob += float(log_probs[token])
            if token == self._tokens.end:
                break
            words.append(token)
            if loop := loop_length(words):
                del words[-loop * (REPEATS - 1) :]
                break
            logits = step(token) + self._mute
        text = self._tokenizer.decode(words, skip_special_tokens=True).strip()
        return Transcript(text, log_prob / (len(words) + 1), no_speech)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words, and what speaks for them."""

    text: str
    log_prob: float
    """Mean over the tokens, in nats, the end of the text included."""
    no_speech: float
    """Probability, 0..1, that nobody speaks."""

    @property
    def understood(self) -> bool:
        """Whether there are words, and sure ones."""
        least = SURE_LOG_PROB if self.no_speech > MOST_NO_SPEECH else LEAST_LOG_PROB
        return self.log_prob >= least and any(character.isalnum() for character in self.text)


@dataclass(frozen=True, slots=True)
class _Specials:
    """Tokens that are no words."""

    start: int
    end: int
    no_speech: int
    no_timestamps: int
    never: tuple[int, ...]
    """The other control tokens: languages, tasks, prompt."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Specials:
        def number(*names: str) -> int:
            for name in names:
                if (token := tokenizer.token_to_id(name)) is not None:
                    return int(token)
            raise EngineError(f"speech-tokenizer: has no token {names[0]}; it is not that of a Whisper model")

        start, end, no_timestamps = map(number, ("<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"))
        # OpenAI's name and Hugging Face's.
        no_speech = number("<|nospeech|>", "<|nocaptions|>")
        never = tuple(token for token in range(min(start, end), no_timestamps + 1) if token != end)
        return cls(start, end, no_speech, no_timestamps, never)


class _Step:
    """The decoder with its past: call it with a token, get the logits (V,) of the next."""

    def __init__(self, decoder: Engine, cross_keys: F32, cross_values: F32) -> None:
        self._decoder = decoder
        self._cross = {"cross_keys": cross_keys, "cross_values": cross_values}
        layers, heads, _, width = cross_keys.shape
        self._keys = self._values = np.zeros((layers, heads, 0, width), np.float32)

    def __call__(self, token: int) -> F32:
        feeds = {"token": np.array([token]), "keys": self._keys, "values": self._values, **self._cross}
        result = self._decoder.infer(feeds)
        self._keys, self._values = result["new_keys"], result["new_values"]
        return np.asarray(result["logits"], np.float32)


def non_speech(tokenizer: Tokenizer) -> set[int]:
    """Tokens for what is written but not said: brackets, notes of music, speaker marks.

    After ``Tokenizer.non_speech_tokens`` of whisper/tokenizer.py.
    """
    notes = "♩♪♫♬♭♮♯"
    single, double = '"#()*+/:;<=>@[\\]^_`{|}~「」『』', "<< >> -- -( -[ (' (\" (( )) [[ ]] {{ }} ♪♪"
    marks = {*single, *double.split(" "), "<<<", ">>>", "---", "(((", ")))", "♪♪♪"}

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    found = {ids(" -")[0], ids(" '")[0]}
    for mark in [*marks, *notes]:
        for tokens in (ids(mark), ids(f" {mark}")):
            if len(tokens) == 1 or mark in notes:
                found.add(tokens[0])
    return found


def loop_length(tokens: Sequence[int]) -> int:
    """Length of the phrase that ends `tokens` and stands there `REPEATS` times in a row; 0 if none does."""
    for n in range(1, min(PHRASE, len(tokens) // REPEATS) + 1):
        tail = tokens[-n * REPEATS :]
        if all(tail[i] == tail[i + n] for i in range(n * (REPEATS - 1))):
            return n
    return 0


def _log_softmax(logits: F32) -> F64:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float64)
