"""``[record]``: what is written down of a running agent, and for how long it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.clock import SECOND
from agent.config.scalars import Duration, Size, within
from agent.config.table import Table

DAY = 86_400 * SECOND
GIB = 1 << 30
Quality = Annotated[int, Field(ge=1, le=100)]


class Record(Table):
    """``[record]``. Off, unless somebody asks for it: pictures and voices of people are theirs."""

    enabled: bool = False
    out: Path = Path("recordings")
    frames: Literal["jpeg", "png", "raw"] = "jpeg"
    quality: Quality = 85
    audio: Literal["pcm", "float", "opus"] = "pcm"
    flush: Annotated[int, within("100 ms", "1 min")] = SECOND
    part_size: Size = GIB
    part_age: Annotated[int, within("1 s", "1 d")] = 600 * SECOND
    keep_size: Size = 20 * GIB
    keep_age: Duration = 30 * DAY
    keep_free: Size = GIB
    buffer: Size = 64 << 20
