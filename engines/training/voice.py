"""Train the heads of the voice encoder: ``python -m engines.training voice --data DIR [--cache DIR]``.

DIR holds speech and a ``labels.csv`` with the columns file, label, speaker and gender, such as nEMO (Christop 2024,
arXiv 2404.06292; CC BY-NC-SA 4.0, so what is trained on it is not for commercial use). Features come from the
run-time's own code. Printed are figures for speakers that were left out, one after the other, and for `HELD_OUT`.

The heads that are written never saw `HELD_OUT`: what is said about fusion is measured on these speakers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from sklearn.metrics import roc_auc_score

from agent.types import AUDIO_RATE_HZ, F32, F64, Audio, Sample
from engines import Engine, open_engine
from engines.head import Head
from engines.models import ModelStore, sha256_of
from engines.training.linear import fit_plain, fit_temperature, report
from engines.vad import Listener
from engines.voice import HIGH, features, find_speech

HELD_OUT = ("EB0", "KS0")
"""A woman and a man, the first of each in the alphabet, who are kept for measuring fusion."""
AROUSED = frozenset({"happy", "angry", "fearful", "surprised"})
"""Labels of high arousal; the others are low (Russell 1980, "A circumplex model of affect")."""
LOW = "low"
SEED = 0
"""Of how utterances are varied."""


C = 0.003
"""Inverse strength of the L2 penalty: of 0.001, 0.003, 0.01 and 0.03 the best for both heads, by likelihood and mean
recall of each speaker but `HELD_OUT` in turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of all utterances in which speech was found, in each way of presenting them."""

    x: F32
    """(N, D)."""
    item: npt.NDArray[np.intp]
    """(N,), line of labels.csv, from 0."""
    way: npt.NDArray[np.str_]
    """(N,), a key of `WAYS`."""


def main(argv: Sequence[str]) -> int:
    """Train, measure, print, write; 0."""
    parser = argparse.ArgumentParser(prog="python -m engines.training voice", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--cache", type=Path, help="folder in which features are kept between runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "weights")
    args = parser.parse_args(argv)
    with (args.data / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = gather(args.data, [row["file"] for row in rows], args.cache)
    print(f"{len(rows)} utterances, speech in {len(np.unique(found.item[found.way == PLAIN]))}")
    names = np.array([row["label"] for row in rows])[found.item]
    speakers = np.array([row["speaker"] for row in rows])[found.item]
    arousal = np.where(np.isin(names, list(AROUSED)), HIGH, LOW)
    for file, classes in (("voice.npz", names), ("voice-arousal.npz", arousal)):
        train(file, found, classes=classes, speakers=speakers).save(args.out / file)
    return 0


def train(file: str, found: Features, *, classes: npt.NDArray[np.str_], speakers: npt.NDArray[np.str_]) -> Head:
    """Measure with each speaker left out; then fit to all but `HELD_OUT`, and measure on these."""
    labels = sorted(set(classes.tolist()))
    y = np.array([labels.index(name) for name in classes])
    plain, kept = found.way == PLAIN, ~np.isin(speakers, HELD_OUT)
    everything = _Examples(found.x, y, speakers)
    logits = everything.unseen_logits(labels)
    temperature = fit_temperature(logits[plain], y[plain])
    for way in WAYS:
        these = found.way == way
        show(f"{file}, each speaker left out, {way}", y[these], softmax(logits[these] / temperature), labels=labels)
    few = everything.of(kept)
    temperature = fit_temperature(few.unseen_logits(labels)[plain[kept]], y[kept & plain])
    head = replace(few.fit(labels), temperature=temperature)
    these = ~kept & plain
    show(f"{file}, {' and '.join(HELD_OUT)} left out", y[these], head.posterior(found.x[these]), labels=labels)
    return head


@dataclass(frozen=True, slots=True, eq=False)
class _Examples:
    """What a head is fitted to."""

    x: F32
    """(N, D)."""
    y: npt.NDArray[np.intp]
    """(N,)."""
    speakers: npt.NDArray[np.str_]
    """(N,)."""

    def of(self, which: npt.NDArray[np.bool_]) -> _Examples:
        return _Examples(self.x[which], self.y[which], self.speakers[which])

    def fit(self, labels: Sequence[str]) -> Head:
        """A head with a temperature of 1, from the examples as they are and `without_speakers`."""
        alike = without_speakers(self.x, self.y, self.speakers)
        return fit_plain(np.concatenate([self.x, alike]), np.tile(self.y, 2), labels=labels, c=C)

    def unseen_logits(self, labels: Sequence[str]) -> F64:
        """(N, K), of each speaker by a head that was fitted to the others."""
        logits = np.zeros((len(self.y), len(labels)))
        for speaker in np.unique(self.speakers):
            theirs = self.speakers == speaker
            logits[theirs] = np.log(self.of(~theirs).fit(labels).posterior(self.x[theirs]))
        return logits


def without_speakers(x: F32, y: npt.NDArray[np.intp], speakers: npt.NDArray[np.str_]) -> F32:
    """`x` (N, D) as if everybody had the same voice: each speaker's mean, over labels, moved onto the mean of all.

    Trained on beside `x` itself, it keeps a head from leaning on what tells speakers apart.
    """
    everybody, of = np.unique(speakers, return_inverse=True)  # (S,), (N,)
    means = []
    for s in range(len(everybody)):
        theirs = of == s
        means.append(np.mean([x[theirs & (y == k)].mean(axis=0) for k in np.unique(y[theirs])], axis=0))
    offsets = np.array(means) - np.mean(means, axis=0)  # (S, D)
    return np.asarray(x - offsets[of], np.float32)


def show(what: str, y: npt.NDArray[np.intp], probs: F64, *, labels: Sequence[str]) -> None:
    """Print how good `probs` (N, K) are."""
    found = report(y, probs)
    recall = ", ".join(f"{labels[k]} {value:.2f}" for k, value in found.recall.items())
    print(f"{what}: {found}; recall {recall}")
    if HIGH in labels:
        high = labels.index(HIGH)
        print(f"{what}: AUC {roc_auc_score(y == high, probs[:, high]):.3f}")


def softmax(logits: F64) -> F64:
    """Of each row."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def gather(data: Path, files: Sequence[str], cache: Path | None) -> Features:
    """The features of `files` in `data`, from `cache` if it has those of the same models and files.

    The cache does not know of changes in the code that makes features: empty it after one.
    """
    store = ModelStore()
    models = [store.path("voice-activity"), store.path("voice-encoder")]
    key = hashlib.sha256("".join([*map(sha256_of, models), *WAYS, *files]).encode()).hexdigest()
    kept = cache / f"voice-{key[:16]}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as arrays:
            return Features(arrays["x"], arrays["item"], arrays["way"])
    engines = [open_engine(path, "onnxruntime") for path in models]
    found = list(_extract(data, files, activity=engines[0], embedding=engines[1]))
    made = Features(
        np.array([x for _, _, x in found]), np.array([item for item, _, _ in found]), np.array([w for _, w, _ in found])
    )
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, x=made.x, item=made.item, way=made.way)
    return made


