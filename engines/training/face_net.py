"""Training of what reads faces: the upper half of the wide network, and with it the linear head. Needs torch.

The lower half keeps face-api's weights, which saw many more faces than there are here; the close network and the
general one are not trained at all. The head starts as the best one for the networks as they are; what it says comes
from there, and the few gentle rounds in which both are trained together change little: more of them lost on faces that
were kept aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from agent.types import F64
from engines.head import Head
from engines.training.face_data import DataError, Ints, Shown, Words
from engines.training.face_top import BATCH, Top, Weights, embed, functional, nn, torch
from engines.training.linear import fit_temperature

ROUNDS = 2
RATE = 1e-4
"""Of AdamW for the blocks; a third of it for the head."""
DROPPED = 0.2
"""Share of the embedding that is left out in training."""
PENALTY = 0.078
"""On the squared weights of the first head, of standardised features."""
WIDE_TRUST = 1.5
"""How much larger the embedding is made under the penalty, and so trusted more."""
OPINION, OPINION_TRUST = 7, 4.0
"""The same of the wide and the close network's own opinions, one for each label of what they were trained on: there
were thousands of the rare labels. The close network's are the last features."""
GENERAL_TRUST = 0.5
"""The same of the general network's features, which are made smaller: it was not trained on faces."""
LEAN = 0.25
"""How far the posterior leans towards the rare: its prior is the data's with so much added to every label, of which
all then sum to 1 again. At 0 most of the rare are missed, with more, more of what is common: in folds over train this
keeps an accuracy of 0.855."""
ENOUGH = 150
"""A label with fewer pictures gains no more than one with so many: the others would pay for it."""
HELD = 8
"""One in so many people is kept for the temperature."""
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What one training gives."""

    head: Head
    weights: dict[str, npt.NDArray[Any]]
    """Of the wide network, those that were trained and the others."""
    curve: list[tuple[float, float]]
    """Before the first round and after each: its loss, and the `likelihood` of those kept for the temperature."""

    @classmethod
    def load(cls, path: Path) -> Fitted:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            weights = {name[2:]: arrays[name] for name in arrays.files if name.startswith("w/")}
            head: dict[str, Any] = {name[2:]: arrays[name] for name in arrays.files if name.startswith("h/")}
            curve = [(float(a), float(b)) for a, b in arrays["curve"]]
        labels, temperature = tuple(str(name) for name in head.pop("labels")), float(head.pop("temperature"))
        return cls(Head(**head, labels=labels, temperature=temperature), weights, curve)

    def save(self, path: Path) -> None:
        """Write an .npz, whole or not at all."""
        head = {f"h/{field.name}": np.asarray(getattr(self.head, field.name)) for field in fields(self.head)}
        draft = path.with_suffix(".part.npz")
        arrays = {**head, **{f"w/{name}": value for name, value in self.weights.items()}}
        np.savez(draft, allow_pickle=False, curve=np.array(self.curve), **arrays)
        draft.replace(path)

    def posterior(self, shown: Shown, which: Ints, *, way: int) -> F64:
        """(M, K) of the faces `which` (M,), as the run-time works it out."""
        wide = embed(Top(self.weights), shown, which, way=way)
        return self.head.posterior(np.concatenate([wide, shown.beside(which, way)], axis=1))


def fit(
    shown: Shown,
    y: Ints,
    people: Words,
    which: Ints,
    *,
    labels: Sequence[str],
    start: Weights,
    tick: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train on the faces `which` (M,) of N, with y (N,) indices into `labels`; `start` are face-api's weights.

    Deterministic. `tick` is called `ROUNDS` times. Raises `DataError` where a label has no example to learn from.
    """
    fitted, held = _split(which, y, people, labels)
    torch.manual_seed(SEED)
    top = Top(start)
    run = _Run(shown, y, fitted, top, start["fc/weights"], len(labels))
    run.warm()
    curve = [(float("nan"), run.likelihood(held))]
    for round_ in range(ROUNDS):
        loss = run.round(round_)
        curve.append((loss, run.likelihood(held)))
        tick()
    weights = {name: value for name, value in {**start, **top.trained()}.items() if name.startswith("dense")}
    return Fitted(run.head(labels, run.logits(held), y[held]), weights, curve)


def _split(which: Ints, y: Ints, people: Words, labels: Sequence[str]) -> tuple[Ints, Ints]:
    """Of the faces `which`, those to fit, and those of other people that are kept for the temperature."""
    counts = np.bincount(y[which], minlength=len(labels))
    folds = min(HELD, len(np.unique(people[which])), int(counts.min()))
    if folds > 1:
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=SEED)
        fitted, held = (which[part] for part in next(splits.split(which, y[which], people[which])))
        if np.bincount(y[fitted], minlength=len(labels)).all():
            return fitted, held
    found = ", ".join(f"{name} {n}" for name, n in zip(labels, counts, strict=True))
    raise DataError(f"labels.csv: every label needs pictures of several people to learn from; there are {found}")


