"""Linear heads: what turns an encoder's embedding into a calibrated posterior.

A head is a softmax regression on standardised features, with one temperature (Guo et al. 2017, "On Calibration of
Modern Neural Networks"). `engines.training.linear` fits it; here it is only read and applied, with numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.fusion.arrays import Arrays, HeadError, numbers, refuse_misfits, refuse_missing, texts
from agent.npz import read_head
from agent.types import F64

FLOOR = 1e-3
"""Mass that a projection gives, in posterior and prior alike, to each label that the head does not know."""
TINY = 1e-6
"""Lower bound of a posterior: ``Evidence.probs`` is never 0, and one head must not be able to veto a label."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """``softmax(((x - mean) / scale @ weight + bias) / temperature)``."""

    mean: F64
    """(D,), of the training features."""
    scale: F64
    """(D,), their standard deviation, above 0."""
    weight: F64
    """(D, K)."""
    bias: F64
    """(K,)."""
    temperature: float
    """Above 0; 1 leaves the posterior as it was trained."""
    prior: F64
    """(K,), class prior under which the posterior holds; sums to 1."""
    labels: tuple[str, ...]
    """K names, in the order of the columns."""

    def __post_init__(self) -> None:
        d, k = len(self.mean), len(self.labels)
        wanted = {"mean": (d,), "scale": (d,), "weight": (d, k), "bias": (k,), "prior": (k,)}
        refuse_misfits(self, wanted, f"{d} features and {k} labels")
        if not (self.scale > 0).all() or not self.temperature > 0:
            raise HeadError("scale and temperature must be above 0")
        if abs(self.prior.sum() - 1) > 1e-6 or not (self.prior > 0).all():
            raise HeadError(f"the prior must be above 0 and sum to 1, it is {self.prior}")

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read what `save` wrote. Raises `HeadError`, also where the file holds anything but plain arrays."""
        return read_head(path, cls._of, "a head as `python -m engines.training` writes it")

    @classmethod
    def _of(cls, arrays: Arrays) -> Head:
        names = [field.name for field in fields(cls)]
        refuse_missing(arrays, names)
        found = numbers(arrays, [name for name in names if name != "labels"], np.float64)
        return cls(**found | {"temperature": float(found["temperature"])}, labels=texts(arrays["labels"]))

    def save(self, path: Path) -> None:
        """Write an .npz that `load` reads; the same head gives the same bytes."""
        arrays: dict[str, npt.NDArray[Any]] = {
            field.name: np.asarray(getattr(self, field.name)) for field in fields(self)
        }
        np.savez(path, allow_pickle=False, **arrays)

    def posterior(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N, K) probabilities; each row sums to 1."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise HeadError(f"head: takes features of shape (N, {len(self.mean)}), was given {x.shape}")
        logits = ((x.astype(np.float64) - self.mean) / self.scale @ self.weight + self.bias) / self.temperature
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)

    def under(self, prior: F64) -> Head:
        """The same head for another class prior (K,), by Bayes' rule (Saerens et al. 2002)."""
        return replace(self, bias=self.bias + self.temperature * np.log(prior / self.prior), prior=prior)

    def onto(self, labels: Sequence[str], mapping: Mapping[str, str] | None = None) -> ProjectedHead:
        """The head in the agent's label order; see `Projection`."""
        projection = Projection(self.labels, labels, mapping)
        return ProjectedHead(self, projection, projection.labels, projection.prior(self.prior))


@dataclass(frozen=True, slots=True, eq=False)
class ProjectedHead:
    """A head that speaks the agent's labels."""

    head: Head
    projection: Projection
    labels: tuple[str, ...]
    prior: F64
    """(L,), in the order of ``labels``."""

    def posterior(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N, L) probabilities over the agent's labels, each at least about `TINY`."""
        return self.projection.posterior(self.head.posterior(x))


class Projection:
    """Carries probabilities over a model's labels onto the agent's.

    The masses of labels that mean the same are added. A label of the model that no label of the agent means is left
    out, and the rest renormalised: the posterior given that it is one of the agent's. A label of the agent that the
    model does not know gets `FLOOR` in the posterior and in the prior alike, so that their ratio, which is what
    fusion by Bayes' rule reads, says nothing for or against it.
    """

    def __init__(self, own: Sequence[str], labels: Sequence[str], mapping: Mapping[str, str] | None = None) -> None:
        """`own` are the model's labels; `mapping` renames them to the agent's, and the others keep their names.

        Raises `HeadError` where the mapping names a label that neither side has, or where nothing is shared.
        """
        mapping = mapping or {}
        self.labels = tuple(labels)
        for name, target in mapping.items():
            if name not in own or target not in labels:
                raise HeadError(
                    f'labels: {name} = "{target}" maps nothing: the model has {", ".join(own)};'
                    f" the agent has {', '.join(labels)}"
                )
        renamed = [mapping.get(name, name) for name in own]
        self._matrix = np.array([[float(name == label) for label in self.labels] for name in renamed])  # (K, L)
        self._unknown = ~self._matrix.any(axis=0)  # (L,)
        if self._unknown.all():
            raise HeadError(
                f"labels: the model's ({', '.join(own)}) and the agent's ({', '.join(labels)}) share none; name"
                ' which is which in the encoder\'s table: labels = { happy = "joy" }'
            )

    def posterior(self, probs: npt.NDArray[Any]) -> F64:
        """(N, K) over the model's labels to (N, L) over the agent's."""
        mass = np.maximum(probs.astype(np.float64) @ self._matrix, TINY)
        mass[:, self._unknown] = 0
        known = 1 - FLOOR * self._unknown.sum()
        mass *= known / mass.sum(axis=1, keepdims=True)
        mass[:, self._unknown] = FLOOR
        return np.asarray(mass, dtype=np.float64)

    def prior(self, prior: npt.NDArray[Any]) -> F64:
        """(K,) to (L,)."""
        return np.asarray(self.posterior(prior[np.newaxis])[0], dtype=np.float64)