def _extract(
    data: Path, files: Sequence[str], *, activity: Engine, embedding: Engine
) -> Iterator[tuple[int, str, F32]]:
    rng = np.random.default_rng(SEED)
    for item, file in enumerate(files):
        pcm, rate = soundfile.read(data / file, dtype="float32", always_2d=True)
        pcm = soxr.resample(pcm.mean(axis=1), rate, AUDIO_RATE_HZ).astype(np.float32)
        for way, vary in WAYS.items():
            sound = vary(pcm, rng)
            listener = Listener(file, activity, keep_ns=2 * _ns(sound))
            listener.hear([Sample(file, Audio(sound), 0, _ns(sound), _ns(sound))])
            speech = find_speech(listener.chunks, since_ns=0)
            if speech is not None:
                yield item, way, features(speech.pcm, embedding)


def _ns(pcm: F32) -> int:
    return len(pcm) * 1_000_000_000 // AUDIO_RATE_HZ


def _as_it_is(pcm: F32, rng: np.random.Generator) -> F32:
    return pcm


def _part_in_noise(pcm: F32, rng: np.random.Generator) -> F32:
    """What a window may hold of the utterance, in a room that is not a studio."""
    return _noisy(_part(pcm, rng), rng)


def _another_voice(pcm: F32, rng: np.random.Generator) -> F32:
    """Played faster or slower: a shorter or longer vocal tract, a higher or lower pitch."""
    speed = rng.choice([rng.uniform(0.8, 0.94), rng.uniform(1.06, 1.25)])
    pcm = soxr.resample(pcm, AUDIO_RATE_HZ * speed, AUDIO_RATE_HZ).astype(np.float32)
    return _noisy(pcm, rng) if rng.random() < 0.5 else pcm


def _part(pcm: F32, rng: np.random.Generator) -> F32:
    n = int(rng.uniform(0.8, 3.0) * AUDIO_RATE_HZ)
    start = int(rng.integers(max(1, len(pcm) - n)))
    return pcm[start : start + n]


def _noisy(pcm: F32, rng: np.random.Generator) -> F32:
    """White noise, or rumble, 5 to 30 dB below; and quieter, by up to 14 dB."""
    noise = rng.normal(size=len(pcm))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), len(spectrum) / 100), len(pcm))
    power = np.mean(np.square(pcm)) * 10 ** (-rng.uniform(5, 30) / 10)
    noise *= np.sqrt(power / np.mean(np.square(noise)))
    return np.asarray((pcm + noise) * rng.uniform(0.2, 1), np.float32)


PLAIN = "as they are"
WAYS: Mapping[str, Callable[[F32, np.random.Generator], F32]] = {
    PLAIN: _as_it_is,
    "parts in noise": _part_in_noise,
    "other voices": _another_voice,
}
"""How each utterance is presented in training."""
