"""``[fusion]``: how the modalities' decisions become one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from agent.clock import SECOND
from agent.config.scalars import DurationOrZero, Share
from agent.config.table import Table
from agent.fusion import RULES, Learned, Recalibration

NAMES = (*RULES, Learned.name)


def _rule(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"found {name!r}; must be one of {', '.join(NAMES)}")
    return name


def _temperatures(found: object) -> tuple[float, ...]:
    """One number, or one for each count of modalities."""
    listed: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    least, most = Recalibration.BOUNDS
    numbers = tuple(float(t) for t in listed if type(t) in (int, float) and least <= t <= most)
    if not listed or len(numbers) < len(listed):
        bounds = f"from {least:g} to {most:g}"
        raise ValueError(f"must be a number {bounds}, or a list: with one modality, with two, …; found {found!r}")
    return numbers


class Fusion(Table):
    """``[fusion]``; as `agent.fusion.Settings` it sets the rules."""

    rule: Annotated[str, AfterValidator(_rule)] = "bayes"
    handover: Share = 1.0
    yager_above: Share = 0.7
    temperature: Annotated[tuple[float, ...], BeforeValidator(_temperatures)] = (1.0,)
    dwell: DurationOrZero = 3 * SECOND
    trust: Share = 0.5
    abstain_below: Share = 0.35
