"""What may be asked of a running agent, over MQTT or from the dashboard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

COMMANDS = ("pause", "resume", "reload", "record")
"""What may be asked; anything else is refused by name."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a command."""

    ok: bool
    said: str
    """What was done; or what was asked, what was found and what to do."""


CommandHandler = Callable[[str, bytes], Awaitable[Reply]]
"""Takes a command's name (the last level of ``cmd/<name>``) and its payload; refuses in words, never by raising."""
