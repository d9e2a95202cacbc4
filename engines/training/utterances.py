"""Labelled speech as the voice encoder hears it: its features, as recorded, in part and in noise, and from far off.

A folder holds speech and a ``labels.csv`` with the columns file and label, and perhaps speaker and split. Features are
made by the run-time's own code and kept, block by block, so that work that was broken off goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from rich.progress import Progress

from agent.types import AUDIO_RATE_HZ, F32, Audio, Sample
from engines import Engine, open_engine
from engines.models import ModelStore, sha256_of
from engines.speech import find_speech
from engines.training import rooms
from engines.training.reference import TorchaudioError, torchaudio
from engines.vad import Listener
from engines.voice import features

SEED = 0
"""Of how utterances are varied; each utterance has a generator of its own, so that the order does not matter."""
BLOCK = 250
"""Utterances whose features are kept in one file."""
FOLDS = 5
"""Into so many parts the utterances are dealt where nobody says who speaks."""
PLAIN = "as they are"
IN_PART = "parts in noise"
FAR = "far off"
ELSEWHERE = "far off, in rooms of another kind"
"""How an utterance is presented; see `WAYS`."""
NEAR = (PLAIN, IN_PART)
"""What needs no torchaudio."""
TAUGHT = (*NEAR, FAR)
"""What heads are fitted to, as far as there is any of it; the rest only measures them."""
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One line of the table."""

    file: str
    label: str
    speaker: str
    split: str
    """``train`` where the table has no such column."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of all utterances in which speech was found, in each way of presenting them."""

    x: F32
    """(N, D)."""
    item: npt.NDArray[np.intp]
    """(N,), line of labels.csv, from 0."""
    way: npt.NDArray[np.str_]
    """(N,), a key of `WAYS`."""


def read_rows(data: Path) -> list[Row]:
    """The table of the folder `data`. ValueError where a column is missing or it holds nothing."""
    path = data / "labels.csv"
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"file", "label"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: has no column {' and '.join(sorted(missing))}; found {reader.fieldnames}")
        named = "speaker" in (reader.fieldnames or ())
        rows = [
            Row(
                line["file"],
                line["label"],
                line["speaker"] if named else f"part {i % FOLDS}",
                line.get("split", "train"),
            )
            for i, line in enumerate(reader)
        ]
    if not rows:
        raise ValueError(f"{path}: has a header and no utterances")
    return rows


def gather(data: Path, files: Sequence[str], cache: Path, ways: Sequence[str] = NEAR) -> Features:
    """The features of `files` in `data` in these ways; what `cache` has of the same models and files is not made again.

    The cache does not know of changes in the code that makes features: empty it after one. Raises
    `engines.training.reference.TorchaudioError` where a way needs it.
    """
    store = ModelStore()
    models = [store.path("voice-activity"), store.path("voice-encoder")]
    key = hashlib.sha256("".join([*map(sha256_of, models), *files]).encode()).hexdigest()[:16]
    engines = [open_engine(path, "onnxruntime") for path in models]
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    with Progress() as progress:
        task = progress.add_task("features", total=len(ways) * len(files))
        for way in ways:
            for start in range(0, len(files), BLOCK):
                kept = cache / f"voice-{key}-{list(WAYS).index(way)}-{start // BLOCK:04}.npz"
                items = range(start, min(start + BLOCK, len(files)))
                if not kept.exists():
                    _write(kept, list(_extract(data, files, items, way=way, activity=engines[0], embedding=engines[1])))
                with np.load(kept, allow_pickle=False) as arrays:
                    parts.append((arrays["x"], arrays["item"], np.full(len(arrays["item"]), way)))
                progress.advance(task, len(items))
    return Features(*(np.concatenate([part[i] for part in parts if len(part[1])]) for i in range(3)))


def _write(path: Path, found: Sequence[tuple[int, F32]]) -> None:
    half = path.with_suffix(".half.npz")
    np.savez(half, allow_pickle=False, x=np.array([x for _, x in found]), item=np.array([i for i, _ in found], np.intp))
    half.rename(path)


def _extract(
    data: Path, files: Sequence[str], items: Sequence[int], *, way: str, activity: Engine, embedding: Engine
) -> Iterator[tuple[int, F32]]:
    for item in items:
        rng = np.random.default_rng([SEED, list(WAYS).index(way), item])
        pcm = spoken(WAYS[way](read_sound(data / files[item]), rng), activity)
        if pcm is not None:
            yield item, features(pcm, embedding)


def read_sound(path: Path) -> F32:
    """(T,), mono, at `AUDIO_RATE_HZ`."""
    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(pcm.mean(axis=1), rate, AUDIO_RATE_HZ), np.float32)


def spoken(pcm: F32, activity: Engine) -> F32 | None:
    """The speech in `pcm` as the encoder would cut it out; None where there is too little."""
    length_ns = len(pcm) * 1_000_000_000 // AUDIO_RATE_HZ
    listener = Listener("recording", activity, keep_ns=2 * length_ns)
    listener.hear([Sample("recording", Audio(pcm), 0, length_ns, length_ns)])
    speech = find_speech(listener.chunks, since_ns=0)
    return None if speech is None else speech.pcm


def _as_it_is(pcm: F32, rng: np.random.Generator) -> F32:
    return pcm


def _part_in_noise(pcm: F32, rng: np.random.Generator) -> F32:
    """What a window may hold of the utterance, in a room that is not a studio."""
    return _noisy(_part(pcm, rng), rng)


def _part(pcm: F32, rng: np.random.Generator) -> F32:
    n = int(rng.uniform(0.8, 3.0) * AUDIO_RATE_HZ)
    start = int(rng.integers(max(1, len(pcm) - n)))
    return pcm[start : start + n]


def _noisy(pcm: F32, rng: np.random.Generator) -> F32:
    """Noise 5 to 30 dB below; and quieter, by up to 14 dB."""
    return with_noise(pcm, rng.uniform(5, 30), rng) * np.float32(rng.uniform(0.2, 1))


def with_noise(pcm: F32, snr_db: float, rng: np.random.Generator) -> F32:
    """White noise or, as often, rumble added, `snr_db` below the mean power of `pcm`."""
    noise = rng.normal(size=len(pcm))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), len(spectrum) / 100), len(pcm))
    power = np.mean(np.square(pcm)) * 10 ** (-snr_db / 10)
    return np.asarray(pcm + noise * np.sqrt(power / np.mean(np.square(noise))), np.float32)


def _far(pcm: F32, rng: np.random.Generator) -> F32:
    """The utterance, or as often a part of it, from far off in a room, in noise."""
    pcm = _part(pcm, rng) if rng.random() < 0.5 else pcm
    return _noisy(rooms.far(pcm, rooms.decaying(rng)), rng)


def _elsewhere(pcm: F32, rng: np.random.Generator) -> F32:
    """From far off in one of some rooms of another kind, in noise 25 dB below."""
    return with_noise(rooms.far(pcm, rooms.shoebox(int(rng.integers(rooms.SHOEBOXES)))), 25, rng)


WAYS: Mapping[str, Callable[[F32, np.random.Generator], F32]] = {
    PLAIN: _as_it_is,
    IN_PART: _part_in_noise,
    FAR: _far,
    ELSEWHERE: _elsewhere,
}
"""How each utterance is presented."""


def teachable(say: Callable[[str], None]) -> tuple[str, ...]:
    """`TAUGHT`; where torchaudio does not load, which is said, without what is far off."""
    try:
        torchaudio()
    except TorchaudioError as error:
        say(f"training: no far speech is taught: {error}")
        return NEAR
    return TAUGHT
