"""Speech in overlapping windows costs, and counts, once."""

import numpy as np

from agent.types import F64
from engines.follower import QUIET_S, WHOLE_S, Follower
from engines.speech import Speech
from engines.vad import CHUNK_NS
from tests.test_speaker import head

SECOND = 1_000_000_000


def speech(begin_s: float, end_s: float, *, over: bool = False) -> Speech:
    ends = np.arange(int(begin_s * SECOND) + CHUNK_NS, int(end_s * SECOND) + 1, CHUNK_NS).astype(np.int64)
    return Speech(np.zeros(1, np.float32), ends, over, 1.0)


def test_it_reads_when_half_is_new_or_speech_is_over() -> None:
    follower = Follower(head())
    assert follower.wants(speech(0, 0.6))
    follower.read(speech(0, 0.6), np.zeros(2))
    assert not follower.wants(speech(0, 1.0))
    assert follower.wants(speech(0, 1.3))
    assert follower.wants(speech(0, 0.8, over=True))
    follower.read(speech(0, 1.3, over=True), np.zeros(2))
    assert not follower.wants(speech(0, 1.3, over=True)), "nothing new"


def test_an_utterance_counts_once() -> None:
    model, z = head(), np.array([3.0, 3.0])
    follower = Follower(model)
    whole = speech(0, 2, over=True)
    follower.read(whole, z)
    for _ in range(5):
        follower.settle(whole)
    expected = model.posterior(z, model.learn(z, model.stranger()))
    np.testing.assert_allclose(follower.read(speech(0, 2.0, over=True), z), expected)


def test_what_is_said_does_not_change_how_it_is_read_itself() -> None:
    model, z = head(), np.array([3.0, 3.0])
    follower = Follower(model)
    for end_s in (0.6, 1.2, 2.0):
        part = speech(0, end_s)
        np.testing.assert_allclose(follower.read(part, z), model.posterior(z, model.stranger()))
        follower.settle(part)


def test_long_speech_is_learnt_as_it_goes_on() -> None:
    model, z = head(), np.array([3.0, 3.0])
    follower = Follower(model)
    part = speech(0, WHOLE_S + 0.1)
    follower.read(part, z)
    follower.settle(part)
    assert not np.allclose(follower.read(speech(3, 6), z), model.posterior(z, model.stranger()))


def test_only_a_long_silence_lets_a_voice_fade() -> None:
    model, z = head(), np.array([3.0, 3.0])
    known = model.learn(z, model.stranger())

    def after(pause_s: float) -> F64:
        follower = Follower(model)
        said = speech(0, 2, over=True)
        follower.read(said, z)
        follower.settle(said)
        return follower.read(speech(2 + pause_s, 4 + pause_s), z)

    np.testing.assert_allclose(after(QUIET_S / 2), model.posterior(z, known))
    np.testing.assert_allclose(after(QUIET_S + 600), model.posterior(z, model.faded(known, 602)), atol=1e-3)
    np.testing.assert_allclose(after(1e6), model.posterior(z, model.stranger()), atol=1e-9)
