"""``[privacy]``: what emotions are inferred for, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from agent.config.table import Table

Place = Literal["home", "public", "vehicle", "care", "research", "work", "education"]
"""Where the people are who are sensed."""
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class Privacy(Table):
    """``[privacy]``; what follows is in `agent.control.privacy`. Without a purpose nothing may be inferred."""

    purpose: Words | None = None
    place: Place | None = None
    exemption: Words | None = None
    raw_media: Literal["as configured", "never"] = "as configured"


UNSTATED = Privacy(purpose="demonstration")
"""Of a file without the table: as in the shipped config. It is said loudly at each start."""
