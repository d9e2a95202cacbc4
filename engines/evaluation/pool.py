"""What the deployed encoders say about a dataset, as arrays, kept on disk between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agent.config import Config
from agent.fusion import rebased
from agent.types import F32, F64, Modality
from engines.evaluation.dataset import Dataset
from engines.evaluation.metrics import NONE, Bools, Ints, accuracy, auc, uar
from engines.evaluation.present import Answer
from engines.evaluation.run import gather
from engines.evaluation.spoil import Spoilt

ENGINES = Path(__file__).parent.parent
CODE = ("dataset.py", "present.py", "spoil.py")
"""Of this folder, what evidence depends on."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Evidence of one modality on N items, over the agent's K labels."""

    y: Ints
    """(N,), indices of the true labels."""
    probs: F64
    """(N, K); the prior where nothing was said."""
    priors: F64
    """(N, K); uniform where nothing was said."""
    quality: F64
    """(N,), 0..1; 0 where nothing was said."""
    answered: Bools
    """(N,)."""
    embeddings: F32 | None = None
    """(N, D), NaN where there was none; None where there was none of any."""

    @classmethod
    def of(cls, answers: list[Answer], labels: tuple[str, ...]) -> Self:
        """In the order of the answers."""
        nothing = np.full(len(labels), 1 / len(labels))
        lengths = [len(answer.embedding) for answer in answers if answer.embedding is not None]
        unseen = np.full(lengths[0] if lengths else 0, np.nan, np.float32)
        embeddings = [unseen if answer.embedding is None else answer.embedding for answer in answers]
        return cls(
            y=np.array([labels.index(answer.item.label) for answer in answers], np.intp),
            probs=np.array([nothing if answer.probs is None else answer.probs for answer in answers]),
            priors=np.array([nothing if answer.prior is None else answer.prior for answer in answers]),
            quality=np.array([answer.quality for answer in answers]),
            answered=np.array([answer.probs is not None for answer in answers]),
            embeddings=np.array(embeddings, np.float32) if lengths else None,
        )

    def of_items(self, which: Ints) -> Pool:
        """Of those items alone."""
        return Pool(**{name: array[which] for name, array in self._arrays().items()})

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__slots__ if name in arrays})

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".part").open("wb") as stream:
            np.savez(stream, allow_pickle=False, **self._arrays())
        file.with_suffix(".part").replace(file)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Those that there are, by name."""
        return {name: array for name in self.__slots__ if (array := getattr(self, name)) is not None}


def collect(config: Config, modality: Modality, data: Dataset, *, grade: int = 0, work: Path | None = None) -> Pool:
    """The evidence on `data`, spoilt by `grade`; from the folder `work` where it was kept there.

    Kept evidence is taken only for the very same items, settings, models and code of the engines.
    """
    kept = work / f"{modality}-{grade}-{evidence_key(config, modality, data)}.npz" if work else None
    if kept and kept.exists():
        return Pool.load(kept)
    answers = gather(config, modality, Spoilt(data, grade) if grade else data)
    answers.sort(key=lambda answer: answer.item.line)
    pool = Pool.of(answers, config.agent.labels)
    if kept:
        pool.save(kept)
    return pool


def graded(pools: Sequence[Pool], prior: F64) -> dict[str, Any]:
    """How one modality alone stands noise, under the agent's prior (K,): `pools` are the same items by grade.

    ``accuracy``, ``uar`` and mean ``quality`` by grade, and ``quality_auc``: over the items of all grades that are
    answered, how well quality tells those named rightly from the others; None where all are of one kind.
    """
    found: dict[str, Any] = {"accuracy": [], "uar": [], "quality": []}
    said: list[tuple[Bools, F64]] = []
    for pool in pools:
        predicted = np.where(pool.answered, rebased(pool.probs, pool.priors, prior).argmax(axis=1), NONE)
        found["accuracy"].append(accuracy(pool.y, predicted))
        found["uar"].append(uar(pool.y, predicted))
        found["quality"].append(float(pool.quality.mean()))
        said.append(((predicted == pool.y)[pool.answered], pool.quality[pool.answered]))
    area = auc(np.concatenate([right for right, _ in said]), np.concatenate([quality for _, quality in said]))
    return found | {"quality_auc": None if np.isnan(area) else area}


def evidence_key(config: Config, modality: Modality, data: Dataset) -> str:
    """Other where the items, what the config says of the encoder, the models or the code of the engines are others."""
    digest = hashlib.sha256()
    digest.update(repr((config.agent.labels, config.agent.hop, dict(config.encoders.items())[modality])).encode())
    code = [*ENGINES.glob("*.py"), *(ENGINES / "evaluation" / name for name in CODE)]
    for file in sorted([*code, *ENGINES.glob("weights/*"), ENGINES / "models.toml"]):
        digest.update(file.read_bytes())
    for item in data.items:
        digest.update(f"{item.what}\0{item.label}\0{item.speaker}\0".encode())
        if modality is not Modality.TEXT:
            stat = (data.folder / item.what).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]
