"""What a training of the face encoder came to: printed, as JSON, and as one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import F64
from engines.evaluation.metrics import NONE, auc, confusion, reliability, report
from engines.training.face_data import Floats, Ints
from engines.training.face_lean import LEANS, Leaning

RARE = "fearful"
"""Too rare in the data (16 pictures) for its recall to say anything: left out of the mean recall that is compared."""
_COMPARED = f"uar_without_{RARE}"
Curves = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Pictures that were not trained on, and what was made of them."""

    y: Ints
    """(P,), all of them."""
    places: Ints
    """(N,), among these, of those with a face."""
    probs: Sequence[F64]
    """By way, (N, K)."""
    quality: Floats
    """(N, W)."""
    leaning: Leaning | None = None
    """Of those with a face; None where no curve over it is wanted."""

    def leans(self, labels: Sequence[str]) -> list[dict[str, float]]:
        """Accuracy and mean recall of the pictures as they are, by how far the heads lean towards the rare."""
        if self.leaning is None:
            return []
        found = [(lean, self._figures(self.leaning.shifted(self.probs[0], lean), 0, labels)) for lean in LEANS]
        return [
            {"lean": lean, "accuracy": figures["accuracy"], _COMPARED: figures[_COMPARED]} for lean, figures in found
        ]

    def figures(self, way: int, labels: Sequence[str]) -> dict[str, Any]:
        """All that is said of one way of showing; a picture without a face counts as wrong."""
        return self._figures(self.probs[way], way, labels)

    def _figures(self, said: F64, way: int, labels: Sequence[str]) -> dict[str, Any]:
        probs, answered = np.full((len(self.y), len(labels)), 1 / len(labels)), np.zeros(len(self.y), bool)
        probs[self.places], answered[self.places] = said, True
        found = report(self.y, probs, answered)
        named = np.where(answered, probs.argmax(axis=1), NONE)
        recall = {labels[k]: value for k, value in found.recall.items()}
        return {
            "n": found.n,
            "answered": found.answered,
            "accuracy": found.accuracy,
            "uar": found.uar,
            _COMPARED: float(np.mean([value for name, value in recall.items() if name != RARE])),
            "macro_f1": found.macro_f1,
            "nll": found.nll,
            "ece": found.ece,
            "recall": recall,
            "quality_auc": auc(self.right(way), self.quality[:, way]),
            "confusion": confusion(self.y, named, len(labels)).tolist(),
        }

    def right(self, way: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,): which were named rightly."""
        return np.asarray(self.probs[way].argmax(axis=1) == self.y[self.places])


def write(
    folder: Path, sets: Mapping[str, Measured], *, labels: Sequence[str], ways: Sequence[str], curves: Curves
) -> None:
    """Print a line for each set and way; write ``face.json`` and, where there is matplotlib, ``face.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {name: [[None if np.isnan(x) else x for x in point] for point in c] for name, c in curves.items()}
    said: dict[str, Any] = {"labels": list(labels), "curves": known}
    for name, measured in sets.items():
        said[name] = {way: measured.figures(i, labels) for i, way in enumerate(ways)}
        said[name]["quality_auc of all ways together"] = auc(
            np.concatenate([measured.right(i) for i in range(len(ways))]), measured.quality.T.ravel()
        )
        if leans := measured.leans(labels):
            said[name]["leans"] = leans
        for way in ways:
            print(f"{name}, {way}: {_line(said[name][way])}", flush=True)
    (folder / "face.json").write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
    if sets:
        _draw(folder / "face.png", sets, labels=labels, curves=curves)


def _line(figures: Mapping[str, Any]) -> str:
    names = ("n", "answered", "accuracy", "uar", _COMPARED, "macro_f1", "nll", "ece", "quality_auc")
    parts = [f"{name} {figures[name]:.3f}" if name != "n" else f"n {figures[name]}" for name in names]
    return ", ".join(parts) + "; recall " + ", ".join(f"{name} {r:.2f}" for name, r in figures["recall"].items())


def _draw(path: Path, sets: Mapping[str, Measured], *, labels: Sequence[str], curves: Curves) -> None:
    try:
        import matplotlib
    except ModuleNotFoundError:
        print(f"no {path.name}: matplotlib is not installed; pip install matplotlib, and run this again")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(sets), 4, figsize=(20, 5 * len(sets)), squeeze=False)
    for row, (name, measured) in zip(axes, sets.items(), strict=True):
        probs, y = measured.probs[0], measured.y[measured.places]
        table = confusion(y, probs.argmax(axis=1), len(labels))[:, :-1]
        row[0].imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(table.shape):
            row[0].text(j, i, str(table[i, j]), ha="center", va="center", fontsize=8)
        row[0].set(title=f"{name}: true (down), named (across)", xticks=range(len(labels)), yticks=range(len(labels)))
        row[0].set_xticklabels(labels, rotation=45, ha="right")
        row[0].set_yticklabels(labels)
        mean, right, _ = reliability(y, probs)
        row[1].plot([0, 1], [0, 1], "--", color="grey")
        row[1].plot(mean, right, "o-")
        row[1].set(title="reliability", xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        for which, points in curves.items():
            losses, kept = zip(*points, strict=True)
            (line,) = row[2].plot(range(len(points)), losses, label=which)
            row[2].plot(range(len(points)), kept, "--", color=line.get_color())
        row[2].set(title="loss by round; dashed: likelihood of those kept", xlabel="round")
        row[2].legend(fontsize=8)
        _draw_leans(row[3], measured.leans(labels))
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _draw_leans(axes: Any, leans: Sequence[Mapping[str, float]]) -> None:
    """Accuracy against mean recall, a point for each lean."""
    if not leans:
        axes.set_axis_off()
        return
    x, y = ([point[name] for point in leans] for name in ("accuracy", _COMPARED))
    axes.plot(x, y, "o-")
    for point, at in zip(leans, zip(x, y, strict=True), strict=True):
        axes.annotate(f"{point['lean']:g}", at, textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(title="by how far it leans towards the rare", xlabel="accuracy", ylabel=f"mean recall but {RARE}")
