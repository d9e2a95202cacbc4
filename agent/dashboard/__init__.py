"""The dashboard: one page that shows what is sensed and decided, live.

`Dashboard` looks on at the agent and serves the page; the page itself is in ``static``, and needs no build.
The protocol between them (`agent.dashboard.messages`) has a version, which the page checks.
"""

from agent.dashboard.companion import Dashboard

__all__ = ["Dashboard"]
