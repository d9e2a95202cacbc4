"""The head that reads Chinese: trained on English comments alone, as multilingual-e5 reads them.

That encoder puts what means the same in two languages near each other, so what tells joy from grief in English does so
in Chinese as well, if less well. Each comment is read twice: as it is, and with the words and phrases of a lexicon of
ours in Chinese (`engines.training.switching`), from which the head learns to overlook what the languages differ in as
such. ``chinese_dev.csv`` holds 140 Chinese sentences of ours, written before anything was tried, by which all this was
chosen; penalty and temperature are chosen by them in every run.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np

from agent.types import F32, F64
from engines.evaluation.metrics import Ints, report
from engines.head import Head
from engines.models import ModelStore, sha256_of
from engines.sentences import SentenceReader
from engines.training.comments import LABELS, Split
from engines.training.language import features
from engines.training.linear import fit
from engines.training.switching import Lexicon
from engines.wording import spell_out

MODELS = ("chinese-encoder", "chinese-tokenizer")
HERE = Path(__file__).parent
SENTENCES, WORDS = HERE / "chinese_dev.csv", HERE / "chinese_words.tsv"
PER_LABEL = {"train": 1000, "dev": 200}
"""Comments of one label that are read; the frequent labels have many more."""
C_GRID = (0.0003, 0.001, 0.003, 0.01)


def train(splits: dict[str, Split], store: ModelStore, *, out: Path, threads: int) -> None:
    """Write ``language-chinese.npz`` into `out` and say how good the head is in both languages.

    It speaks under equal priors: how frequent the labels are in what people say in Chinese is not known.
    """
    reader = SentenceReader.open(store, "chinese", backend="onnxruntime", threads=threads)
    english, dev = (_at_most(splits[name].single(), most, seed=0) for name, most in PER_LABEL.items())
    lexicon, chance = Lexicon.read(WORDS), random.Random(0)
    texts = [*english.texts, *(lexicon.switch(text, chance) for text in english.texts)]
    chinese = sentences(SENTENCES)
    x = features(reader, chinese[0])
    head = fit(
        features(reader, texts),
        np.tile(english.y, 2),
        labels=LABELS,
        held_out=(x, chinese[1]),
        class_weight="balanced",
        c=C_GRID,
        natural=True,
    )
    print(f"Chinese sentences of ours, which chose penalty and temperature: {_told(head, x, chinese[1])}")
    seen = _told(head, features(reader, dev.texts), dev.y)
    print(f"English comments of dev, at most {PER_LABEL['dev']} of a label: {seen}")
    head.save(out / "language-chinese.npz")
    print(f"wrote {out / 'language-chinese.npz'}, sha256 {sha256_of(out / 'language-chinese.npz')}")


def sentences(path: Path) -> tuple[tuple[str, ...], Ints]:
    """Texts of a table of the columns ``text`` and ``label``, emoji spelled out, and their labels as indices."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return tuple(spell_out(row["text"]) for row in rows), np.array([LABELS.index(row["label"]) for row in rows])


def _told(head: Head, x: F32, y: Ints) -> str:
    probs: F64 = head.posterior(x)
    found = report(y, probs)
    return f"{found}, recall {' '.join(f'{LABELS[k]} {recall:.2f}' for k, recall in found.recall.items())}"


def _at_most(split: Split, n: int, *, seed: int) -> Split:
    """At most n texts of each label, drawn by chance."""
    order = np.random.default_rng(seed).permutation(len(split.y))
    kept = np.concatenate([order[split.y[order] == k][:n] for k in range(len(LABELS))])
    return Split(tuple(split.texts[i] for i in kept), split.targets[kept], split.y[kept])