class _Run:
    """One training under way."""

    def __init__(self, shown: Shown, y: Ints, fitted: Ints, top: Top, opinion: npt.NDArray[Any], k: int) -> None:
        self._shown, self._y, self._fitted, self._opinion, self._k = shown, y, fitted, opinion, k
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._top = top.to(self._device)
        self._rng = np.random.default_rng(SEED)
        counts = np.bincount(y[fitted], minlength=k)
        self._prior = counts / counts.sum()
        self._per_round = max(1, len(fitted) // BATCH)

    def warm(self) -> None:
        """The best linear head on the networks as they are, each face in every way.

        The wide network's opinion is linear in its embedding: it is a feature of its own here, and then folded in.
        """
        before, beside = self._shown.before[self._fitted], self._shown.beside(self._fitted, slice(None))  # (N, W, …)
        ways = beside.shape[1]
        x = np.concatenate([before, beside], axis=2).swapaxes(0, 1).reshape(ways * len(beside), -1)
        self._mean, self._scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        wide, general = before.shape[2], self._shown.general.shape[2]
        opinion = (x[:, :wide] - self._mean[:wide]) @ self._opinion  # (N, 7), mean 0
        spread = np.maximum(opinion.std(axis=0), 1e-6) / OPINION_TRUST
        self._scale[:wide] /= WIDE_TRUST
        self._scale[wide : wide + general] /= GENERAL_TRUST
        self._scale[-OPINION:] /= OPINION_TRUST
        z = torch.tensor(np.concatenate([(x - self._mean) / self._scale, opinion / spread], axis=1).astype(np.float32))
        y = torch.tensor(np.tile(self._y[self._fitted], ways))
        first = _first_head(z, y, self._k)
        weight = first.weight[:, : x.shape[1]].detach().clone()
        folded = self._scale[:wide, np.newaxis] * self._opinion / spread  # (E, 7)
        weight[:, :wide] += first.weight[:, x.shape[1] :].detach() @ torch.tensor(folded.T.astype(np.float32))
        self._linear = nn.Linear(x.shape[1], self._k)
        self._linear.weight.data, self._linear.bias.data = weight, first.bias.detach().clone()
        self._linear.to(self._device)
        self._to = [torch.tensor(a, device=self._device) for a in (self._mean, self._scale)]
        self._optimiser = torch.optim.AdamW(
            [{"params": self._top.parameters(), "factor": 1.0}, {"params": self._linear.parameters(), "factor": 1 / 3}],
            weight_decay=1e-2,
        )

    def round(self, number: int) -> float:
        """Train on one round's pictures; the mean loss."""
        order = self._rng.permutation(self._fitted)
        losses = []
        for step in range(self._per_round):
            ids = order[step * BATCH : (step + 1) * BATCH]
            way, side = (
                self._rng.integers(self._shown.close.shape[1], size=len(ids)),
                self._rng.integers(2, size=len(ids)),
            )
            stem = torch.tensor(self._shown.stems[ids, way, side].astype(np.float32), device=self._device)
            beside = torch.tensor(self._shown.beside(ids, way), device=self._device)
            self._pace((number * self._per_round + step) / (ROUNDS * self._per_round))
            wide = functional.dropout(self._top(stem), DROPPED)
            logits = self._linear((torch.cat([wide, beside], dim=1) - self._to[0]) / self._to[1])
            y = torch.tensor(self._y[ids], device=self._device)
            loss = functional.cross_entropy(logits, y)
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def _pace(self, done: float) -> None:
        """Falling as a cosine over the whole training."""
        rate = RATE * 0.5 * (1 + np.cos(np.pi * done))
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["factor"]

    def likelihood(self, which: Ints) -> float:
        """Mean over faces as they are, negative, in nats."""
        return float(functional.cross_entropy(torch.tensor(self.logits(which)), torch.tensor(self._y[which])))

    def logits(self, which: Ints) -> F64:
        """(N, K) of faces as they are, mirrored and not."""
        wide = embed(self._top, self._shown, which, way=0)
        x = (np.concatenate([wide, self._shown.beside(which, 0)], axis=1) - self._mean) / self._scale
        weight, bias = (p.detach().cpu().double().numpy() for p in (self._linear.weight, self._linear.bias))
        return np.asarray(x @ weight.T + bias, np.float64)

    def head(self, labels: Sequence[str], logits: F64, y: Ints) -> Head:
        """The head, leaning by `LEAN`, with the temperature of the greatest likelihood of `logits` (N, K)."""
        lean = np.log(1 + LEAN / np.maximum(self._prior, ENOUGH / len(self._fitted)))
        prior = self._prior * np.exp(lean)
        weight, bias = (p.detach().cpu().double().numpy() for p in (self._linear.weight, self._linear.bias))
        return Head(
            mean=self._mean.astype(np.float64),
            scale=self._scale.astype(np.float64),
            weight=weight.T,
            bias=bias + lean,
            temperature=fit_temperature(logits + lean, y),
            prior=prior / prior.sum(),
            labels=tuple(labels),
        )


def _first_head(z: torch.Tensor, y: torch.Tensor, k: int) -> Any:
    """The linear layer of the greatest likelihood under the penalty."""
    linear = nn.Linear(z.shape[1], k)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimiser = torch.optim.LBFGS(linear.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(linear(z), y) + PENALTY * linear.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return linear
