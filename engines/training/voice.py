"""Train the head of the voice encoder: ``python -m engines.training voice --data DIR [--cache DIR] [--report DIR]``.

With ``--check`` nothing is trained: the features of some recordings in DIR are compared with torchaudio's.

DIR holds speech and a ``labels.csv`` with the columns file and label, better also speaker, and perhaps split; such as
nEMO (Christop 2024, arXiv 2404.06292; CC BY-NC-SA 4.0, so what is trained on it is not for commercial use). Features
come from the run-time's own code.

Each utterance is learnt from as it is, in part and in noise, and, where torchaudio loads, from far off in a room.
Measured are speakers that were left out, one after the other: what each says comes in a random order as one stream, and
each utterance is read by what came before alone. The head that is written never saw `HELD_OUT`, on whom fusion is
measured, nor, where the table has a column split, what is in another split than ``train``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import F64
from engines.evaluation.metrics import Ints, auc, report
from engines.evaluation.run import AROUSED
from engines.models import default_cache, sha256_of
from engines.speaker import SpeakerHead
from engines.training.reference import Difference, TorchaudioError, compare
from engines.training.sheet import draw
from engines.training.speakers import Corpus, fit, stream
from engines.training.utterances import (
    ELSEWHERE,
    FAR,
    IN_PART,
    PLAIN,
    Bools,
    Features,
    Row,
    gather,
    read_rows,
    read_sound,
    teachable,
)

CACHE = default_cache().parent / "training" / "voice"
HELD_OUT = ("EB0", "KS0")
"""A woman and a man, the first of each in the alphabet, who are kept for measuring fusion."""
ORDERS = 3
"""In so many random orders each speaker is heard."""
PLACES = (0, 5, 10, 30, 100)
"""Figures are given for utterances before which at least so many were heard, and less than the next of these."""
LEAST_VOICES = 3
"""Speakers of each label: one is left out, of the rest another, and there is still one."""
CHECKED = 20
"""Recordings whose features are compared with torchaudio's."""
ALIKE = 25
"""Utterances of one label in a session that has no other; the first five do not count."""


def main(argv: Sequence[str]) -> int:
    """Train, measure, print, write; 0, or 2 where the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m engines.training voice", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where features are kept between runs")
    parser.add_argument("--report", type=Path, help="folder for voice.json and voice.png (the latter with matplotlib)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "weights", help="where voice.npz goes"
    )
    parser.add_argument("--check", action="store_true", help="compare features with torchaudio's, train nothing")
    args = parser.parse_args(argv)
    try:
        rows = read_rows(args.data)
    except (OSError, ValueError) as error:
        print(f"training: {error}")
        return 2
    if args.check:
        return check(args.data, rows)
    ways = teachable(print)
    measured = (*ways, ELSEWHERE) if FAR in ways else ways
    corpus, kept = _corpus(gather(args.data, [row.file for row in rows], args.cache, measured), rows)
    if lacking := _lacking(corpus):
        print(f"training: {lacking}")
        return 2
    figures, truth, probs, history = measure(corpus)
    training = sorted(set(corpus.speakers[kept].tolist()))
    head = fit(corpus, training)
    args.out.mkdir(parents=True, exist_ok=True)
    head.save(args.out / "voice.npz")
    figures |= {"taught": ways, "trained on": training}
    if apart := sorted(set(corpus.speakers.tolist()) - set(training)):
        heard = {way: [hear(corpus, head, speaker, way) for speaker in apart] for way in measured}
        figures["held out"] = {way: _together(corpus, parts) for way, parts in heard.items()} | {"speakers": apart}
    if FAR in ways:
        figures["features against torchaudio's"] = [str(difference) for difference in _differences(args.data, rows)]
    text = json.dumps(figures, indent=1)
    print(text)
    print(f"wrote {args.out / 'voice.npz'}, sha256 {sha256_of(args.out / 'voice.npz')}")
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        (args.report / "voice.json").write_text(text + "\n", encoding="utf-8")
        title = "voice, each speaker left out, streamed"
        try:
            draw(args.report / "voice.png", truth, probs, labels=corpus.labels, title=title, history=history)
        except ModuleNotFoundError as error:
            print(f"training: no picture is drawn: {error}; it wants the extra train: pip install 'attune[train]'")
    return 0


def _corpus(found: Features, rows: Sequence[Row]) -> tuple[Corpus, Bools]:
    """The features with what they are, and which of them (N,) are trained on."""
    labels = sorted({row.label for row in rows})
    y = np.array([labels.index(row.label) for row in rows])[found.item]
    speakers = np.array([row.speaker for row in rows])[found.item]
    kept = np.array([row.speaker not in HELD_OUT and row.split == "train" for row in rows])[found.item]
    return Corpus.of(found, y, speakers, labels), kept


def _lacking(corpus: Corpus) -> str:
    """Of which label there is too little to learn from; empty where there is enough."""
    plain = corpus.found.way == PLAIN
    voices = {
        label: len(set(corpus.speakers[plain & (corpus.y == k)].tolist())) for k, label in enumerate(corpus.labels)
    }
    if few := {label: n for label, n in voices.items() if n < LEAST_VOICES}:
        found = ", ".join(f"{label} {n}" for label, n in few.items())
        return (
            f"each label is wanted from at least {LEAST_VOICES} speakers (without a column speaker: in as many fifths"
            f" of the table), as utterances in which speech is found; there are: {found}"
        )
    return ""


def check(data: Path, rows: Sequence[Row]) -> int:
    """Compare features with torchaudio's, and say how they differ; 1 where they do, 2 where it does not load."""
    try:
        found = _differences(data, rows)
    except TorchaudioError as error:
        print(f"training: {error}")
        return 2
    print("\n".join(map(str, found)))
    return 0 if all(difference.holds for difference in found) else 1


