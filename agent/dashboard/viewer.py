"""One page that looks on: what waits to be sent to it is bounded, and it never holds up the agent."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable

MESSAGES = 256
"""That wait for one page at most; the oldest gives way, and is counted."""
LONGEST = 256
"""Characters of what a page may send."""


class Viewer:
    """The queue of one page: messages in their order, and of each source only the newest picture."""

    def __init__(self, *, left_out: Callable[[], None]) -> None:
        """``left_out`` is called for each message that gave way. A picture that does is not counted: the next is as
        good.
        """
        self.pictures = True
        """Whether the page wants pictures now."""
        self._left_out = left_out
        self._messages: deque[str] = deque()
        self._pictures: dict[str, bytes] = {}
        self._more = asyncio.Event()

    def tell(self, message: str) -> None:
        """Queue a message; never waits."""
        if len(self._messages) >= MESSAGES:
            self._messages.popleft()
            self._left_out()
        self._messages.append(message)
        self._more.set()

    def show(self, source: str, picture: bytes) -> None:
        """Queue a picture; never waits."""
        if self.pictures:
            self._pictures[source] = picture
            self._more.set()

    def asked(self, message: str) -> bool:
        """Take in what the page sends; False where it is none of what a page may say."""
        if len(message) > LONGEST:
            return False
        try:
            said = json.loads(message)
        except ValueError:
            return False
        if not isinstance(said, dict) or said.get("type") != "look" or not isinstance(said.get("pictures"), bool):
            return False
        self.pictures = said["pictures"]
        return True

    async def pump(self, text: Callable[[str], Awaitable[None]], binary: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what waits, for ever: messages first, so that a slow road carries decisions rather than pictures."""
        while True:
            while self._messages:
                await text(self._messages.popleft())
            if self._pictures:
                source = next(iter(self._pictures))
                await binary(self._pictures.pop(source))
            elif not self._messages:
                self._more.clear()
                await self._more.wait()
