"""``launch.py models build``: plans of the encoders that the config runs on TensorRT, and what int8 is fitted to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from agent.config import Config
from agent.types import Modality, Sample, Watermark
from engines import Array, Engine, EngineError, Tensor
from engines.models import ModelError, ModelStore, Progress
from engines.placement import Deployment
from engines.platforms import Platform

PLACED: Mapping[Modality, tuple[str, ...]] = {
    Modality.VISION: ("face-detector-near", "face-detector-far", "face-encoder", "face-embedding", "face-general"),
    Modality.AUDIO: ("voice-encoder", "speech-encoder"),
    Modality.TEXT: ("language-encoder",),
}
"""The models that ``[encoders.<modality>] backend`` places; voice activity and the decoder stay on ONNX Runtime. Where
it is fetched, the encoder for Chinese is another."""
FEEDS = 64
"""Inputs of each model that are kept for calibration, spread evenly over what was seen."""


def build_plans(
    config: Config, store: ModelStore, platform: Platform, *, names: Sequence[str] = (), progress: Progress
) -> None:
    """Build, check and keep the plan of each model, or of those in `names`, telling `progress` each step.

    A plan that is there already is checked alone. Raises `EngineError` when it is through, a line for each that failed.
    """
    tables = {
        name: table
        for modality, table in config.encoders.items()
        if table.enabled and table.backend != "onnxruntime"
        for name in placed(modality, config, store)
    }
    faults = [
        f"{name}: no encoder has it run on TensorRT; there are {', '.join(tables)}"
        for name in names
        if name not in tables
    ]
    for name, table in tables.items():
        if names and name not in names:
            continue
        try:
            deployment = Deployment.of(store.path(name), platform, precision=table.precision, plans=plans_of(store))
            progress(name, _build(deployment, partial(progress, name)))
        except (EngineError, ModelError) as error:
            progress(name, "failed")
            faults.append(str(error))
    if faults:
        raise EngineError("\n".join(faults))


def placed(modality: Modality, config: Config, store: ModelStore) -> tuple[str, ...]:
    """Of the models that an encoder's table places, those that it opens under this config."""
    from engines.language import CHINESE

    names = list(PLACED[modality])
    if modality is Modality.AUDIO:
        if not (config.agent.transcribe and config.encoders.text.enabled):
            names.remove("speech-encoder")
        if store.commercial and not store.model("voice-head").commercial:
            names.remove("voice-encoder")
    languages = config.encoders.text.languages
    if modality is Modality.TEXT and (languages is None or "zh" in languages):
        names += [CHINESE[0]] if all(store.file(store.model(name)).exists() for name in CHINESE) else []
    return tuple(names)


def plans_of(store: ModelStore) -> Path:
    """Where the plans of a store's models are kept."""
    return store.cache / "plans"


def _build(deployment: Deployment, say: Callable[[str], None]) -> str:
    begin_s, there = time.monotonic(), deployment.cache.load(deployment.key) is not None
    deployment.open_or_build(stop=Event(), say=say).close()
    took = f"{time.monotonic() - begin_s:.1f} s"
    return f"{deployment.key.precision}, {'was ready' if there else 'built'} and checked in {took}"


@dataclass(slots=True)
class Kept:
    """Inputs of one model: every `stride`-th, never more than `FEEDS`."""

    feeds: list[dict[str, Array]]
    stride: int = 1
    seen: int = 0

    def add(self, feeds: Mapping[str, Array]) -> None:
        if self.seen % self.stride == 0:
            self.feeds.append({name: array.copy() for name, array in feeds.items()})
            if len(self.feeds) >= FEEDS:
                self.feeds, self.stride = self.feeds[::2], self.stride * 2
        self.seen += 1


class RecordingEngine:
    """Passes on to another engine, and keeps what it was fed."""

    def __init__(self, engine: Engine, kept: Kept) -> None:
        self._engine = engine
        self._kept = kept
        self.backend = engine.backend
        self.inputs: tuple[Tensor, ...] = engine.inputs
        self.outputs: tuple[Tensor, ...] = engine.outputs

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._kept.add(feeds)
        return self._engine.infer(feeds)

    def close(self) -> None:
        self._engine.close()

    def __str__(self) -> str:
        return str(self._engine)


def recorded(config: Config, store: ModelStore, events: Iterable[Sample | Watermark]) -> dict[str, Kept]:
    """What each model is fed, by the stem of its file, when a session's samples go through the encoders hop by hop."""
    from engines.encoders import open_encoders
    from engines.ort import OrtEngine

    kept: dict[str, Kept] = {}

    def opener(path: Path, threads: int) -> Engine:
        return RecordingEngine(OrtEngine(path, threads=threads), kept.setdefault(path.stem, Kept([])))

    encoders, transcriber = open_encoders(config, store, opener=opener)
    samples = [event for event in events if isinstance(event, Sample)]
    hop_ns, end_ns = config.agent.hop, max((sample.end_ns for sample in samples), default=0)
    spans = {modality: table.span for modality, table in config.encoders.items()}
    try:
        for at_ns in range(hop_ns, end_ns + hop_ns, hop_ns):
            for modality, encoder in encoders.items():
                part = [s for s in samples if s.modality is modality and at_ns - spans[modality] < s.end_ns <= at_ns]
                reading = encoder.encode(part, at_ns) if part else None
                for utterance in reading.utterances if reading and transcriber else ():
                    assert transcriber is not None
                    transcriber.transcribe(utterance)
    finally:
        for each in (*encoders.values(), transcriber):
            if each is not None:
                each.close()
    return kept


def calibrate(config: Config, store: ModelStore, events: Iterable[Sample | Watermark]) -> dict[str, int]:
    """Keep, for int8, what a session's windows feed each model; how many inputs of each."""
    from engines.precision import write_calibration

    found = {name: kept.feeds for name, kept in recorded(config, store, events).items() if kept.feeds}
    for name, feeds in found.items():
        write_calibration(plans_of(store) / f"{name}.calibration.npz", feeds)
    return {name: len(feeds) for name, feeds in found.items()}
