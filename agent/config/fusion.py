"""``[fusion]``: how the modalities' decisions become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from agent.clock import SECOND
from agent.config.scalars import DurationOrZero, Share
from agent.config.table import Table
from agent.fusion import RULES, Learned, Recalibration

NAMES = (*RULES, Learned.name)
FITTED: Mapping[str, tuple[float, ...]] = {
    "bayes": (0.63, 0.65, 0.75),
    "mean": (1.09, 0.5, 0.34),
    "max": (1.09, 0.52, 0.37),
    "dempster": (0.56, 0.45, 0.4),
    "fuzzy": (1.09, 0.5, 0.34),
}
"""Temperatures with one modality, with two, with three, by rule, as ``python -m engines.training fusion`` prints them
for the reliabilities that are the defaults. Others have 1: votes gain nothing by one, and the trained head has its own.
"""


def _rule(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"found {name!r}; must be one of {', '.join(NAMES)}")
    return name


def _temperatures(found: object) -> tuple[float, ...] | str:
    """One number, one for each count of modalities, or the word "fitted"."""
    if found == "fitted":
        return "fitted"
    listed: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    least, most = Recalibration.BOUNDS
    numbers = tuple(float(t) for t in listed if type(t) in (int, float) and least <= t <= most)
    if not listed or len(numbers) < len(listed):
        bounds = f"from {least:g} to {most:g}"
        raise ValueError(
            f'must be a number {bounds}, or a list: with one modality, with two, …; or "fitted"; found {found!r}'
        )
    return numbers


class Fusion(Table):
    """``[fusion]``; as `agent.fusion.Settings` it sets the rules."""

    rule: Annotated[str, AfterValidator(_rule)] = "bayes"
    handover: Share = 1.0
    yager_above: Share = 0.7
    temperature: Annotated[tuple[float, ...] | Literal["fitted"], BeforeValidator(_temperatures)] = "fitted"
    dwell: DurationOrZero = 3 * SECOND
    trust: Share = 0.5
    abstain_below: Share = 0.35

    @property
    def temperatures(self) -> tuple[float, ...]:
        """With one modality, with two, …: of the rule, or as the config says."""
        return FITTED.get(self.rule, (1.0,)) if self.temperature == "fitted" else self.temperature
