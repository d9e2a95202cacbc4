"""``[mqtt]``: the broker, and what is sent to it."""

from __future__ import annotations

from typing import Literal

from agent.clock import SECOND
from agent.config.scalars import Authority, Broker, Count, Duration, Level, Secret
from agent.config.table import Table


class Mqtt(Table):
    """``[mqtt]``."""

    broker: Broker = "embedded"
    base: Level = "attune"
    user: str | None = None
    password: Secret | None = None
    ca_file: Authority | None = None
    decision_qos: Literal[0, 1] = 0
    stale_after: Duration = 10 * SECOND
    metrics_every: Duration = 10 * SECOND
    queue: Count = 256
