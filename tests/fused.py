"""What the tests of fusion have in common: rules by name, and situations to put before them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from agent.fusion import Bayes, Combined, Dempster, Floats, Fuzzy, Learned, LearnedHead, Max, Mean, Rule, Vote


def names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))


def quarrelsome(modalities: int, labels: int) -> Learned:
    """A trained head that treats all modalities alike, so that their order may change."""
    mix = np.eye(labels) * 0.8 + 0.3 * np.eye(labels, k=1)
    return Learned(
        LearnedHead(
            names("m", modalities),
            names("l", labels),
            mix=np.tile(mix, (modalities, 1, 1)),
            bias=np.tile(np.linspace(-0.5, 0.5, labels), (modalities, 1)),
            gamma=np.full(modalities, 1.7),
            log_temperature=np.array([0.15 * subset.bit_count() for subset in range(1, 2**modalities)]),
            quarrel=0.4 * (1 - np.eye(modalities)),
        )
    )


RULES: Mapping[str, Callable[[int, int], Rule]] = {
    "bayes": lambda m, k: Bayes(),
    "bayes, handing over": lambda m, k: Bayes(handover=0.2),
    "mean": lambda m, k: Mean(),
    "max": lambda m, k: Max(),
    "vote": lambda m, k: Vote(),
    "dempster": lambda m, k: Dempster(),
    "dempster, never Yager": lambda m, k: Dempster(yager_above=1),
    "fuzzy": lambda m, k: Fuzzy(),
    "learned": quarrelsome,
}
"""For M modalities and K labels."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rule is given: M modalities on K labels."""

    probs: Floats
    weights: Floats
    priors: Floats
    prior: Floats

    def put_to(self, rule: Rule) -> Combined:
        return rule.combine(self.probs, self.weights, self.priors, self.prior)

    def of(self, rows: Sequence[int]) -> "Situation":
        """Only these modalities, in this order."""
        chosen = list(rows)
        return Situation(self.probs[chosen], self.weights[chosen], self.priors[chosen], self.prior)


def rows(*values: Sequence[float] | Floats) -> Floats:
    return np.array(values, np.float64)


def drawn(labels: int, rng: np.random.Generator) -> Floats:
    """A posterior (labels,): flat, soft, sharp or certain."""
    kind = rng.integers(5)
    if kind == 0:
        return np.full(labels, 1 / labels)
    return np.eye(labels)[rng.integers(labels)] if kind == 1 else rng.dirichlet(np.full(labels, 10.0 ** (kind - 3)))


def distributions(labels: int) -> st.SearchStrategy[Floats]:
    """Posteriors as `drawn`."""
    return st.integers(0, 2**32 - 1).map(lambda seed: drawn(labels, np.random.default_rng(seed)))


@st.composite
def situations(draw: st.DrawFn, least: int = 0) -> Situation:
    """Of ``least`` to six modalities and two to twelve labels; weights from 0 to 1, the ends and all but 0 included."""
    m, k = draw(st.integers(least, 6)), draw(st.integers(2, 12))
    weights = draw(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0, 5e-324, 1e-12]), min_size=m, max_size=m))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    priors = rng.dirichlet(np.full(k, 2.0), m + 1) * 0.9 + 0.1 / k
    probs = np.array([drawn(k, rng) for _ in range(m)]).reshape(m, k)
    return Situation(probs, np.array(weights, np.float64), priors[:m], priors[m])
