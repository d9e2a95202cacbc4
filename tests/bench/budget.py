"""What a compute budget saves, and what it costs: the curve of ``[agent] budget``.

``python -m tests.bench budget`` plays the bundled session with the real encoders. Time is processor time of the
encoders' threads, so that what else runs on the machine does not count. Against the same session without a budget:
how often the label is the same (both abstaining included), and how far the posteriors are apart.

``python -m tests.bench.budget --data vision=DIR --data audio=DIR --data text=DIR [--split …] [--work DIR]`` makes
scenes of label-paired evidence: what the deployed encoders say about labelled items, of which the scene's label draws
those that it shows, says and writes. There the label is known, and accuracy is measured. Encoders then take what
``python -m tests.bench encoders`` measured.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from agent.assembly import build_pipeline
from agent.clock import MS, SECOND, VirtualClock
from agent.config import Config
from agent.playback import play
from agent.seams import Encoder, Transcriber
from agent.types import Absence, Audio, Decision, Evidence, Frame, Modality, Reading, Sample, Source, Text, Watermark
from engines.encoders import open_encoders
from engines.evaluation.dataset import read
from engines.evaluation.pool import Pool, collect
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
        decisions = [decision async for decision in play(events, pipeline, clock)]
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


FRAME_MS, SOUND_MS, READ_MS, TEXT_MS = 7.2, 1.5, 15.0, 10.0
"""A frame, a hop of sound, a stretch of speech that is read, a message: see ``python -m tests.bench encoders``."""
DWELL_S, SCENE_S = 8.0, 600.0
"""How long a label lasts on average, and a scene."""
FRAMES_HZ, LOOK_S = 5, 2.0
"""A face shows one picture of its label for so long."""
SPEAKS_S, PAUSES_S = 3.0, 3.0
WRITES_S = 8.0
"""Mean time between messages."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens, and what the encoders say of it."""

    events: list[Event]
    said: WeakKeyDictionary[Sample, Evidence | None]
    changes_ns: list[int]
    """When a label begins…"""
    labels: list[int]
    """…and which."""

    def label_at(self, t_ns: int) -> int:
        return self.labels[int(np.searchsorted(self.changes_ns, t_ns, side="right")) - 1]


SOURCES = (
    Source("camera", Modality.VISION),
    Source("microphone", Modality.AUDIO),
    Source("text", Modality.TEXT, late_by_ns=SECOND),
)


