"""Reading the config again while the agent runs: what can change does, between two windows; the rest is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

from agent.config import Config, ConfigError
from agent.control.commands import Reply
from agent.fusion import TrainedHead

LIVE = (
    "agent.budget",
    "agent.log_level",
    "encoders.*.reliability",
    "encoders.*.tau",
    "events",
    "events.*",
    "fusion.*",
)
"""Keys that change while the agent runs; all others need a restart."""


class Reload:
    """Answers ``reload``: reads the file, says what differs from what runs, and puts into force what can be.

    A file with faults changes nothing, and the reply says all of them.
    """

    def __init__(
        self,
        running: Config,
        *,
        read: Callable[[], Config],
        learned: Callable[[Config], TrainedHead | None],
        adopt: Callable[[Config, TrainedHead | None], None],
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        """``read`` and ``learned`` may block. ``adopt`` puts a config into force: all of it, or it raises and nothing.

        All three may raise `ConfigError` and ``failures``, whose messages say what to do.
        """
        self._running = running
        self._read = read
        self._learned = learned
        self._adopt = adopt
        self._failures: tuple[type[Exception], ...] = (ConfigError, *failures)

    async def __call__(self) -> Reply:
        """Do it; an `agent.control.handler.Control.reloading`."""
        try:
            found = await asyncio.to_thread(self._read)
            changed = differences(self._running, found)
            live = [key for key in changed if changes_live(key)]
            if live:
                merged = merge(self._running, found)
                learned = await asyncio.to_thread(self._learned, merged)
                self._adopt(merged, learned)
                self._running = merged
        except self._failures as error:
            return Reply(ok=False, said=f"nothing has changed, for the config cannot be used: {error}")
        return Reply(ok=True, said=_said(live, [key for key in changed if key not in live]))


def changes_live(key: str) -> bool:
    """Whether a key, such as ``fusion.rule``, changes while the agent runs."""
    return any(fnmatchcase(key, pattern) for pattern in LIVE)


def differences(one: Config, other: Config) -> list[str]:
    """The keys in which two configs differ, as written in the file; of a table that only one has, its name."""
    return list(_differing(one.model_dump(by_alias=True), other.model_dump(by_alias=True)))


def merge(running: Config, found: Config) -> Config:
    """What runs, with those keys of ``found`` that change live."""
    tables = {
        modality: running_table.model_copy(update={"reliability": table.reliability, "tau": table.tau})
        for (modality, running_table), (_, table) in zip(running.encoders.items(), found.encoders.items(), strict=True)
    }
    agent = {"budget": found.agent.budget, "log_level": found.agent.log_level}
    return running.model_copy(
        update={
            "agent": running.agent.model_copy(update=agent),
            "encoders": running.encoders.model_copy(update={str(m): table for m, table in tables.items()}),
            "events": found.events,
            "fusion": found.fusion,
        }
    )


_ABSENT = object()


def _differing(one: Mapping[str, object], other: Mapping[str, object], above: str = "") -> Iterator[str]:
    for name in {**one, **other}:
        left, right = one.get(name, _ABSENT), other.get(name, _ABSENT)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differing(left, right, f"{above}{name}.")
        elif left != right:
            yield above + name


def _said(live: list[str], stuck: list[str]) -> str:
    parts = [f"from the next window on: {', '.join(live)}"] if live else []
    if stuck:
        parts.append(f"needs a restart: {', '.join(stuck)}")
    return "; ".join(parts) or "nothing in the config has changed"
