"""``[dashboard]``: the page that shows what is sensed."""

from __future__ import annotations

from typing import Annotated, Literal

from agent.clock import SECOND
from agent.config.scalars import Endpoint, Listen, within
from agent.config.served import Served


class Dashboard(Served):
    """``[dashboard]``."""

    enabled: bool | Literal["demo"] = "demo"
    """``demo``: in the demo alone, and where its port is taken there, on another."""
    listen: Listen = Endpoint("127.0.0.1", 8765)
    preview: bool | Literal["loopback"] = "loopback"
    """Whether pictures are shown: ``loopback`` means only while no other machine can reach the page."""
    history: Annotated[int, within("10 s", "1 h")] = 300 * SECOND

    def wanted(self, *, demo: bool) -> bool:
        """Whether to serve it, in the demo or outside."""
        return self.listen is not None and (self.enabled is True or (self.enabled == "demo" and demo))

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures may be seen where it listens."""
        return self.preview is True or (self.preview == "loopback" and self.listen is not None and self.listen.loopback)
