"""What a compute budget saves, and what it costs: the curve of ``[agent] budget`` on the bundled session.

The real encoders read it. Time is processor time of their threads, so that what else runs on the machine does not
count. It is compared with the same session without a budget: how often the label is the same (both abstaining
included), and how far the posteriors are apart. `tests.bench.scenes` does the same where the label is known.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.clock import MS, VirtualClock
from agent.config import Config
from agent.deciding.build import build_pipeline
from agent.playback import play
from agent.seams import Encoder, Transcriber
from agent.types import Absence, Decision, Modality, Reading, Sample, Source, Watermark
from engines.encoders import open_encoders
from engines.models import ModelStore
from sensors.session import Session

ROOT = Path(__file__).parent.parent.parent
BUDGETS_MS = (None, 40, 30, 20, 15, 10, 7, 5)
Event = Sample | Watermark


class WorkClock(VirtualClock):
    """A virtual clock on which work takes time in the thread that does it, and in no other."""

    def __init__(self) -> None:
        super().__init__()
        self._main = threading.get_ident()
        self._own = threading.local()

    def now_ns(self) -> int:
        return super().now_ns() + (0 if threading.get_ident() == self._main else self.worked_ns())

    def worked_ns(self) -> int:
        """How long this thread has worked."""
        return time.thread_time_ns()


class ScriptedClock(WorkClock):
    """A `WorkClock` whose work is only said to be done."""

    def worked_ns(self) -> int:
        return getattr(self._own, "ns", 0)

    def work(self, ns: int) -> None:
        self._own.ns = self.worked_ns() + ns


@dataclass(slots=True)
class Metered:
    """An encoder whose time is summed up."""

    inner: Encoder
    clock: WorkClock
    spent_ns: int = 0

    @property
    def modality(self) -> Modality:
        return self.inner.modality

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        begin_ns = self.clock.now_ns()
        try:
            return self.inner.encode(samples, end_ns)
        finally:
            self.spent_ns += self.clock.now_ns() - begin_ns

    def close(self) -> None:
        self.inner.close()


@dataclass(slots=True)
class Run:
    """Decisions under a budget."""

    decisions: list[Decision]
    spent_ns: Mapping[Modality, int]

    @property
    def ms(self) -> float:
        """Encoder time a decision."""
        return sum(self.spent_ns.values()) / MS / len(self.decisions)

    def skipped(self, modality: Modality) -> float:
        """Share of the decisions in which it was."""
        return float(np.mean([d.missing.get(modality) is Absence.SKIPPED for d in self.decisions]))

    @property
    def probs(self) -> np.ndarray:
        """(N, K)."""
        return np.array([list(d.probabilities.values()) for d in self.decisions])


async def run(
    events: Iterable[Event],
    sources: Sequence[Source],
    encoders: Mapping[Modality, Encoder],
    transcriber: Transcriber | None,
    *,
    clock: WorkClock,
    budget_ms: float | None,
) -> Run:
    config = Config.model_validate({"agent": {"budget": "none" if budget_ms is None else f"{budget_ms:g} ms"}})
    metered = {m: Metered(encoder, clock) for m, encoder in encoders.items()}
    pipeline = build_pipeline(
        config, sources=sources, encoders=metered, transcriber=transcriber, clock=clock, session="bench"
    )
    try:
        decisions = [decided.decision async for decided in play(events, pipeline, clock)]
    finally:
        pipeline.close()
    return Run(decisions, {m: meter.spent_ns for m, meter in metered.items()})


HEAD = f"{'budget':>7} {'ms/decision':>12} {'saved':>6}  skipped: vision audio  text  "


def row(budget_ms: float | None, found: Run, full: Run) -> str:
    name = "none" if budget_ms is None else f"{budget_ms:g} ms"
    shares = " ".join(f"{100 * found.skipped(m):5.0f}%" for m in Modality)
    return f"{name:>7} {found.ms:12.1f} {100 * (1 - found.ms / full.ms):5.0f}%          {shares}  "


def main() -> None:
    """The bundled session."""
    logging.disable(logging.WARNING)
    session = Session.open(ROOT / "sensors" / "demo")
    events = list(session.events())
    full: Run | None = None
    print(HEAD + f"{'same label':>10} {'apart (total variation)':>24}")
    for budget_ms in BUDGETS_MS:
        encoders, transcriber = open_encoders(Config(), ModelStore())
        found = asyncio.run(run(events, session.sources, encoders, transcriber, clock=WorkClock(), budget_ms=budget_ms))
        full = full or found
        same = np.mean([a.label == b.label for a, b in zip(found.decisions, full.decisions, strict=True)])
        apart = 0.5 * np.abs(found.probs - full.probs).sum(axis=1).mean()
        print(row(budget_ms, found, full) + f"{100 * same:9.0f}% {apart:24.3f}", flush=True)