def _differences(data: Path, rows: Sequence[Row]) -> list[Difference]:
    return compare([read_sound(data / row.file) for row in rows[:CHECKED]])


def measure(corpus: Corpus) -> tuple[dict[str, Any], Ints, F64, list[dict[str, float]]]:
    """With each speaker left out: the figures, labels and posteriors behind them, and recall over what was heard."""
    names = sorted(set(corpus.speakers.tolist()))
    ways = [way for way in (PLAIN, IN_PART, ELSEWHERE) if way in corpus.found.way]
    heard: dict[str, list[tuple[Ints, F64, Ints]]] = {what: [] for what in (*ways, "one label", "strangers")}
    recall = {}
    for name in names:
        head = fit(corpus, [other for other in names if other != name])
        for way in ways:
            heard[way].append(hear(corpus, head, name, way))
        heard["one label"].append(monotone(corpus, head, name))
        heard["strangers"].append(strange(corpus, head, name))
        recall[name] = report(*heard[PLAIN][-1][:2]).uar
    figures: dict[str, Any] = {}
    for what, parts in heard.items():
        figures[what] = _together(corpus, parts)
        means = [report(part[0], part[1]).uar for part in parts if len(part[0])]
        if means:
            figures[what]["uar, mean over speakers"] = round(float(np.mean(means)), 4)
    figures[PLAIN]["uar by speaker"] = {name: round(value, 3) for name, value in recall.items()}
    y, probs, place = (np.concatenate([part[i] for part in heard[PLAIN]]) for i in range(3))
    history = [
        {"epoch": float(low), "recall by utterances heard before": report(y[these], probs[these]).uar}
        for low, these in _places(place)
    ]
    return figures, y, probs, history


def hear(corpus: Corpus, head: SpeakerHead, speaker: str, way: str) -> tuple[Ints, F64, Ints]:
    """Labels (N,), posteriors (N, K) and place in the stream (N,) of all that one says, in several orders."""
    rows = np.flatnonzero(corpus.rows(speaker, way))
    z, y = head.place(corpus.found.x[rows]), corpus.y[rows]
    orders = [np.random.default_rng(seed).permutation(len(rows)) for seed in range(ORDERS)]
    probs = np.concatenate([stream(head, z[order]) for order in orders])
    return np.concatenate([y[order] for order in orders]), probs, np.tile(np.arange(len(rows)), ORDERS)


def monotone(corpus: Corpus, head: SpeakerHead, speaker: str) -> tuple[Ints, F64, Ints]:
    """The same of sessions in which everything has one label, without their first five utterances."""
    rows = corpus.rows(speaker, PLAIN)
    parts = []
    for label in np.unique(corpus.y[rows]).tolist():
        x = corpus.found.x[rows & (corpus.y == label)][:ALIKE]
        n = len(x[5:])
        parts.append((np.full(n, label, np.intp), stream(head, head.place(x))[5:], np.arange(5, 5 + n)))
    y, probs, place = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return y, probs, place


def strange(corpus: Corpus, head: SpeakerHead, speaker: str) -> tuple[Ints, F64, Ints]:
    """The same with each utterance as the first one that is heard of the voice."""
    rows = corpus.rows(speaker, PLAIN)
    probs = np.array([head.posterior(z, head.stranger()) for z in head.place(corpus.found.x[rows])])
    return corpus.y[rows], probs, np.zeros(len(probs), np.intp)


def _together(corpus: Corpus, parts: Sequence[tuple[Ints, F64, Ints]]) -> dict[str, Any]:
    """The `facts` of several that were heard."""
    y, probs, place = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return facts(corpus, y, probs, place)


def facts(corpus: Corpus, y: Ints, probs: F64, place: Ints) -> dict[str, Any]:
    """How good posteriors are, as it stands in the JSON."""
    if not len(y):
        return {"n": 0}
    found = report(y, probs)
    figures: dict[str, Any] = {
        name: round(float(getattr(found, name)), 4) for name in ("accuracy", "uar", "macro_f1", "nll", "ece")
    }
    figures["n"] = found.n
    figures["recall"] = {corpus.labels[k]: round(value, 3) for k, value in found.recall.items()}
    high = aroused(corpus)
    if 0 < high[y].sum() < len(y):
        figures["arousal auc"] = round(auc(high[y], probs[:, high].sum(axis=1)), 4)
    figures["uar by utterances heard before"] = {
        str(low): round(report(y[these], probs[these]).uar, 3) for low, these in _places(place)
    }
    return figures


def aroused(corpus: Corpus) -> np.ndarray:
    """(K,) bool: the labels of high arousal."""
    return np.isin(corpus.labels, sorted(AROUSED))


def _places(place: Ints) -> list[tuple[int, np.ndarray]]:
    edges = [*PLACES, int(place.max()) + 1 if len(place) else 1]
    spans = [(low, (place >= low) & (place < high)) for low, high in pairwise(edges)]
    return [(low, these) for low, these in spans if these.any()]
