import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from agent.types import AUDIO_RATE_HZ, F32, Audio, Modality, Sample
from engines.arousal import UsualVoice
from engines.head import Projection
from engines.prosody import Prosody, measure
from engines.speaker import SpeakerHead
from engines.speech import quality
from engines.vad import CHUNK
from engines.voice import VoiceEncoder
from tests.speech import SENTENCE, Counting, at_ns, blocks, engine, hush, say, store

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
START_NS = 7_000_000_000
SPAN_NS = 3_000_000_000
HOP_NS = 500_000_000


@pytest.fixture
def encoder() -> VoiceEncoder:
    head = SpeakerHead.load(store().path("voice-head"))
    return VoiceEncoder(
        activity=engine("voice-activity"),
        embedding=engine("voice-encoder"),
        head=head,
        projection=Projection(head.labels, LABELS),
    )


def windows(
    samples: Sequence[Sample], *, span_ns: int = SPAN_NS, hop_ns: int = HOP_NS
) -> Iterator[tuple[list[Sample], int]]:
    """The samples of each window, as they slide, and the instant of its end."""
    for end_ns in range(samples[0].t_ns + hop_ns, samples[-1].end_ns + 1, hop_ns):
        yield [sample for sample in samples if end_ns - span_ns < sample.end_ns <= end_ns], end_ns


def scene(*, before: float = 1.5, behind: float = 4.0, noise: float = 1.0) -> tuple[F32, int, int]:
    """Silence, a sentence, silence."""
    words = say(SENTENCE)
    room = noise * hush(before + behind + len(words) / AUDIO_RATE_HZ)
    first = round(before * AUDIO_RATE_HZ)
    room[first : first + len(words)] += words
    return room.astype(np.float32), at_ns(first, START_NS), at_ns(first + len(words), START_NS)


def test_speech_is_evidence(encoder: VoiceEncoder) -> None:
    pcm, _, end_ns = scene(behind=0.5)
    evidence = encoder.encode(blocks(pcm, start_ns=START_NS), at_ns(len(pcm), START_NS)).evidence
    assert evidence is not None
    assert encoder.modality is evidence.modality is Modality.AUDIO
    assert evidence.source == "microphone"
    assert evidence.probs.shape == evidence.prior.shape == (len(LABELS),)
    assert evidence.probs.sum() == pytest.approx(1)
    assert evidence.prior.sum() == pytest.approx(1)
    assert (evidence.probs > 0).all()
    assert evidence.quality > 0.8
    assert abs(evidence.t_ns - end_ns) < 150_000_000
    assert 0 < evidence.dimensions["arousal"] < 1
    assert (evidence.engine, dict(evidence.rivals)) == ("onnxruntime", {})


def test_silence_and_noise_are_none(encoder: VoiceEncoder) -> None:
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.normal(size=3 * AUDIO_RATE_HZ)).astype(np.float32)
    pcm = np.concatenate([np.zeros(3 * AUDIO_RATE_HZ, np.float32), noise, hush(3)])
    readings = [encoder.encode(part, end_ns) for part, end_ns in windows(blocks(pcm, start_ns=START_NS))]
    assert [reading for reading in readings if reading.evidence or reading.utterances] == []


def test_no_samples_are_none(encoder: VoiceEncoder) -> None:
    reading = encoder.encode([], START_NS)
    assert (reading.evidence, reading.speech) == (None, None)


def test_it_says_how_surely_somebody_speaks_now(encoder: VoiceEncoder) -> None:
    pcm, begin_ns, finish_ns = scene()
    stream = blocks(pcm, start_ns=START_NS)
    assert encoder.encode(stream[:1], stream[0].end_ns).speech is None, "20 ms are less than voice activity takes"
    heard: dict[int, float] = {}
    for part, end_ns in windows(stream):
        speech = encoder.encode(part, end_ns).speech
        assert speech is not None
        heard[end_ns] = speech
        if end_ns < begin_ns or end_ns > finish_ns + 500_000_000:
            assert speech < 0.35, end_ns
    assert max(heard.values()) > 0.9


