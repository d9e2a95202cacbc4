"""Labelled sentences: GoEmotions as it was published, or a person's own ``labels.csv``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.types import F32
from engines.evaluation.metrics import Ints
from engines.wording import spell_out

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")

GROUPS = {
    "neutral": "neutral",
    "happy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
    "sad": "sadness disappointment embarrassment grief remorse",
    "angry": "anger annoyance disapproval",
    "fearful": "fear nervousness",
    "disgusted": "disgust",
    "surprised": "surprise realization confusion curiosity",
}
"""The grouping of the 27 emotions after Ekman that Demszky et al. publish (``ekman_mapping.json``)."""
SPLITS = ("train", "dev", "test")
SHARES = (0.8, 0.9)
"""Where a table names no split: up to the first it is train, up to the second dev, the rest test."""
MIXED = -1
"""The label of a text that has several."""


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """What is told apart in training; finer than the labels, which are sums of them."""

    names: tuple[str, ...]
    """C of them."""
    group: Ints
    """(C,), indices into `labels`."""
    labels: tuple[str, ...] = LABELS
    """K of them."""

    @property
    def sums(self) -> F32:
        """(C, K): 1 where the class belongs to the label."""
        return np.asarray(self.group[:, None] == np.arange(len(self.labels)), np.float32)

    def target(self, shares: dict[str, float]) -> F32:
        """(C,) shares by the name of the class, or of the label where the classes are the labels themselves."""
        row = np.zeros(len(self.names), np.float32)
        fine = {name: label for label, group in GROUPS.items() for name in group.split()}
        for name, share in shares.items():
            row[self.names.index(name if name in self.names else fine[name])] += share
        return row


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Texts of one part, emoji spelled out."""

    texts: tuple[str, ...]
    targets: F32
    """(N, C), rows sum to 1."""
    y: Ints
    """(N,), indices into the labels, `MIXED` where the text has several."""

    def single(self) -> Split:
        """Only the texts that have one label."""
        keep = np.flatnonzero(self.y != MIXED)
        return Split(tuple(self.texts[i] for i in keep), self.targets[keep], self.y[keep])

    def first(self, n: int) -> Split:
        """The first n texts."""
        return Split(self.texts[:n], self.targets[:n], self.y[:n])


def read(folder: Path) -> tuple[Classes, dict[str, Split]]:
    """Every split of a folder that holds GoEmotions or a ``labels.csv``; raises ValueError or OSError by file name."""
    if (folder / "labels.csv").exists():
        return _read_table(folder / "labels.csv")
    fine = tuple((folder / "labels.txt").read_text(encoding="utf-8").split())
    group_of = {name: LABELS.index(label) for label, group in GROUPS.items() for name in group.split()}
    if set(fine) != set(group_of):
        raise ValueError(
            f"{folder / 'labels.txt'}: not the 27 emotions and neutral: {sorted(set(fine) ^ set(group_of))}"
        )
    classes = Classes(fine, np.array([group_of[name] for name in fine], dtype=np.intp))
    return classes, {name: _read_comments(folder / f"{name}.tsv", classes) for name in SPLITS}


def _read_comments(path: Path, classes: Classes) -> Split:
    texts, rows = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            text, marks, _ = line.split("\t")
            named = [classes.names[int(mark)] for mark in marks.split(",")]
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}, line {number}: wanted text, labels, id: {error}") from error
        if spelled := spell_out(text):
            texts.append(spelled)
            rows.append(classes.target(dict.fromkeys(named, 1 / len(named))))
    return _split(texts, rows, classes)


def _read_table(path: Path) -> tuple[Classes, dict[str, Split]]:
    """A table with the columns ``text``, ``label``, which may be anything, and perhaps ``split`` (``val`` is dev)."""
    parts: dict[str, tuple[list[str], list[F32]]] = {name: ([], []) for name in SPLITS}
    with path.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        if not {"text", "label"} <= set(table.fieldnames or ()):
            raise ValueError(f"{path}: needs the columns text and label; found {', '.join(table.fieldnames or ())}")
        rows = [row for row in table if spell_out(row["text"])]
    labels = _labels({row["label"] for row in rows if row["label"]})
    classes = Classes(labels, np.arange(len(labels)), labels)
    chance = np.random.default_rng(0).random(len(rows))
    for number, (row, drawn) in enumerate(zip(rows, chance, strict=True), start=1):
        if not row["label"]:
            raise ValueError(f"{path}, text {number}: has no label")
        name = row["split"] if "split" in row else SPLITS[int(np.searchsorted(SHARES, drawn))]
        name = "dev" if name == "val" else name
        if name not in SPLITS:
            raise ValueError(f"{path}, text {number}: the split {name!r} is none of {', '.join(SPLITS)}, val")
        parts[name][0].append(spell_out(row["text"]))
        parts[name][1].append(classes.target({row["label"]: 1.0}))
    for name, (texts, _) in parts.items():
        if not texts:
            raise ValueError(f"{path}: no text of the split {name}")
    return classes, {name: _split(texts, targets, classes) for name, (texts, targets) in parts.items()}


def _labels(found: set[str]) -> tuple[str, ...]:
    """`LABELS` where nothing else occurs; else those that occur, own ones last."""
    own = sorted(found - set(LABELS))
    return (*(label for label in LABELS if label in found), *own) if own else LABELS


def _split(texts: Sequence[str], rows: Sequence[F32], classes: Classes) -> Split:
    targets = np.array(rows, np.float32).reshape(len(rows), len(classes.names))
    labels = targets @ classes.sums  # (N, K)
    y = np.where((labels > 0).sum(axis=1) == 1, labels.argmax(axis=1), MIXED)
    return Split(tuple(texts), targets, y.astype(np.intp))
