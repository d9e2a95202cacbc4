"""``[fusion]``: how the modalities' decisions become one."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from agent.clock import SECOND
from agent.config.scalars import DurationOrZero, Share
from agent.config.table import Table
from agent.fusion import RULES


def _rule(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"found {name!r}; must be one of {', '.join(RULES)}")
    return name


class Fusion(Table):
    """``[fusion]``."""

    rule: Annotated[str, AfterValidator(_rule)] = "bayes"
    dwell: DurationOrZero = 3 * SECOND
    trust: Share = 0.5
    abstain_below: Share = 0.35