def test_the_embedding_is_what_the_head_reads(encoder: VoiceEncoder) -> None:
    pcm, _, _ = scene(behind=0.5)
    evidence = encoder.encode(blocks(pcm, start_ns=START_NS), at_ns(len(pcm), START_NS)).evidence
    assert evidence is not None
    assert evidence.embedding is not None
    assert evidence.embedding.dtype == np.float32
    stranger = encoder._head.posterior(encoder._head.place(evidence.embedding[np.newaxis])[0], encoder._head.stranger())
    np.testing.assert_allclose(encoder._projection.posterior(stranger[np.newaxis])[0], evidence.probs, atol=1e-6)


def test_evidence_comes_and_goes_with_the_speech(encoder: VoiceEncoder) -> None:
    pcm, begin_ns, finish_ns = scene()
    heard = {end_ns: encoder.encode(part, end_ns) for part, end_ns in windows(blocks(pcm, start_ns=START_NS))}
    for end_ns, reading in heard.items():
        if end_ns < begin_ns + 400_000_000 or end_ns > finish_ns + SPAN_NS:
            assert reading.evidence is None, end_ns
        if begin_ns + 1_500_000_000 < end_ns < finish_ns + 1_500_000_000:
            assert reading.evidence is not None, end_ns
            assert reading.evidence.t_ns <= end_ns
    (utterance,) = (utterance for reading in heard.values() for utterance in reading.utterances)
    assert abs(utterance.t_ns - begin_ns) < 150_000_000
    assert abs(utterance.end_ns - finish_ns) < 150_000_000


def test_overlapping_windows_cost_only_what_is_new(encoder: VoiceEncoder) -> None:
    pcm, _, finish_ns = scene()
    stream = blocks(pcm, start_ns=START_NS)
    assert isinstance(encoder._embedding, Counting)
    assert isinstance(encoder._activity, Counting)
    after = []
    for part, end_ns in windows(stream):
        calls = encoder._embedding.calls
        if encoder.encode(part, end_ns).evidence and end_ns > finish_ns + 2 * HOP_NS:
            after.append(encoder._embedding.calls - calls)
    assert len(after) > 2
    assert sum(after) == 0, "no new speech, no new embedding"
    heard = (end_ns - START_NS) * AUDIO_RATE_HZ // 1_000_000_000
    assert encoder._activity.rows == heard // CHUNK, "each chunk goes through voice activity once"


def test_evidence_that_is_not_renewed_keeps_its_instant(encoder: VoiceEncoder) -> None:
    pcm, _, finish_ns = scene()
    evidence = [encoder.encode(part, end_ns).evidence for part, end_ns in windows(blocks(pcm, start_ns=START_NS))]
    late = [item for item in evidence if item is not None and item.t_ns > finish_ns - 200_000_000]
    assert len(late) > 2
    assert len({item.t_ns for item in late}) == 1
    assert len({item.probs.tobytes() for item in late}) == 1


def test_too_little_speech_says_nothing(encoder: VoiceEncoder) -> None:
    pcm = np.concatenate([hush(1), say("Yes."), hush(1, seed=1)])
    reading = encoder.encode(blocks(pcm), at_ns(len(pcm)))
    assert reading.evidence is None


def test_the_best_microphone_decides(encoder: VoiceEncoder) -> None:
    good, _, _ = scene(behind=0.5)
    bad, _, _ = scene(behind=0.5, noise=30)
    silent = hush(len(good) / AUDIO_RATE_HZ)
    samples = blocks(bad, source="a-far") + blocks(good, source="b-near") + blocks(silent, source="c-off")
    samples.sort(key=lambda sample: (sample.end_ns, sample.t_ns, sample.source))
    reading = encoder.encode(samples, at_ns(len(good)))
    assert reading.evidence is not None
    assert reading.evidence.source == "b-near"
    assert list(reading.evidence.rivals) == ["a-far"]
    assert 0 < reading.evidence.rivals["a-far"] < reading.evidence.quality
    assert isinstance(encoder._embedding, Counting)
    assert encoder._embedding.calls == 1


