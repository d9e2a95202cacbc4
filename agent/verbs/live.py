"""``run`` and ``demo``: the agent by the real clock."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from agent.assembly import Agent
from agent.clock import MS, Clock, RealClock, WallClock
from agent.config import Config, ReplaySensor, SensorTable
from agent.mqtt import Address
from agent.process import DONE, WRONG, until_signal
from agent.remote import Listening
from agent.screen import Screen
from agent.seams import Encoder
from agent.types import Modality
from agent.verbs import Parts

log = logging.getLogger(__name__)


def run(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Run the agent with the sensors of the config until it is stopped."""
    if not config.sensors:
        print(f"{args.config}: no sensor is configured; add a table [sensors.<name>]", file=sys.stderr)
        return WRONG
    asyncio.run(until_signal(_live(config, config.sensors, args=args, parts=parts, out=out, demo=False)))
    return DONE


def demo(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console, session: Path) -> int:
    """Play the bundled session through the whole system."""
    tables: dict[str, SensorTable] = {"demo": ReplaySensor(kind="replay", session=session, loop=not args.once)}
    texts = {} if args.once else {name: t for name, t in config.sensors.items() if t.kind == "text"}
    tables |= {f"your-{name}": table for name, table in texts.items()}  # the session has a source "text" of its own
    asyncio.run(until_signal(_live(config, tables, args=args, parts=parts, out=out, demo=True)))
    return DONE


async def _live(
    config: Config,
    tables: Mapping[str, SensorTable],
    *,
    args: argparse.Namespace,
    parts: Parts,
    out: Console,
    demo: bool,
) -> None:
    clock, wall = RealClock(), WallClock(tolerance_ns=MS)
    wall.read()
    listening = Listening.of(config.mqtt, node=config.agent.node, clock=clock, wall=wall)
    sensors = parts.sensors(tables, listening, said_in=args.config)
    encoders, transcriber = parts.encoders(config, [source for sensor in sensors for source in sensor.sources])
    title = "attune demo" if demo else f"attune {config.agent.node}"
    with Screen(out, wall=wall, title=title) as screen:
        agent = Agent(
            config,
            sensors=sensors,
            encoders=encoders,
            transcriber=transcriber,
            clock=clock,
            wall=wall,
            sinks=[screen],
            on_text=parts.text_inlet(sensors),
            learned=parts.fusion(config),
        )
        agent.pipeline.metrics.gauges["clock_uncertainty_ms"] = listening.clocks.uncertainty_ms
        if config.dashboard.wanted(demo=demo):
            _serve_dashboard(config, agent, encoders, listening)
        _watch(config, agent, clock)
        _say_where(config)
        await agent.run()
    _say_how_much(agent.pipeline.metrics.counts, agent.dropped())


def _watch(config: Config, agent: Agent, clock: Clock) -> None:
    """Tell how the agent is, where the config or systemd wants to hear of it."""
    if not config.metrics.listen and "NOTIFY_SOCKET" not in os.environ:
        return
    from agent.monitor import Monitor

    agent.attach(Monitor(config, pipeline=agent.pipeline, dropped=agent.dropped, clock=clock, environment=os.environ))


def _serve_dashboard(config: Config, agent: Agent, encoders: Mapping[Modality, Encoder], listening: Listening) -> None:
    from agent.dashboard import Dashboard

    dashboard = Dashboard(
        config,
        clock=listening.clock,
        wall=listening.wall,
        metrics=agent.pipeline.metrics,
        dropped=agent.dropped,
        encoders=encoders,
        control=agent.control,
        steadfast=config.dashboard.enabled is True,
    )
    agent.tell_events(dashboard.event)
    agent.attach(dashboard)


def _say_where(config: Config) -> None:
    base, node, address = config.mqtt.base, config.agent.node, Address.of(config.mqtt.broker)
    where = f"{address.host}:{address.port}" if address.embedded else config.mqtt.broker
    see = f"mosquitto_sub -h {address.host} -p {address.port} -t '{base}/#' -v"
    log.info("decisions go to %s/%s/decision on %s; see them with: %s", base, node, where, see)


def _say_how_much(counts: Mapping[str, int], dropped: Mapping[str, int]) -> None:
    left_out = ", ".join(f"{n} {name}" for name, n in sorted(dropped.items())) or "nothing"
    log.info("%d decisions, %d of them abstained; left out: %s", counts["decisions"], counts["abstained"], left_out)
