"""Who reads what `engines.training.quality` shows: the deployed encoders, one input at a time, and their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from agent.seams import Encoder
from agent.types import AUDIO_RATE_HZ, F32, F64, U8, Audio, Frame, Modality, Payload, Sample, Text
from engines.evaluation.present import APART_NS, Remembers, room_tone
from engines.face import FaceEncoder
from engines.familiarity import Familiarity
from engines.language import LanguageEncoder
from engines.models import ModelStore
from engines.training import comments, face_data, utterances
from engines.training import familiar as fitting
from engines.training.comments import LABELS
from engines.training.voice import HELD_OUT
from engines.voice import VoiceEncoder

NAMES = {Modality.VISION: "face-familiar", Modality.AUDIO: "voice-familiar"}
"""Of the models that say what is familiar."""
_QUIET = 2 * AUDIO_RATE_HZ
"""Samples of the room before an utterance."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Read:
    """What was said about one input."""

    label: str
    quality: float
    confidence: float
    """Of the likeliest label, under equal priors."""


def familiar(modality: Modality, folder: Path, cache: Path) -> Familiarity:
    """Of the inputs that the encoder of a modality is trained on, as they are. Raises ValueError for texts."""
    match modality:
        case Modality.VISION:
            table = face_data.read_table(folder)
            shown = face_data.gather(folder, table.files, cache, face_data.models())
            own = table.train[shown.item]
            return fitting.fit(shown.close[own, 0], table.people[shown.item][own])
        case Modality.AUDIO:
            rows = utterances.read_rows(folder)
            heard = utterances.gather(folder, [row.file for row in rows], cache / "voice")
            trained = np.array([row.speaker not in HELD_OUT and row.split == "train" for row in rows])[heard.item]
            own = trained & (heard.way == utterances.PLAIN)
            return fitting.fit(heard.x[own], np.array([row.speaker for row in rows])[heard.item][own])
        case Modality.TEXT:
            raise ValueError("quality text: nothing is fitted to texts; leave out --fit")


def pictures(folder: Path, items: int) -> tuple[list[tuple[U8, str]], Callable[[U8], Read | None]]:
    """Faces of ``val`` with their labels, and the reader."""
    table = face_data.read_table(folder)
    chosen = np.random.default_rng(SEED).permutation(np.flatnonzero(~table.train))[:items].tolist()
    found = [(face_data.read_picture(folder / table.files[i]), str(table.labels[i])) for i in chosen]
    reader = _Reader(FaceEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime"))
    return found, lambda frame: reader.instant(Frame(frame))


def texts(folder: Path, items: int) -> tuple[list[tuple[str, str]], Callable[[str], Read | None]]:
    """Comments of ``test`` that have one label, and the reader."""
    test = comments.read(folder)[1]["test"].single()
    chosen = np.random.default_rng(SEED).permutation(len(test.texts))[:items].tolist()
    reader = _Reader(LanguageEncoder.open(ModelStore(), labels=LABELS, languages=["en"], backend="onnxruntime"))
    return [(test.texts[i], LABELS[test.y[i]]) for i in chosen], lambda text: reader.instant(Text(text))


def sounds(folder: Path, items: int) -> tuple[list[tuple[F32, str]], Callable[[F32], Read | None]]:
    """Utterances of the speakers `HELD_OUT`, and the reader, to whom each is the first that a stranger says."""
    rows = [row for row in utterances.read_rows(folder) if row.speaker in HELD_OUT or row.split != "train"]
    if not rows:
        raise ValueError(
            f"{folder / 'labels.csv'}: wants speech of {', '.join(HELD_OUT)} or of another split than train"
        )
    chosen = np.random.default_rng(SEED).permutation(len(rows))[:items].tolist()
    reader = _Reader(VoiceEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime"))
    return [(utterances.read_sound(folder / rows[i].file), rows[i].label) for i in chosen], reader.utterance


class _Reader:
    """An encoder that is shown one input after the other, far apart in time."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._instants = count(APART_NS, APART_NS)

    def instant(self, payload: Payload) -> Read | None:
        t_ns = next(self._instants)
        return self._read([Sample("item", payload, t_ns, t_ns, t_ns)], t_ns)

    def utterance(self, pcm: F32) -> Read | None:
        """All of it in one window, the room before and behind it, by a source of its own."""
        room = room_tone(pcm, _QUIET, seed=SEED)
        whole = np.concatenate([room, pcm, room[: _QUIET // 4]])
        t_ns = next(self._instants)
        end_ns = t_ns + len(whole) * 1_000_000_000 // AUDIO_RATE_HZ
        source = f"at {t_ns}"
        found = self._read([Sample(source, Audio(whole), t_ns, end_ns, end_ns)], end_ns)
        if isinstance(self._encoder, Remembers):
            self._encoder.forget(source)
        return found

    def _read(self, samples: Sequence[Sample], end_ns: int) -> Read | None:
        evidence = self._encoder.encode(samples, end_ns).evidence
        if evidence is None:
            return None
        return Read(
            LABELS[int(np.argmax(evidence.probs))], evidence.quality, _confidence(evidence.probs, evidence.prior)
        )


def _confidence(probs: F64, prior: F64) -> float:
    likelihood = probs / prior
    return float(likelihood.max() / likelihood.sum())
