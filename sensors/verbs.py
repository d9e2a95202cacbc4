"""What ``launch.py`` can be asked for that concerns sensors alone: ``devices`` and ``send``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from agent.clock import MS, RealClock, WallClock
from agent.config import Config, SensorTable
from agent.control.privacy import Outlet, may_leave
from agent.process import DONE, WRONG, until_signal
from agent.remote.clocks import Listening
from agent.seams import Sensor
from sensors.remote_sender import Sender
from sensors.screen import show_devices

log = logging.getLogger(__name__)

Opener = Callable[[Mapping[str, SensorTable], Listening], Sequence[Sensor]]


def devices(out: Console) -> int:
    """List the cameras and microphones that are there."""
    show_devices(out)
    return DONE


def send(config: Config, args: argparse.Namespace, *, opened: Opener) -> int:
    """Send what this host's sensors, as ``opened``, deliver to an agent on another host."""
    tables = {name: table for name, table in config.sensors.items() if table.kind not in ("text", "remote")}
    if not tables:
        print(f"{args.config}: no sensor to send from; texts over MQTT reach the agent by themselves", file=sys.stderr)
        return WRONG
    if config.mqtt.broker.startswith("embedded"):
        print("send: name the broker of the agent that listens with --to mqtt://HOST[:PORT]", file=sys.stderr)
        return WRONG
    if not may_leave(config, Outlet.SEND):
        print(f'{args.config}: [privacy] raw_media = "never" keeps pictures and sound in the process', file=sys.stderr)
        return WRONG
    asyncio.run(until_signal(_send(config, tables, args=args, opened=opened)))
    return DONE


async def _send(config: Config, tables: Mapping[str, SensorTable], *, args: argparse.Namespace, opened: Opener) -> None:
    clock, wall = RealClock(), WallClock(tolerance_ns=MS)
    wall.read()
    host = config.agent.node
    listening = Listening.of(config.mqtt, node=host, clock=clock, wall=wall)
    sender = Sender(
        config.mqtt,
        node=args.node,
        host=host,
        sensors=opened(tables, listening),
        clock=clock,
        quality=args.quality,
        max_fps=args.fps,
    )
    try:
        await sender.run()
    finally:
        sent = ", ".join(f"{n} of {name}" for name, n in sorted(sender.sent.items())) or "nothing"
        left_out = ", ".join(f"{n} {name}" for name, n in sorted(sender.dropped().items())) or "nothing"
        log.info("sent: %s; left out: %s", sent, left_out)
