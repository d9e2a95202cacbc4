"""The pipeline as the config asks for it; its fusion head and budget also alone, for when the config was read anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from agent.clock import Clock
from agent.config import Align, Config, ConfigError, prior_of
from agent.deciding.budget import Budget
from agent.deciding.head import ROWS, FusionHead, Trust
from agent.deciding.pipeline import Pipeline, speech_source
from agent.deciding.selection import Selection, approximate, exact, first, last, nearest
from agent.deciding.smoothing import StickyFilter
from agent.fusion import EMBEDDED, RULES, Learned, LearnedHead, Recalibration, Rule, TrainedHead
from agent.health.vitals import Vitals
from agent.seams import Encoder, Transcriber
from agent.types import Modality, Source
from agent.window import Bounds, SlidingWindow


def build_pipeline(
    config: Config,
    *,
    sources: Sequence[Source],
    encoders: Mapping[Modality, Encoder],
    transcriber: Transcriber | None,
    clock: Clock,
    session: str,
    patience_ns: int | None = None,
    learned: TrainedHead | None = None,
) -> Pipeline:
    """The pipeline for samples of ``sources``, from the clock's now on; ``patience_ns`` as in `Pipeline`.

    On a virtual clock encoders take no time, so that no budget is ever spent there. ``learned`` and what is raised are
    as in `build_head`.
    """
    read = [source for source in sources if source.modality in encoders]
    spans_ns = {modality: table.span for modality, table in config.encoders.items()}
    window = SlidingWindow(
        [*read, *([speech_source(spans_ns[Modality.TEXT])] if transcriber else [])],
        spans_ns=spans_ns,
        hop_ns=config.agent.hop,
        lateness_ns=config.agent.lateness,
        start_ns=clock.now_ns(),
        bounds=Bounds(count=config.agent.max_samples, nbytes=config.agent.max_memory),
    )
    return Pipeline(
        window,
        encoders=encoders,
        transcriber=transcriber,
        head=build_head(config, learned),
        clock=clock,
        session=session,
        ignored=[source.name for source in sources if source not in read],
        patience_ns=patience_ns,
        selections=_selections(config.align, spans_ns),
        budget=build_budget(config),
        vitals=Vitals(read),
    )


def _selections(align: Align, spans_ns: Mapping[Modality, int]) -> dict[Modality, Selection]:
    """What each encoder sees of its part of a window, for the modalities of which it does not see all."""
    found: dict[Modality, Selection] = {}
    for modality, name in ((Modality.VISION, align.vision), (Modality.TEXT, align.text)):
        match name:
            case "first":
                found[modality] = first
            case "last":
                found[modality] = last
            case "nearest":
                found[modality] = nearest(spans_ns[modality])
            case "exact":
                found[modality] = exact
            case "approximate":
                found[modality] = approximate(align.max_interval)
            case "all":
                pass
            case _ as never:
                assert_never(never)
    return found


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
