from collections.abc import Sequence

import numpy as np
import pytest

from agent.types import AUDIO_RATE_HZ, F32, Audio, Frame, Sample
from engines import Engine
from engines.vad import CHUNK_NS, Chunk, Listener, Segmenter, Thresholds
from tests.speech import SENTENCE, at_ns, blocks, engine, hush, say

START_NS = 5_000_000_000_000
MINUTE_NS = 60_000_000_000
TOLERANCE_NS = 150_000_000


@pytest.fixture(scope="module")
def activity() -> Engine:
    return engine("voice-activity")


@pytest.fixture
def listener(activity: Engine) -> Listener:
    return Listener("microphone", activity, keep_ns=MINUTE_NS)


def spoken() -> tuple[F32, int, int]:
    """A sentence with a second and a half of silence before and behind it, and where it begins and ends."""
    before, words = hush(1.5), say(SENTENCE)
    pcm = np.concatenate([before, words, hush(1.5, seed=1)])
    return pcm, at_ns(len(before), START_NS), at_ns(len(before) + len(words), START_NS)


def test_one_utterance_where_the_words_are(listener: Listener) -> None:
    pcm, begin_ns, end_ns = spoken()
    (utterance,) = listener.hear(blocks(pcm, start_ns=START_NS))
    assert abs(utterance.t_ns - begin_ns) < TOLERANCE_NS
    assert abs(utterance.end_ns - end_ns) < TOLERANCE_NS
    assert utterance.source == "microphone"


def test_an_utterance_holds_the_sound_of_its_span(listener: Listener) -> None:
    pcm, _, _ = spoken()
    (utterance,) = listener.hear(blocks(pcm, start_ns=START_NS))
    first = (utterance.t_ns - START_NS) * AUDIO_RATE_HZ // 1_000_000_000
    np.testing.assert_array_equal(utterance.pcm, pcm[first : first + len(utterance.pcm)])
    assert utterance.end_ns - utterance.t_ns == at_ns(len(utterance.pcm))


@pytest.mark.parametrize("ms", [10, 20, 33, 500])
def test_the_size_of_blocks_does_not_matter(activity: Engine, ms: int) -> None:
    pcm, _, _ = spoken()
    whole, parts = (Listener("microphone", activity, keep_ns=MINUTE_NS) for _ in range(2))
    whole.hear(blocks(pcm, ms=60_000))
    for block in blocks(pcm, ms=ms):
        parts.hear([block])
    assert len(parts.chunks) == len(pcm) // 512
    for a, b in zip(whole.chunks, parts.chunks, strict=True):
        assert a.prob == pytest.approx(b.prob, abs=1e-5)
        assert abs(a.t_ns - b.t_ns) <= 1000


def test_blocks_of_overlapping_windows_are_heard_once(activity: Engine) -> None:
    pcm, _, _ = spoken()
    once, often = (Listener("microphone", activity, keep_ns=MINUTE_NS) for _ in range(2))
    stream = blocks(pcm)
    closed = once.hear(stream)
    again = [utterance for end in range(10, len(stream) + 10, 10) for utterance in often.hear(stream[:end][-60:])]
    assert [(u.t_ns, u.end_ns) for u in again] == [(u.t_ns, u.end_ns) for u in closed]
    assert [chunk.prob for chunk in often.chunks] == pytest.approx([chunk.prob for chunk in once.chunks], abs=1e-5)


def test_a_gap_ends_the_utterance_and_forgets(listener: Listener, activity: Engine) -> None:
    words = say(SENTENCE)
    half = len(words) // 2
    assert listener.hear(blocks(words[:half], start_ns=START_NS)) == []
    later_ns = at_ns(half, START_NS) + 60_000_000
    (utterance,) = listener.hear(blocks(words[half:], start_ns=later_ns)[:10])
    assert listener.gaps == 1
    assert abs(utterance.end_ns - at_ns(half, START_NS)) < TOLERANCE_NS
    fresh = Listener("microphone", activity, keep_ns=MINUTE_NS)
    fresh.hear(blocks(words[half:], start_ns=later_ns)[:10])
    behind = [chunk for chunk in listener.chunks if chunk.t_ns >= later_ns]
    assert [chunk.prob for chunk in behind] == pytest.approx([chunk.prob for chunk in fresh.chunks], abs=1e-5)


