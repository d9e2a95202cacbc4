"""One page on how good a classifier is: confusion, reliability, learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agent.types import F64
from engines.evaluation.metrics import ECE_BINS, Ints


def draw(
    path: Path, y: Ints, probs: F64, *, labels: Sequence[str], title: str, history: Sequence[Mapping[str, float]]
) -> None:
    """Write a PNG on labels y (N,) and posteriors (N, K); each entry of `history` has ``epoch`` and what to plot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    figure.suptitle(title)
    k = len(labels)
    counts = np.zeros((k, k))
    np.add.at(counts, (y, probs.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    left.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for i in range(k):
        for j in range(k):
            left.text(j, i, f"{shares[i, j]:.2f}", ha="center", va="center", color="w" if shares[i, j] > 0.5 else "k")
    left.set(xticks=range(k), yticks=range(k), yticklabels=labels, xlabel="said", ylabel="true", title="confusion")
    left.set_xticklabels(labels, rotation=45, ha="right")

    sure, right_at = probs.max(axis=1), probs.argmax(axis=1) == y
    bins = np.minimum((sure * ECE_BINS).astype(int), ECE_BINS - 1)
    used = [b for b in range(ECE_BINS) if (bins == b).any()]
    middle.plot([0, 1], [0, 1], color="grey", lw=1)
    middle.plot([sure[bins == b].mean() for b in used], [right_at[bins == b].mean() for b in used], "o-")
    middle.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title="reliability")

    for name in history[0].keys() - {"epoch"} if history else ():
        right.plot([entry["epoch"] for entry in history], [entry[name] for entry in history], "o-", label=name)
    if history:
        right.legend()
    right.set(xlabel="epoch", title="learning curve")
    figure.savefig(path, dpi=110)
    plt.close(figure)
