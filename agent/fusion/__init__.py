"""Decision-level fusion: one posterior out of several.

A rule is one class with `combine`. It takes what M modalities say about K labels:

- ``probs`` (M, K): a calibrated posterior a modality,
- ``weights`` (M,): how far each is to be trusted now, 0..1; 0 is as if that modality were not there,
- ``priors`` (M, K): the class prior under which each posterior was trained,
- ``prior`` (K,): the agent's own prior, which is the answer when all weights are zero.

`Bayes` and `Learned` divide each posterior by its own prior. The other rules take posteriors as they are, as their
formulae do; where the priors differ from the agent's, carry the posteriors over with `rebased` before (as
`agent.deciding.head.FusionHead` does), which leaves what `Bayes` and `Learned` answer unchanged.

To add a rule, write its class in `agent.fusion.rules` (or a module beside it) and put it into `RULES`.
"""

from agent.fusion.base import TINY, Combined, Embeddings, Floats, Heard, Rule, Settings, leaked, rebased, subset_of
from agent.fusion.conflict import conflict
from agent.fusion.dempster import Dempster, conjunction
from agent.fusion.embedded import EMBEDDED, EmbeddedHead, Feature, Hybrid
from agent.fusion.fuzzy import Fuzzy, log1p_lambda
from agent.fusion.learned import Learned, LearnedHead
from agent.fusion.recalibration import Recalibration, fit_temperature
from agent.fusion.rules import RULES, Bayes, Max, Mean, Vote

TrainedHead = LearnedHead | EmbeddedHead
"""What a rule that is trained has learned: `Learned`, or one of `EMBEDDED`."""

__all__ = [
    "EMBEDDED",
    "RULES",
    "TINY",
    "Bayes",
    "Combined",
    "Dempster",
    "EmbeddedHead",
    "Embeddings",
    "Feature",
    "Floats",
    "Fuzzy",
    "Heard",
    "Hybrid",
    "Learned",
    "LearnedHead",
    "Max",
    "Mean",
    "Recalibration",
    "Rule",
    "Settings",
    "TrainedHead",
    "Vote",
    "conflict",
    "conjunction",
    "fit_temperature",
    "leaked",
    "log1p_lambda",
    "rebased",
    "subset_of",
]