def test_jitter_of_stamps_is_no_gap(listener: Listener) -> None:
    pcm, _, _ = spoken()
    stream = [
        Sample(block.source, block.payload, block.t_ns + i % 3 * 10_000_000, block.end_ns + i % 3 * 10_000_000, 0)
        for i, block in enumerate(blocks(pcm, ms=100))
    ]
    assert len(listener.hear(stream)) == 1
    assert listener.gaps == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_sound_that_is_not_finite_is_silence_and_counted(listener: Listener, poison: float) -> None:
    pcm, _, _ = spoken()
    stream = blocks(pcm, ms=100)
    sound = stream[3].payload
    assert isinstance(sound, Audio)
    sound.pcm[7] = poison
    (utterance,) = listener.hear(stream)
    assert listener.faulty == 1
    assert np.isfinite(utterance.pcm).all()
    assert all(np.isfinite(chunk.prob) for chunk in listener.chunks)


def test_noise_and_silence_are_no_speech(listener: Listener) -> None:
    rng = np.random.default_rng(3)
    noise = (0.05 * rng.normal(size=3 * AUDIO_RATE_HZ)).astype(np.float32)
    assert listener.hear(blocks(np.concatenate([np.zeros(16_000, np.float32), noise, hush(1)]))) == []
    assert not any(chunk.speech for chunk in listener.chunks)


def test_only_sound_can_be_heard(listener: Listener) -> None:
    frame = Sample("camera", Frame(np.zeros((2, 2, 3), np.uint8)), 0, 0, 0)
    with pytest.raises(TypeError, match="camera: a listener takes Audio, was given Frame"):
        listener.hear([frame])


def chunks(pattern: str, prob: Sequence[float] | None = None) -> list[Chunk]:
    """One chunk a character: # is speech."""
    zeros = np.zeros(512, np.float32)
    probs = prob or [float(character == "#") for character in pattern]
    return [Chunk(zeros, i * CHUNK_NS, p, c == "#", 0.0) for i, (c, p) in enumerate(zip(pattern, probs, strict=True))]


def segments(pattern: str, prob: Sequence[float] | None = None, **settings: int) -> list[tuple[int, int]]:
    """The first and the last chunk of each utterance."""
    segmenter = Segmenter("microphone", Thresholds(**settings))
    closed = [segmenter.push(chunk) for chunk in chunks(pattern, prob)] + [segmenter.close()]
    return [(u.t_ns // CHUNK_NS, u.end_ns // CHUNK_NS - 1) for u in closed if u is not None]


def test_padding_hangover_and_short_noises() -> None:
    pause, long = "." * 15, "." * 16
    assert segments("....##########" + long) == [(2, 15)]
    assert segments("....#####" + pause + "#####" + long) == [(2, 30)], "a pause under the hangover joins"
    assert segments("....########" + long + "########" + long) == [(2, 13), (26, 37)]
    assert segments("....#######" + long) == [], "224 ms of noise"
    assert segments("##########") == [(0, 9)], "the stream ends"


def test_a_long_utterance_is_cut_where_speech_is_least_likely() -> None:
    second = 31 * CHUNK_NS
    probs = [1.0] * 70
    probs[55] = 0.4
    pieces = segments("#" * 70, probs, most_ns=2 * second, search_ns=second)
    assert pieces == [(0, 54), (55, 69)]


def test_no_utterance_outgrows_the_limit() -> None:
    pieces = segments("#" * 700, most_ns=100 * CHUNK_NS, search_ns=20 * CHUNK_NS)
    assert all(last - first < 100 for first, last in pieces)
    assert [first for first, _ in pieces[1:]] == [last + 1 for _, last in pieces[:-1]], "nothing is lost"
    assert pieces[-1][1] == 699
