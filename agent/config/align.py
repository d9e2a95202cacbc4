"""``[align]``: what an encoder sees of its part of a window."""

from __future__ import annotations

from typing import Literal

from agent.clock import MS
from agent.config.scalars import DurationOrZero
from agent.config.table import Table


class Align(Table):
    """``[align]``. Sound is always seen whole: an encoder of speech needs it without gaps."""

    vision: Literal["all", "first", "last", "nearest", "exact", "approximate"] = "all"
    text: Literal["all", "first", "last", "nearest"] = "all"
    max_interval: DurationOrZero = 50 * MS
