"""The fusion head and the budget, as the config asks for them: at the start, and again when it was read anew."""

from __future__ import annotations

import numpy as np

from agent.config import Config, ConfigError, prior_of
from agent.deciding.budget import Budget
from agent.deciding.head import ROWS, FusionHead, Trust
from agent.deciding.smoothing import StickyFilter
from agent.fusion import EMBEDDED, RULES, Learned, LearnedHead, Recalibration, Rule, TrainedHead


def build_head(config: Config, learned: TrainedHead | None = None) -> FusionHead:
    """The fusion head that the config asks for; ``learned`` is the trained one, where there is one.

    Raises `ConfigError` where the config asks for the trained one, and it is not there or knows other labels.
    """
    prior = np.array(list(prior_of(config.agent).values()))
    fusion = config.fusion
    return FusionHead(
        RULES[fusion.rule].of(fusion) if fusion.rule in RULES else _learned(config, learned),
        labels=config.agent.labels,
        prior=prior,
        trust={m: Trust(table.reliability, table.tau) for m, table in config.encoders.items()},
        smoothing=StickyFilter(prior, dwell_ns=fusion.dwell, trust=fusion.trust) if fusion.dwell else None,
        abstain_below=fusion.abstain_below,
        recalibration=Recalibration(fusion.temperatures),
        leak=fusion.leak,
    )


def _learned(config: Config, head: TrainedHead | None) -> Rule:
    """The trained rule; raises `ConfigError` where there is none for these modalities and labels."""
    others = f"take one of {', '.join(RULES)}"
    if head is None:
        raise ConfigError("[fusion]", [f"rule: {config.fusion.rule} needs a trained head, and there is none; {others}"])
    known = {"modalities": head.modalities, "labels": head.labels}
    wanted = {"modalities": tuple(map(str, ROWS)), "labels": config.agent.labels}
    if faults := [
        f"rule: the trained head knows the {what} {', '.join(known[what])}; here they are {', '.join(own)}; {others}"
        for what, own in wanted.items()
        if known[what] != own
    ]:
        raise ConfigError("[fusion]", faults)
    return Learned(head) if isinstance(head, LearnedHead) else EMBEDDED[config.fusion.rule](head)


def build_budget(config: Config) -> Budget | None:
    """The compute budget that the config asks for; None for no limit."""
    spans_ns = {modality: table.span for modality, table in config.encoders.items()}
    return Budget(config.agent.budget, spans_ns) if config.agent.budget else None
