"""Train the head of the voice encoder: ``python -m engines.training voice --data DIR [--cache DIR] [--report DIR]``.

DIR holds speech and a ``labels.csv`` with the columns file and label, better also speaker, and perhaps split; such as
nEMO (Christop 2024, arXiv 2404.06292; CC BY-NC-SA 4.0, so what is trained on it is not for commercial use). Features
come from the run-time's own code.

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
from engines.models import default_cache
from engines.speaker import SpeakerHead
from engines.training.sheet import draw
from engines.training.speakers import Corpus, fit, stream
from engines.training.utterances import IN_PART, PLAIN, gather, read_rows

CACHE = default_cache().parent / "training" / "voice"
HELD_OUT = ("EB0", "KS0")
"""A woman and a man, the first of each in the alphabet, who are kept for measuring fusion."""
ORDERS = 3
"""In so many random orders each speaker is heard."""
PLACES = (0, 5, 10, 30, 100)
"""Figures are given for utterances before which at least so many were heard, and less than the next of these."""
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
    args = parser.parse_args(argv)
    try:
        rows = read_rows(args.data)
    except (OSError, ValueError) as error:
        print(f"training: {error}")
        return 2
    found = gather(args.data, [row.file for row in rows], args.cache)
    labels = sorted({row.label for row in rows})
    y = np.array([labels.index(row.label) for row in rows])[found.item]
    speakers = np.array([row.speaker for row in rows])[found.item]
    kept = np.array([row.speaker not in HELD_OUT and row.split == "train" for row in rows])[found.item]
    corpus = Corpus.of(found, y, speakers, labels)
    figures, truth, probs, history = measure(corpus)
    training = sorted(set(speakers[kept].tolist()))
    head = fit(corpus, training)
    args.out.mkdir(parents=True, exist_ok=True)
    head.save(args.out / "voice.npz")
    figures["trained on"] = training
    apart = sorted(set(speakers.tolist()) - set(training))
    if apart:
        heard = [hear(corpus, head, speaker, PLAIN) for speaker in apart]
        figures["held out"] = {"speakers": apart, **facts(corpus, *map(np.concatenate, zip(*heard, strict=True)))}
    text = json.dumps(figures, indent=1)
    print(text)
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        (args.report / "voice.json").write_text(text + "\n", encoding="utf-8")
        title = "voice, each speaker left out, streamed"
        try:
            draw(args.report / "voice.png", truth, probs, labels=labels, title=title, history=history)
        except ModuleNotFoundError as error:
            print(f"training: no picture is drawn: {error}; it wants the extra train: pip install 'attune[train]'")
    return 0


def measure(corpus: Corpus) -> tuple[dict[str, Any], Ints, F64, list[dict[str, float]]]:
    """With each speaker left out: the figures, labels and posteriors behind them, and recall over what was heard."""
    names = sorted(set(corpus.speakers.tolist()))
    heard: dict[str, list[tuple[Ints, F64, Ints]]] = {PLAIN: [], IN_PART: [], "one label": [], "strangers": []}
    recall = {}
    for name in names:
        head = fit(corpus, [other for other in names if other != name])
        for way in (PLAIN, IN_PART):
            heard[way].append(hear(corpus, head, name, way))
        heard["one label"].append(monotone(corpus, head, name))
        heard["strangers"].append(strange(corpus, head, name))
        recall[name] = report(*heard[PLAIN][-1][:2]).uar
    figures: dict[str, Any] = {}
    for what, parts in heard.items():
        y, probs, place = (np.concatenate([part[i] for part in parts]) for i in range(3))
        figures[what] = facts(corpus, y, probs, place)
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