def test_loudness_changes_little(encoder: VoiceEncoder) -> None:
    pcm, _, _ = scene(behind=0.5)
    loud = encoder.encode(blocks(pcm, source="loud"), at_ns(len(pcm))).evidence
    soft = encoder.encode(blocks(pcm * np.float32(0.3), source="soft"), at_ns(len(pcm))).evidence
    assert loud is not None
    assert soft is not None
    np.testing.assert_allclose(loud.probs, soft.probs, atol=0.2)
    assert loud.dimensions["arousal"] == pytest.approx(soft.dimensions["arousal"], abs=0.1)


def test_sound_that_is_not_finite_is_told_once(encoder: VoiceEncoder, caplog: pytest.LogCaptureFixture) -> None:
    pcm, _, _ = scene(behind=0.5)
    stream = blocks(pcm, start_ns=START_NS)
    for i in (5, 90, 95):
        sound = stream[i].payload
        assert isinstance(sound, Audio)
        sound.pcm[3] = np.nan
    with caplog.at_level(logging.WARNING):
        readings = [encoder.encode(part, end_ns) for part, end_ns in windows(stream)]
    assert readings[-1].evidence is not None
    assert np.isfinite(readings[-1].evidence.probs).all()
    assert [record.getMessage() for record in caplog.records] == [
        "microphone: sound with NaN or infinity in it, taken for silence (said once; look at its driver)"
    ]


