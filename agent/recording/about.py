"""What a recording says of the agent that it was made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Any

from agent.clock import Clock, WallClock
from agent.config import Config
from agent.recording.format import About
from agent.types import Source

PACKAGES = ("attune", "numpy", "onnxruntime", "opencv-python-headless", "mcap", "foxglove-schemas-protobuf", "av")
"""Whose versions matter for what comes out of a replay."""
HIDDEN = "…"


def about_agent(
    config: Config, *, session: str, sources: Sequence[Source], clock: Clock, wall: WallClock, whole: bool
) -> About:
    """What a recording that begins now says; ``sources`` are all that feed the agent, ``whole`` as in `About`."""
    now_ns = clock.now_ns()
    return About(
        session=session,
        node=config.agent.node,
        start_ns=now_ns,
        start_wall_ns=wall.wall_ns(now_ns),
        whole=whole,
        sources=tuple(asdict(source) for source in sources),
        config=shown(config),
        versions=versions(),
    )


def shown(config: Config) -> dict[str, Any]:
    """The config as JSON-ready values, without what opens doors: passwords, and addresses, which may hold some."""
    dumped = config.model_dump(mode="json", exclude={"mqtt": {"user", "password"}})
    found: dict[str, Any] = _without_addresses(dumped)
    return found


def _without_addresses(value: Any) -> Any:
    match value:
        case dict():
            return {key: HIDDEN if _opens(key) and inner else _without_addresses(inner) for key, inner in value.items()}
        case list():
            return [_without_addresses(inner) for inner in value]
        case str() if "://" in value or " ! " in value or "@" in value:
            return HIDDEN
        case _:
            return value


def _opens(key: str) -> bool:
    return any(word in key for word in ("password", "token", "secret"))


def versions() -> Mapping[str, str]:
    """Of Python and of `PACKAGES`, as far as they are there."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
