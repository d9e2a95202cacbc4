"""The encoders and the transcriber at work, each in a thread of its own: it blocks (inference), it keeps state, and its
engine serves one caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from agent.clock import SECOND, Clock
from agent.deciding.account import Timed
from agent.deciding.selection import Selection
from agent.deciding.wellformed import flaw
from agent.health.metrics import Metrics
from agent.health.repeats import Repeats
from agent.seams import Encoder, EncoderError, Forgetful, Transcriber
from agent.types import Modality, Reading, Sample, Utterance
from agent.worker import Worker

log = logging.getLogger(__name__)


class Encoding:
    """Owns the threads; `close` ends them and frees the engines."""

    CLOSE_S = 1.0
    """How long `close` waits for an encoder that is at work."""

    def __init__(
        self,
        encoders: Mapping[Modality, Encoder],
        transcriber: Transcriber | None,
        *,
        labels: int,
        selections: Mapping[Modality, Selection],
        patience_ns: int | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Evidence is about so many ``labels``; the others are as in `agent.deciding.pipeline.Pipeline`."""
        self.encoders = encoders
        self.transcriber = transcriber
        self._labels = labels
        self._selections = selections
        self._patience_s = None if patience_ns is None else patience_ns / SECOND
        self._clock = clock
        self._metrics = metrics
        self._workers = {m: Worker(f"encode {m}") for m in encoders}
        self._listener = Worker("transcribe")
        self._slow: dict[Modality, asyncio.Task[Timed | None]] = {}  # encoders that have not done with an older window
        self._repeats = {m: Repeats() for m in Modality}
        self._failures: dict[Modality, str] = {}  # what was said of those that failed the last time

    @property
    def hanging(self) -> Collection[Modality]:
        """Encoders that have not done with an older window."""
        return [modality for modality, task in self._slow.items() if not task.done()]

    def free(self, modalities: Collection[Modality]) -> list[Modality]:
        """Those of them that have an encoder which is not still at work on an older window."""
        return [m for m in modalities if m in self.encoders and m not in self._slow]

    def let_go(self) -> Iterator[tuple[Modality, Timed]]:
        """Of encoders that have done with their old window: what they found is stale, but a bug is not swallowed."""
        for modality, task in [(m, task) for m, task in self._slow.items() if task.done()]:
            del self._slow[modality]
            if late := task.result():
                yield modality, late

    async def run(self, given: Mapping[Modality, Sequence[Sample]], end_ns: int) -> dict[Modality, Timed | None]:
        """The readings of those that were done in time, None where one failed; the others are counted as skipped."""
        tasks = {
            m: asyncio.create_task(self._encode(m, samples, end_ns), name=f"encode {m}")
            for m, samples in given.items()
            if m in self.encoders
        }
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self._patience_s)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        self._slow |= {m: task for m, task in tasks.items() if not task.done()}
        for modality in self._slow:
            self._metrics.count(f"encode.{modality}.skipped")
        return {m: task.result() for m, task in tasks.items() if task.done()}

    async def forget(self, sources: Callable[[Modality], Collection[str]]) -> None:
        """Have the encoders forget what they remember of the sources of their modality; returns when they have.

        Cancelling gives up waiting alone: each forgets before it encodes anything more, whatever hangs now.
        """
        forgetting = [
            asyncio.create_task(self._workers[modality].run(partial(encoder.forget, source)), name=f"forget {source}")
            for modality, encoder in self.encoders.items()
            if isinstance(encoder, Forgetful)
            for source in sources(modality)
        ]
        await asyncio.gather(*map(asyncio.shield, forgetting))

    async def transcribe(self, utterance: Utterance) -> str | None:
        """The words of an utterance; None when none were understood."""
        transcriber = self.transcriber
        if transcriber is None:
            return None
        try:
            return await self._listener.run(lambda: transcriber.transcribe(utterance))
        except EncoderError as error:
            self._metrics.count("transcribe.failed")
            log.warning("transcription failed: %s", error)
            return None

    def close(self) -> None:
        """End the threads and free the engines; one that is still at work after `CLOSE_S` is left to itself."""
        parts: list[tuple[Worker, Encoder | Transcriber]] = [
            (self._workers[m], encoder) for m, encoder in self.encoders.items()
        ]
        if self.transcriber:
            parts.append((self._listener, self.transcriber))
        for worker, _ in parts:
            worker.dismiss()
        until_s = time.monotonic() + self.CLOSE_S
        for worker, part in parts:
            if worker.ended(max(0.0, until_s - time.monotonic())):
                part.close()

    async def _encode(self, modality: Modality, samples: Sequence[Sample], end_ns: int) -> Timed | None:
        """The reading of one modality; None when its encoder failed, which is counted and said."""
        encoder = self.encoders[modality]
        if modality in self._selections:
            samples = self._selections[modality](samples, end_ns)
            if not samples:
                self._metrics.count(f"align.{modality}.unmatched")
                return Timed(Reading(None), 0)

        def work() -> Timed:
            begin_ns = self._clock.now_ns()
            reading = encoder.encode(samples, end_ns)
            return Timed(reading, self._clock.now_ns() - begin_ns)

        try:
            timed = await self._workers[modality].run(work)
        except EncoderError as error:
            self._failed(modality, str(error), end_ns)
            return None
        self._metrics.encoded(modality, timed.encode_ns)
        if timed.reading.unread:
            self._metrics.count("text.language_refused", timed.reading.unread)
        evidence = timed.reading.evidence
        if evidence and (said := flaw(evidence, modality, self._labels)):
            self._failed(modality, f"its evidence is refused, because {said}", end_ns)
            return None
        self._failures.pop(modality, None)
        return timed

    def _failed(self, modality: Modality, said: str, end_ns: int) -> None:
        """Count it, and say it unless the same was said before, and nothing has gone well since, or not long ago."""
        self._metrics.count(f"encode.{modality}.failed")
        known = self._failures.get(modality) == said
        if not known and (message := self._repeats[modality].due(said, end_ns)):
            self._failures[modality] = said
            log.warning("encoder %s failed in the window that ends at %d ns: %s", modality, end_ns, message)