def test_quality_falls_with_noise_clipping_and_shortness() -> None:
    words = say(SENTENCE)
    clean = quality(words, -60.0)
    assert clean > 0.95
    assert clean > quality(words, -28.0) > quality(words, -22.0) > quality(words, 0.0) == 0
    clipped = [quality(np.clip(gain * words, -1, 1), -60.0) for gain in (1, 5, 20, 100)]
    assert clipped == sorted(clipped, reverse=True)
    assert clipped[3] < 0.7 * clean
    assert quality(words[: AUDIO_RATE_HZ // 2], -60.0) == pytest.approx(clean * 0.5**0.25, abs=0.05)


def test_it_opens_with_the_models_of_the_lock_file() -> None:
    pcm, _, _ = scene(behind=0.5)
    encoder = VoiceEncoder.open(store(), labels=("calm", "happy"), mapping={"neutral": "calm"}, backend="onnxruntime")
    evidence = encoder.encode(blocks(pcm), at_ns(len(pcm))).evidence
    assert evidence is not None
    assert evidence.probs.shape == (2,)
    encoder.close()


def test_the_head_is_not_for_commercial_use() -> None:
    assert not store().models["voice-head"].commercial


def test_long_speech_is_not_read_again_for_every_window(encoder: VoiceEncoder) -> None:
    words = np.concatenate([say(SENTENCE), say(SENTENCE, pitch=70), say(SENTENCE, pitch=30)])
    pcm = np.concatenate([hush(1), words, hush(4)])
    assert isinstance(encoder._embedding, Counting)
    heard = [encoder.encode(part, end_ns) for part, end_ns in windows(blocks(pcm, start_ns=START_NS))]
    spoken_s = len(words) / AUDIO_RATE_HZ
    assert encoder._embedding.calls <= 3 + spoken_s / 1.0, "once a second at most, besides the beginning and the end"
    ages = [end.t_ns for end in (reading.evidence for reading in heard) if end is not None]
    assert ages == sorted(ages)


def test_speech_is_read_by_the_voice_that_was_heard_before(encoder: VoiceEncoder) -> None:
    pcm, _, _ = scene(behind=4)
    stream = blocks(np.tile(pcm, 3), start_ns=START_NS)
    heard = [encoder.encode(part, end_ns).evidence for part, end_ns in windows(stream)]
    by_instant = {item.t_ns: item.probs for item in heard if item is not None}
    length_ns = at_ns(len(pcm))
    last = [max(t for t in by_instant if t < START_NS + n * length_ns) for n in (1, 2, 3)]
    assert not np.allclose(by_instant[last[0]], by_instant[last[1]], atol=1e-3), "the same words, a voice better known"
    encoder.forget("microphone")
    again = [encoder.encode(part, end_ns).evidence for part, end_ns in windows(stream)]
    for one, other in zip(heard, again, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.t_ns == other.t_ns
            np.testing.assert_array_equal(one.probs, other.probs)


def test_arousal_is_read_without_trained_weights_where_they_are_not_allowed() -> None:
    encoder = VoiceEncoder.open_untrained(store(), labels=LABELS)
    pcm = np.concatenate([hush(1), say(SENTENCE, pitch=20), hush(4), say(SENTENCE, pitch=90), hush(1)])
    stream = blocks(pcm, start_ns=START_NS)
    heard = [item for item in (encoder.encode(*window).evidence for window in windows(stream)) if item is not None]
    low, high = heard[0], heard[-1]
    assert high.dimensions["arousal"] > low.dimensions["arousal"] + 0.1
    assert high.probs.sum() == pytest.approx(1)
    ratio = high.probs / high.prior
    assert ratio[LABELS.index("angry")] == pytest.approx(ratio[LABELS.index("happy")])
    assert ratio[LABELS.index("angry")] > ratio[LABELS.index("sad")]
    assert ratio[LABELS.index("disgusted")] == pytest.approx(1), "of which arousal says nothing"
    encoder.close()


def test_arousal_without_trained_weights() -> None:
    calm, excited = Prosody(-1.2, 0.5, 0.6, -20), Prosody(-0.7, 1.1, 0.6, -20)
    usual = UsualVoice()
    for _ in range(20):
        usual = usual.with_heard(calm)
    assert usual.arousal(excited) > 0.7 > 0.6 > usual.arousal(calm) > 0.4
    low, high = UsualVoice(), UsualVoice()
    for _ in range(50):
        low, high = low.with_heard(Prosody(-1.2, 0.0, 0.6, -20)), high.with_heard(Prosody(-1.2, 1.2, 0.6, -20))
    between = Prosody(-1.2, 0.6, 0.6, -20)
    assert low.arousal(between) > 0.6 > 0.4 > high.arousal(between), "high for one voice is low for another"
    assert UsualVoice().arousal(Prosody(-1.0, 0.0, 0.0, -20)) == pytest.approx(0.5), "no pitch says nothing"


def vowel(pitch_hz: float, *, brightness: float) -> F32:
    """Harmonics of `pitch_hz` whose power falls with frequency, the less the brighter."""
    t = np.arange(AUDIO_RATE_HZ) / AUDIO_RATE_HZ
    harmonics = range(1, int(7000 / pitch_hz))
    sound = sum(np.sin(2 * np.pi * pitch_hz * n * t) / n ** (2 / brightness) for n in harmonics)
    return np.asarray(0.1 * sound, np.float32)


@pytest.mark.parametrize("pitch_hz", [75, 110, 160, 220, 400])
def test_pitch(pitch_hz: float) -> None:
    found = measure(vowel(pitch_hz, brightness=2))
    assert 100 * 2**found.pitch == pytest.approx(pitch_hz, rel=0.02)
    assert found.voiced == 1


def test_a_brighter_voice_has_a_flatter_spectrum() -> None:
    assert measure(vowel(150, brightness=2)).tilt > measure(vowel(150, brightness=1)).tilt + 0.5


def test_prosody_of_what_has_no_pitch() -> None:
    silence, noise = measure(np.zeros(8000, np.float32)), measure(hush(1))
    assert (silence.voiced, silence.pitch, silence.level_db) == (0, 0, -100)
    assert noise.voiced < 0.1
    assert noise.level_db == pytest.approx(-60, abs=1)
    with pytest.raises(ValueError, match="needs at least 640"):
        measure(np.zeros(639, np.float32))
