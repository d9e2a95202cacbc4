"""Train the head of the text encoder: ``python -m engines.training language --data DIR``.

DIR holds GoEmotions (Demszky et al. 2020, Apache-2.0): ``train.tsv``, ``dev.tsv``, ``test.tsv`` and ``labels.txt``.
The embeddings are computed by the run-time's own code. The strength of the penalty and the temperature are chosen on
dev, by likelihood; test only measures. What was measured, and how often, stands in ``engines/models.toml``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.types import F32
from engines.language import SentenceEmbedder
from engines.models import ROOT, ModelStore, sha256_of
from engines.training.linear import Ints, fit, report
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

C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Comments that have one label after grouping."""

    texts: tuple[str, ...]
    y: Ints
    """(N,), indices into `LABELS`."""


def read_split(folder: Path, name: str) -> Split:
    """One of ``train``, ``dev``, ``test``; raises ValueError or OSError that names the file."""
    to_index = {fine: LABELS.index(label) for label, group in GROUPS.items() for fine in group.split()}
    fine_labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    if set(fine_labels) != set(to_index):
        raise ValueError(
            f"{folder / 'labels.txt'}: not the 27 emotions and neutral: {sorted(set(fine_labels) ^ set(to_index))}"
        )
    texts, y = [], []
    for number, line in enumerate((folder / f"{name}.tsv").read_text(encoding="utf-8").splitlines(), start=1):
        try:
            text, marks, _ = line.split("\t")
            labels = {to_index[fine_labels[int(mark)]] for mark in marks.split(",")}
        except (ValueError, IndexError) as error:
            raise ValueError(f"{folder / name}.tsv, line {number}: wanted text, labels, id: {error}") from error
        if len(labels) == 1 and spell_out(text):
            texts.append(text)
            y.append(labels.pop())
    return Split(tuple(texts), np.array(y, dtype=np.intp))


def embed(embedder: SentenceEmbedder, texts: Sequence[str], *, what: str) -> F32:
    """(N, D), as the running encoder embeds them."""
    vectors = []
    for start in range(0, len(texts), 512):
        pieces = [embedder.tokenize(spell_out(text)).ids for text in texts[start : start + 512]]
        vectors.append(embedder.embed(pieces))
        print(f"\r{what}: {start + len(pieces):,} of {len(texts):,} texts embedded", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.concatenate(vectors)


def embed_all(embedder: SentenceEmbedder, splits: Mapping[str, Split], *, keep: Path | None) -> dict[str, F32]:
    """The embeddings of every split, taken from the file `keep` where it holds those of the same words."""
    read = "\0".join(spell_out(text) for split in splits.values() for text in split.texts)
    digest = hashlib.sha256(read.encode()).hexdigest()
    if keep is not None and keep.exists():
        with np.load(keep, allow_pickle=False) as kept:
            if str(kept["texts"]) == digest:
                return {name: kept[name] for name in splits}
    x = {name: embed(embedder, split.texts, what=name) for name, split in splits.items()}
    if keep is not None:
        np.savez(keep, allow_pickle=False, texts=np.array(digest), **x)
    return x


def main(argv: Sequence[str]) -> int:
    """Train, measure, write the head and say its sha256."""
    parser = argparse.ArgumentParser(prog="python -m engines.training language", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv, test.tsv, labels.txt")
    parser.add_argument("--out", type=Path, default=ROOT / "engines" / "weights" / "language.npz")
    parser.add_argument("--keep", type=Path, help="an .npz file that keeps the embeddings for the next time")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(argv)
    try:
        splits = {name: read_split(asked.data, name) for name in ("train", "dev", "test")}
    except (OSError, ValueError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    embedder = SentenceEmbedder.open(ModelStore(), backend="onnxruntime", threads=asked.threads)
    x = embed_all(embedder, splits, keep=asked.keep)
    y = {name: split.y for name, split in splits.items()}

    # Unweighted: the likeliest head on dev, and fusion divides the class prior out by itself.
    head = fit(x["train"], y["train"], labels=LABELS, held_out=(x["dev"], y["dev"]), c=C_GRID)
    print(f"dev: {report(y['dev'], head.posterior(x['dev']))}")
    test = report(y["test"], head.posterior(x["test"]))
    print(f"test: {test}")
    print("test recall: " + ", ".join(f"{LABELS[k]} {recall:.2f}" for k, recall in test.recall.items()))
    head.save(asked.out)
    print(f"wrote {asked.out}, sha256 {sha256_of(asked.out)}")
    return 0