def scene(pools: Mapping[Modality, Pool], seed: int) -> Scene:
    """A label lasts for a while; meanwhile a camera sees its faces, and now and then it is said and written."""
    rng = np.random.default_rng(seed)
    shared = sorted(set.intersection(*({int(k) for k in pool.y[pool.answered]} for pool in pools.values())))
    made = Scene([], WeakKeyDictionary(), [], [])

    def evidence(modality: Modality, label: int, t_ns: int) -> Evidence | None:
        pool = pools[modality]
        i = int(rng.choice(np.flatnonzero(pool.y == label)))
        name = SOURCES[list(Modality).index(modality)].name
        if not pool.answered[i]:
            return None
        return Evidence(modality, name, pool.probs[i], pool.priors[i], float(pool.quality[i]), t_ns, "kept")

    def add(sample: Sample, said: Evidence | None) -> None:
        made.events.append(sample)
        made.said[sample] = said

    t_s, label = 0.0, -1
    while t_s < SCENE_S:
        label = int(rng.choice([k for k in shared if k != label]))
        made.changes_ns.append(round(t_s * SECOND))
        made.labels.append(label)
        t_s += float(rng.exponential(DWELL_S))
    for at_s in np.arange(0.0, SCENE_S, LOOK_S):
        face: dict[int, Evidence | None] = {}
        for t_ns in (round((at_s + i / FRAMES_HZ) * SECOND) for i in range(1, round(LOOK_S * FRAMES_HZ) + 1)):
            label = made.label_at(t_ns)
            if label not in face:
                face[label] = evidence(Modality.VISION, label, t_ns)
            add(Sample("camera", Frame(np.zeros((1, 1, 3), np.uint8)), t_ns, t_ns, t_ns), face[label])
    for at_s in np.arange(0.0, SCENE_S, SPEAKS_S + PAUSES_S):
        voice = evidence(Modality.AUDIO, made.label_at(round((at_s + SPEAKS_S / 2) * SECOND)), 0)
        for i in range(1, round((SPEAKS_S + PAUSES_S) * 10) + 1):
            t_ns = round(at_s * SECOND) + i * SECOND // 10
            block = Audio(np.zeros(1, np.float32))
            add(Sample("microphone", block, t_ns - SECOND // 10, t_ns, t_ns), voice if i <= SPEAKS_S * 10 else None)
    at_s = float(rng.exponential(WRITES_S))
    while at_s < SCENE_S:
        t_ns = round(at_s * SECOND)
        add(Sample("text", Text("…"), t_ns, t_ns, t_ns), evidence(Modality.TEXT, made.label_at(t_ns), t_ns))
        at_s += float(rng.exponential(WRITES_S))
    made.events.extend(Watermark("text", i * SECOND // 4) for i in range(1, round(SCENE_S) * 4))
    made.events.sort(key=lambda event: event.arrival_ns if isinstance(event, Sample) else event.t_ns)
    return made


@dataclass(slots=True)
class Scripted:
    """An encoder that says what is kept, and takes what the real one would: once for each sample."""

    modality: Modality
    scene: Scene
    clock: ScriptedClock
    seen: set[Sample] = field(default_factory=set)

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        new = [sample for sample in samples if sample not in self.seen]
        self.seen = set(samples)
        self.clock.work(round(self._cost_ms(new) * MS))
        told = [(sample, said) for sample in samples if (said := self.scene.said[sample])]
        if not told:
            return Reading(None)
        sample, newest = told[-1]
        if self.modality is Modality.VISION:
            probs = np.mean([said.probs for _, said in told], axis=0)
            quality = sum(said.quality for _, said in told) / len(samples)
        else:
            probs, quality = newest.probs, newest.quality
        return Reading(
            Evidence(self.modality, newest.source, probs, newest.prior, quality, sample.end_ns, newest.engine)
        )

    def _cost_ms(self, new: Sequence[Sample]) -> float:
        match self.modality:
            case Modality.VISION:
                return FRAME_MS * len(new)
            case Modality.AUDIO:
                speech = any(self.scene.said[sample] for sample in new)
                return SOUND_MS * len(new) / 5 + READ_MS * speech
            case Modality.TEXT:
                return TEXT_MS * len(new)

    def close(self) -> None:
        pass


def scenes(pools: Mapping[Modality, Pool], seeds: Sequence[int]) -> Iterator[str]:
    """The table."""
    made = [scene(pools, seed) for seed in seeds]
    full: Run | None = None
    yield HEAD + f"{'accuracy':>9} {'abstained':>10} {'same label':>11}"
    for budget_ms in BUDGETS_MS:
        found, right = Run([], dict.fromkeys(Modality, 0)), list[bool]()
        for one in made:
            clock = ScriptedClock()
            encoders = {m: Scripted(m, one, clock) for m in Modality}
            part = asyncio.run(run(one.events, SOURCES, encoders, None, clock=clock, budget_ms=budget_ms))
            found = Run(
                found.decisions + part.decisions,
                {m: found.spent_ns[m] + part.spent_ns[m] for m in Modality},
            )
            names = list(part.decisions[0].probabilities)
            right += [d.label == names[one.label_at(d.end_ns)] for d in part.decisions]
        full = full or found
        same = np.mean([a.label == b.label for a, b in zip(found.decisions, full.decisions, strict=True)])
        silent = np.mean([d.abstained for d in found.decisions])
        yield (row(budget_ms, found, full) + f"{100 * np.mean(right):8.1f}% {100 * silent:9.1f}% {100 * same:10.0f}%")


def on_data() -> None:
    """Label-paired scenes, from the command line."""
    parser = argparse.ArgumentParser(description=on_data.__doc__)
    parser.add_argument("--data", action="append", default=[], metavar="MODALITY=DIR")
    parser.add_argument("--split", action="append", default=[], metavar="MODALITY=NAME")
    parser.add_argument("--items", type=int, default=600, help="of each dataset at most")
    parser.add_argument("--work", type=Path, help="where evidence is kept between runs")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    folders, splits = ({Modality(k): v for k, _, v in (x.partition("=") for x in xs)} for xs in (args.data, args.split))
    if lacking := [m for m in Modality if m not in folders]:
        parser.error("wants " + " ".join(f"--data {m}=DIR" for m in lacking))
    config, pools = Config(), {}
    for m in Modality:
        data = read(Path(folders[m]), m, labels=config.agent.labels, split=splits.get(m), renamed={})
        pools[m] = collect(config, m, data.few(args.items, seed=0), work=args.work)
    for line in scenes(pools, seeds=(0, 1)):
        print(line, flush=True)


if __name__ == "__main__":
    on_data()
