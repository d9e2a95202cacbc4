"""The head that reads Chinese: trained on English comments alone, as multilingual-e5 reads them.

That encoder puts what means the same in two languages near each other, so what tells joy from grief in English does so
in Chinese as well, if less well. What the two languages differ in as such is taken out: the difference between the
means of the frequent words of each, which are in the vocabulary (after Libovický et al. 2020, "On the Language
Neutrality of Pre-trained Multilingual Representations"). No Chinese sentence is used to train, choose or calibrate.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.types import F64
from engines.evaluation.metrics import report
from engines.models import ModelStore, sha256_of
from engines.sentences import SentenceReader
from engines.training.comments import LABELS, Split
from engines.training.language import features
from engines.training.linear import fit

MODELS = ("chinese-encoder", "chinese-tokenizer")
PER_LABEL = {"train": 800, "dev": 200}
"""Comments of one label that are read; the frequent labels have many more."""
WORDS = 1000
"""Words of each language that are compared."""
C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1)


def train(splits: dict[str, Split], store: ModelStore, *, out: Path, threads: int) -> None:
    """Write ``language-chinese.npz`` into `out` and say how good the head is on English comments of dev."""
    reader = SentenceReader.open(store, "chinese", backend="onnxruntime", threads=threads)
    parts = {name: _at_most(splits[name].single(), most, seed=0) for name, most in PER_LABEL.items()}
    x = {name: features(reader, part.texts) for name, part in parts.items()}
    train, dev = parts["train"], parts["dev"]
    head = fit(x["train"], train.y, labels=LABELS, held_out=(x["dev"], dev.y), c=C_GRID)
    print(f"English comments of dev, at most {PER_LABEL['dev']} of a label: {report(dev.y, head.posterior(x['dev']))}")
    head = replace(head, mean=head.mean + _apart(reader))
    head.save(out / "language-chinese.npz")
    print(f"wrote {out / 'language-chinese.npz'}, sha256 {sha256_of(out / 'language-chinese.npz')}")


def _apart(reader: SentenceReader) -> F64:
    """(D,): how far Chinese lies from English, by their most frequent words."""
    pieces = reader.vocabulary
    chinese = [piece for piece in pieces if len(piece) > 1 and all(map(_han, piece))]
    english = [piece[1:] for piece in pieces if piece[0] == "▁" and len(piece) > 4 and piece[1:].isascii()]
    means = [features(reader, words[:WORDS]).mean(axis=0, dtype=np.float64) for words in (chinese, english)]
    return np.asarray(means[0] - means[1])


def _han(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED")


def _at_most(split: Split, n: int, *, seed: int) -> Split:
    """At most n texts of each label, drawn by chance."""
    order = np.random.default_rng(seed).permutation(len(split.y))
    kept = np.concatenate([order[split.y[order] == k][:n] for k in range(len(LABELS))])
    return Split(tuple(split.texts[i] for i in kept), split.targets[kept], split.y[kept])
