"""What is known of the voice at one microphone, and when speech is read anew.

Windows overlap; a stretch of speech must cost, and count, once. So speech is read when half of what the window holds is
new, and once more when it is over; and what was read narrows down whose voice it is when it is over, or after
`WHOLE_S` of it, in proportion to how much of it was new.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from agent.types import F64
from engines.speech import Speech

WHOLE_S = 3.0
"""Speech that counts as one utterance; the heads were trained on such."""
QUIET_S = 60.0
"""A shorter silence leaves what is known as it is; of a longer one what is beyond it lets it fade."""


V = TypeVar("V")
"""What is known of a voice."""


class VoiceHead(Protocol[V]):
    """Features and what is known of the voice -> posterior, and what is known then."""

    @property
    def labels(self) -> tuple[str, ...]:
        """K names."""

    @property
    def prior(self) -> F64:
        """(K,), class prior under which the posterior holds."""

    def stranger(self) -> V:
        """A voice of which nothing is known."""

    def place(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N, d) coordinates."""

    def posterior(self, z: F64, voice: V) -> F64:
        """(K,) probabilities of the labels of z (d,), said by this voice."""

    def learn(self, z: F64, voice: V, *, share: float = 1.0) -> V:
        """What is known once it has said z (d,), which counts as so much of an utterance, 0..1."""

    def faded(self, voice: V, seconds: float) -> V:
        """What is left of it after that long."""

    def arousal(self, posterior: F64) -> float | None:
        """0..1, where the head can tell."""


class Follower(Generic[V]):
    """Reads speech of one source by what came before; time is that of the speech, so that a replay does the same."""

    def __init__(self, head: VoiceHead[V]) -> None:
        self._head = head
        self._voice = head.stranger()
        self._voice_ns: int | None = None
        """When the newest speech that `_voice` knows of ended."""
        self._z: F64 | None = None
        """What was read last…"""
        self._seconds = 0.0
        """…how much speech that was…"""
        self._end_ns = -1
        """…and when it ended."""
        self._fresh = 0.0
        """Seconds of speech that were read and are not in `_voice` yet."""

    def wants(self, speech: Speech) -> bool:
        """Whether it is time to `read` it."""
        fresh = speech.seconds_after(self._end_ns)
        return fresh > 0 and (speech.over or fresh >= speech.seconds / 2)

    def read(self, speech: Speech, z: F64) -> F64:
        """(K,) posterior of speech whose coordinates are z (d,)."""
        self._fade(speech.end_ns)
        self._fresh += speech.seconds_after(self._end_ns)
        self._z, self._seconds, self._end_ns = z, speech.seconds, speech.end_ns
        return self._head.posterior(z, self._voice)

    def settle(self, speech: Speech) -> None:
        """To be told after each window with speech in it: get to know the voice by what was read, if it is time."""
        if self._z is None or not self._fresh or not (speech.over or self._fresh >= WHOLE_S):
            return
        share = float(np.clip(self._fresh / self._seconds, 0, 1))
        self._voice = self._head.learn(self._z, self._voice, share=share)
        self._fresh = 0.0

    def _fade(self, now_ns: int) -> None:
        if self._voice_ns is not None:
            beyond = (now_ns - self._voice_ns) / 1e9 - QUIET_S
            self._voice = self._head.faded(self._voice, beyond) if beyond > 0 else self._voice
        self._voice_ns = now_ns
