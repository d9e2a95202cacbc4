"""What a compute budget costs in accuracy: the curve of ``[agent] budget`` on scenes of label-paired evidence.

``python -m tests.bench.scenes --data vision=DIR --data audio=DIR --data text=DIR [--split …] [--work DIR]``

A scene has a label for a while. Meanwhile a camera sees its faces, and now and then it is said and written: all are
drawn from what the deployed encoders say about labelled items. Encoders take what ``python -m tests.bench encoders``
measured. A face stays the same for `LOOK_S`, so that looking at it again tells nothing new.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from agent.clock import MS, SECOND
from agent.config import Config
from agent.types import Audio, Evidence, Frame, Modality, Reading, Sample, Source, Text, Watermark
from engines.evaluation.dataset import read
from engines.evaluation.pool import Pool, collect
from tests.bench.budget import BUDGETS_MS, HEAD, Event, Run, ScriptedClock, row, run

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


def main() -> None:
    """The table, for the data that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    main()
