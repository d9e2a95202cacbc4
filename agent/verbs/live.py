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
from agent.config import Config, ReplaySensor, SensorTable, load
from agent.control.privacy import Outlet, for_demonstration, may_leave, remind, require_lawful
from agent.control.reload import Reload
from agent.fusion import TrainedHead
from agent.mqtt import Address
from agent.process import DONE, WRONG, on_hangup, set_level, until_signal
from agent.recording.recorder import Recorder
from agent.remote.clocks import Listening
from agent.seams import Encoder
from agent.showing.screen import Screen
from agent.types import Modality
from agent.verbs import Parts
from agent.verbs.record import attach_recorder, for_a_while, recording

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]


def run(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Run the agent with the sensors of the config until it is stopped."""
    if not config.sensors:
        print(f"{args.config}: no sensor is configured; add a table [sensors.<name>]", file=sys.stderr)
        return WRONG
    require_lawful(config, said_in=args.config)
    asyncio.run(until_signal(_live(config, config.sensors, args=args, parts=parts, out=out, demo=False)))
    return DONE


def record(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Run the agent and write down what it senses and decides."""
    config = recording(config, args)
    if not config.sensors:
        print(f"{args.config}: no sensor is configured; add a table [sensors.<name>]", file=sys.stderr)
        return WRONG
    require_lawful(config, said_in=args.config)
    live = _live(config, config.sensors, args=args, parts=parts, out=out, demo=False, duration_ns=args.duration)
    asyncio.run(until_signal(live))
    return DONE


def demo(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console, session: Path) -> int:
    """Play the bundled session through the whole system."""
    config = for_demonstration(config)
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
    duration_ns: int | None = None,
) -> None:
    """Run the agent to its end, or once everything is open for that time."""
    clock, wall = RealClock(), WallClock(tolerance_ns=MS)
    wall.read()
    listening = Listening.of(config.mqtt, node=config.agent.node, clock=clock, wall=wall)
    sensors = parts.sensors(tables, listening, said_in=args.config)
    sources = [source for sensor in sensors for source in sensor.sources]
    encoders, transcriber = parts.encoders(config, sources, live=True)
    title = "attune demo" if demo else f"attune {config.agent.node}"
    on_text = parts.text_inlet(sensors)
    if on_text is None:
        log.info("no sensor takes texts over MQTT: those on text/in are not read")
    with Screen(out, wall=wall, title=title) as screen:
        agent = Agent(
            config,
            sensors=sensors,
            encoders=encoders,
            transcriber=transcriber,
            clock=clock,
            wall=wall,
            sinks=[screen],
            on_text=on_text,
            learned=parts.fusion(config),
        )
        agent.pipeline.metrics.gauges["clock_uncertainty_ms"] = listening.clocks.uncertainty_ms
        if config.dashboard.wanted(demo=demo):
            _serve_dashboard(config, agent, encoders, listening)
        _watch(config, agent, clock)
        _show_in_rerun(config, agent, wall)
        transcribes = transcriber is not None
        recorder = attach_recorder(agent, config, sensors=sensors, transcribes=transcribes, clock=clock, wall=wall)
        agent.control.reloading = _reloading(config, agent, recorder, args=args, parts=parts, demo=demo)
        on_hangup(agent.control.reload_soon)
        remind(config, ROOT, demo=demo)
        _say_where(config)
        await for_a_while(agent.run(), duration_ns)
    _say_how_much(agent.pipeline.metrics.counts, agent.dropped())


def _reloading(
    config: Config, agent: Agent, recorder: Recorder, *, args: argparse.Namespace, parts: Parts, demo: bool
) -> Reload:
    """What reads the config again, with what the command line says of it, and puts it into force."""

    def read() -> Config:
        found = load(args.config, [*args.set, *args.set_after])
        if demo:
            return for_demonstration(found)
        require_lawful(found, said_in=args.config)
        return found

    def adopt(found: Config, learned: TrainedHead | None) -> None:
        agent.adopt(found, learned)
        recorder.adopt(found)
        set_level(args.log_level or found.agent.log_level)

    return Reload(config, read=read, learned=parts.fusion, adopt=adopt, failures=parts.failures())


def _watch(config: Config, agent: Agent, clock: Clock) -> None:
    """Tell how the agent is, where the config or systemd wants to hear of it."""
    if not config.metrics.listen and "NOTIFY_SOCKET" not in os.environ:
        return
    from agent.health.monitor import Monitor

    agent.attach(Monitor(config, pipeline=agent.pipeline, dropped=agent.dropped, clock=clock, environment=os.environ))


def _show_in_rerun(config: Config, agent: Agent, wall: WallClock) -> None:
    if not config.view.rerun:
        return
    from agent.showing.view import RerunView

    pictures = may_leave(config, Outlet.VIEW)
    view = RerunView(config.view, node=config.agent.node, wall=wall, metrics=agent.pipeline.metrics, pictures=pictures)
    agent.attach(view)


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
