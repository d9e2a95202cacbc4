"""``[metrics]``: health and Prometheus metrics over HTTP."""

from __future__ import annotations

from agent.config.served import Served


class Metrics(Served):
    """``[metrics]``."""
