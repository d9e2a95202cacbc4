"""``[fusion]``: how the modalities' decisions become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from agent.clock import SECOND
from agent.config.scalars import DurationOrZero, Share
from agent.config.table import Table
from agent.fusion import EMBEDDED, RULES, Learned, Recalibration

NAMES = (*RULES, Learned.name, *EMBEDDED)
LEAK = 0.05
"""Of `agent.fusion.leaked`, as ``python -m engines.training fusion`` chose it: the largest that costs bayes no more, on
items that it was not fitted to, than the standard error of the best (Breiman et al. 1984)."""
FITTED: Mapping[str, tuple[float, ...]] = {
    "bayes": (0.61, 0.58, 0.59, 0.49, 0.53, 0.55, 0.6),
    "mean": (1.13, 0.94, 0.5, 0.83, 0.47, 0.43, 0.3),
    "max": (1.13, 0.94, 0.52, 0.83, 0.49, 0.45, 0.29),
    "dempster": (0.58, 0.54, 0.41, 0.49, 0.39, 0.38, 0.33),
    "fuzzy": (1.13, 0.94, 0.5, 0.83, 0.47, 0.44, 0.29),
}
"""Temperatures by rule, with vision, audio, both, text, vision and text, audio and text, all three, as ``python -m
engines.training fusion`` prints them for the reliabilities and the leak that are the defaults. Others have 1: votes
gain nothing by one, and trained heads have their own."""


def _rule(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"found {name!r}; must be one of {', '.join(NAMES)}")
    return name


def _temperatures(found: object) -> tuple[float, ...] | str:
    """One number, one for each count or each subset of modalities, or the word "fitted"."""
    if found == "fitted":
        return "fitted"
    listed: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    least, most = Recalibration.BOUNDS
    numbers = tuple(float(t) for t in listed if type(t) in (int, float) and least <= t <= most)
    if not listed or len(numbers) < len(listed):
        bounds = f"from {least:g} to {most:g}"
        raise ValueError(
            f'must be a number {bounds}, or a list: with one modality, with two, …, or by subset; or "fitted";'
            f" found {found!r}"
        )
    return numbers


class Fusion(Table):
    """``[fusion]``; as `agent.fusion.Settings` it sets the rules."""

    rule: Annotated[str, AfterValidator(_rule)] = "bayes"
    leak: Share = LEAK
    handover: Share = 1.0
    yager_above: Share = 0.7
    temperature: Annotated[tuple[float, ...] | Literal["fitted"], BeforeValidator(_temperatures)] = "fitted"
    dwell: DurationOrZero = 3 * SECOND
    trust: Share = 0.5
    abstain_below: Share = 0.35

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Of `agent.fusion.Recalibration`: of the rule, or as the config says."""
        return FITTED.get(self.rule, (1.0,)) if self.temperature == "fitted" else self.temperature
