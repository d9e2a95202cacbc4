"""Looking at the agent from outside: it runs as a process of its own, and `mosquitto_sub` watches what it publishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE_S = 60.0
"""What a loaded machine may take; nothing here waits for it to pass."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message that the subscriber got."""

    topic: str
    retained: bool
    payload: str

    @property
    def json(self) -> dict[str, Any]:
        """The payload, parsed."""
        value: dict[str, Any] = json.loads(self.payload)
        return value


@dataclass(slots=True)
class Watcher:
    """What `mosquitto_sub` has seen so far."""

    seen: list[Seen] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def decisions(self) -> list[dict[str, Any]]:
        """All decisions so far."""
        return [message.json for message in self.seen if message.topic.endswith("/decision")]

    async def until(self, wanted: Callable[[Seen], bool], *, after: int = 0) -> Seen:
        """The first message from the `after`-th on that is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for message in self.seen[after:]:
                    if wanted(message):
                        return message
                after = len(self.seen)
                self._more.clear()
                await self._more.wait()

    async def until_decision(self, wanted: Callable[[dict[str, Any]], bool], *, after: int = 0) -> dict[str, Any]:
        """The first decision from the `after`-th message on that is wanted."""
        message = await self.until(lambda m: m.topic.endswith("/decision") and wanted(m.json), after=after)
        return message.json

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Take in what `mosquitto_sub` prints, until it ends."""
        async for line in stream:
            topic, retained, payload = line.decode().rstrip("\n").split("\t", 2)
            self.seen.append(Seen(topic, retained == "1", payload))
            self._more.set()


@contextlib.asynccontextmanager
async def watching(port: int, topic: str = "attune/#") -> AsyncIterator[Watcher]:
    """Subscribe until the end of the block; returns once the broker has taken the subscription."""
    process = await asyncio.create_subprocess_exec(
        *("mosquitto_sub", "-p", str(port), "-q", "1", "-t", topic, "-t", "probe", "-F", r"%t\t%r\t%p"),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout
    watcher = Watcher()
    reading = asyncio.create_task(watcher.read(process.stdout))
    try:
        await publish(port, "probe", "here", retain=True)
        await watcher.until(lambda message: message.topic == "probe")
        yield watcher
    finally:
        process.terminate()
        await process.wait()
        await reading


async def publish(port: int, topic: str, payload: str, *, retain: bool = False) -> None:
    """Publish once, acknowledged."""
    flags = ["-r"] if retain else []
    command = ("mosquitto_pub", "-p", str(port), "-q", "1", "-t", topic, *flags, "-m", payload)
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


@contextlib.asynccontextmanager
async def agent(
    *words: str, env: Mapping[str, str] | None = None, tree: Path = ROOT
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``launch.py`` with these words, until the end of the block; stdout and stderr together in ``stdout``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "launch.py", *words),
        cwd=tree,
        env=os.environ | dict(env or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            raise


async def launch(*words: str) -> tuple[int, str]:
    """Exit code and all output of ``launch.py`` with these words."""
    async with agent(*words) as process, asyncio.timeout(3 * PATIENCE_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
