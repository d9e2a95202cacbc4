"""``record``: the agent by the real clock, with everything written down."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from agent.assembly import Agent
from agent.clock import SECOND, Clock, WallClock
from agent.config import Config, ConfigError
from agent.control.privacy import Outlet, may_leave
from agent.deciding.pipeline import speech_source
from agent.recording.recorder import Recorder
from agent.seams import Sensor


def recording(config: Config, args: argparse.Namespace) -> Config:
    """The config with recording switched on, and with what the command line says of it.

    Raises `ConfigError` where it cannot be.
    """
    if not may_leave(config, Outlet.RECORD):
        raise ConfigError(
            str(args.config), ['privacy.raw_media: "never" keeps pictures and sound in the process; record needs them']
        )
    if config.record.audio == "opus" and importlib.util.find_spec("av") is None:
        raise ConfigError(str(args.config), ["record.audio: \"opus\" needs PyAV: pip install 'attune[media]'"])
    out = args.out or config.record.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(str(args.config), [f"record.out: {out} cannot be a folder for recordings: {error}"]) from None
    changes: dict[str, Any] = {"enabled": True, "out": out}
    return config.model_copy(update={"record": config.record.model_copy(update=changes)})


async def for_a_while(job: Coroutine[None, None, None], duration_ns: int | None) -> None:
    """Run the job to its end, or stop it after that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if duration_ns is None else duration_ns / SECOND):
            await job


def attach_recorder(
    agent: Agent, config: Config, *, sensors: Sequence[Sensor], transcribes: bool, clock: Clock, wall: WallClock
) -> Recorder:
    """Let a recorder look on at the agent, which records from the start if the config says so, or when it is asked to.

    ``transcribes``: spoken words come to what its ``sensors`` deliver.
    """
    spoken = [speech_source(config.encoders.text.span)] if transcribes else []
    recorder = Recorder(
        config,
        session=agent.pipeline.session,
        sources=[*(source for sensor in sensors for source in sensor.sources), *spoken],
        clock=clock,
        wall=wall,
        snapshot=lambda: agent.pipeline.metrics.snapshot(agent.dropped()),
    )
    agent.pipeline.metrics.gauges["record"] = recorder.reading
    agent.attach(recorder)
    agent.tell_events(recorder.event)
    agent.control.recorder = recorder
    return recorder
