"""Attune's command line: ``python launch.py VERB``; without a verb it runs what ``config.toml`` says.

This is where the parts are put together: it reads the config, opens the sensors and the encoders that it asks for,
and hands them to the agent.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from agent import cli
from agent.clock import MS, RealClock, VirtualClock, WallClock
from agent.config import Config, ConfigError, ReplaySensor, SensorTable, load
from agent.process import leave, log_to, until_signal, writer
from agent.remote import Listening
from agent.types import Modality, Source

if TYPE_CHECKING:  # what a verb does not need costs it no time
    from agent.fusion import LearnedHead
    from agent.seams import Encoder, Sensor, Transcriber
    from sensors.session import Session

ROOT = Path(__file__).parent
DEMO = ROOT / "sensors" / "demo"
DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done, it failed while running, what you gave it is wrong."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
log = logging.getLogger("launch")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    parser = cli.parser(VERBS, default="run", description=__doc__, config=ROOT / "config.toml")
    args = parser.parse_args(argv)
    log_to(out if out.is_terminal else None, args.log_level)
    try:
        config = load(args.config, [*args.set, *args.set_after])
        code: int = args.verb(config, args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return DONE
    except BrokenPipeError:  # who read the output has gone
        return FAILED
    except _failures() as error:
        print(error, file=sys.stderr)
        return FAILED
    return code


def _failures() -> tuple[type[Exception], ...]:
    """What may go wrong while running and says in its message what to do. Asked for only when something was raised."""
    from agent.broker import BrokerError
    from agent.seams import EncoderError, SensorError
    from engines.evaluation.output import OutputError
    from engines.models import ModelError

    return BrokerError, EncoderError, ModelError, OutputError, SensorError


def run(config: Config, args: argparse.Namespace) -> int:
    """Run the agent with the sensors of the config until it is stopped."""
    if not config.sensors:
        print(f"{args.config}: no sensor is configured; add a table [sensors.<name>]", file=sys.stderr)
        return WRONG
    asyncio.run(until_signal(_live(config, config.sensors, args=args, title=f"attune {config.agent.node}")))
    return DONE


def demo(config: Config, args: argparse.Namespace) -> int:
    """Play the bundled session through the whole system."""
    recorded = ReplaySensor(kind="replay", session=DEMO, loop=not args.once)
    tables: dict[str, SensorTable] = {"demo": recorded}
    texts = {} if args.once else {name: t for name, t in config.sensors.items() if t.kind == "text"}
    renamed = {f"your-{name}": table for name, table in texts.items()}  # the session has a source "text" of its own
    asyncio.run(until_signal(_live(config, {**tables, **renamed}, args=args, title="attune demo")))
    return DONE


async def _live(config: Config, tables: Mapping[str, SensorTable], *, args: argparse.Namespace, title: str) -> None:
    from agent.assembly import Agent
    from agent.screen import Screen
    from sensors.text import hand_out

    clock, wall = RealClock(), WallClock(tolerance_ns=MS)
    wall.read()
    listening = Listening.of(config.mqtt, node=config.agent.node, clock=clock, wall=wall)
    sensors = _open_sensors(tables, listening, args=args)
    encoders, transcriber = _open_encoders(config, [source for sensor in sensors for source in sensor.sources])
    with Screen(out, wall=wall, title=title) as screen:
        agent = Agent(
            config,
            sensors=sensors,
            encoders=encoders,
            transcriber=transcriber,
            clock=clock,
            wall=wall,
            sinks=[screen],
            on_text=hand_out(sensors),
            learned=_open_fusion(config),
        )
        agent.pipeline.metrics.gauges["clock_uncertainty_ms"] = listening.clocks.uncertainty_ms
        _say_where(config)
        await agent.run()
    _say_how_much(agent.pipeline.metrics.counts, agent.dropped())


def _open_sensors(
    tables: Mapping[str, SensorTable], listening: Listening, *, args: argparse.Namespace
) -> Sequence[Sensor]:
    """The sensors of these tables, each source with a name of its own; else a `ConfigError`."""
    from agent.check import collisions
    from sensors import open_sensor

    clock, wall = listening.clock, listening.wall
    sensors = [open_sensor(name, t, clock=clock, wall=wall, listening=listening) for name, t in tables.items()]
    if lines := collisions(sensors):
        raise ConfigError(str(args.config), lines)
    return sensors


def send(config: Config, args: argparse.Namespace) -> int:
    """Send what this host's sensors deliver to an agent on another host."""
    tables = {name: table for name, table in config.sensors.items() if table.kind not in ("text", "remote")}
    if not tables:
        print(f"{args.config}: no sensor to send from; texts over MQTT reach the agent by themselves", file=sys.stderr)
        return WRONG
    if config.mqtt.broker.startswith("embedded"):
        print("send: name the broker of the agent that listens with --to mqtt://HOST[:PORT]", file=sys.stderr)
        return WRONG
    asyncio.run(until_signal(_send(config, tables, args=args)))
    return DONE


async def _send(config: Config, tables: Mapping[str, SensorTable], *, args: argparse.Namespace) -> None:
    from sensors.remote_sender import Sender

    clock, wall = RealClock(), WallClock(tolerance_ns=MS)
    wall.read()
    host = config.agent.node
    listening = Listening.of(config.mqtt, node=host, clock=clock, wall=wall)
    sender = Sender(
        config.mqtt,
        node=args.node,
        host=host,
        sensors=_open_sensors(tables, listening, args=args),
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


def _open_encoders(config: Config, sources: Iterable[Source]) -> tuple[dict[Modality, Encoder], Transcriber | None]:
    """What reads the modalities of these sources."""
    from engines.encoders import open_encoders
    from engines.models import ModelStore

    return open_encoders(config, ModelStore.configured(config.models), {source.modality for source in sources})


def _open_fusion(config: Config) -> LearnedHead | None:
    """The trained head, where the config asks for it."""
    from engines.encoders import open_fusion
    from engines.models import ModelStore

    return open_fusion(config, ModelStore.configured(config.models))


def _say_where(config: Config) -> None:
    from agent.mqtt import Address

    base, node, address = config.mqtt.base, config.agent.node, Address.of(config.mqtt.broker)
    where = f"{address.host}:{address.port}" if address.embedded else config.mqtt.broker
    see = f"mosquitto_sub -h {address.host} -p {address.port} -t '{base}/#' -v"
    log.info("decisions go to %s/%s/decision on %s; see them with: %s", base, node, where, see)


def _say_how_much(counts: Mapping[str, int], dropped: Mapping[str, int]) -> None:
    left_out = ", ".join(f"{n} {name}" for name, n in sorted(dropped.items())) or "nothing"
    log.info("%d decisions, %d of them abstained; left out: %s", counts["decisions"], counts["abstained"], left_out)


def replay(config: Config, args: argparse.Namespace) -> int:
    """Play recorded sessions on the virtual clock: the same decisions every time."""
    from agent.seams import SensorError
    from sensors.session import Session

    try:
        sessions = [Session.open(DEMO if name == "demo" else Path(name)) for name in args.sessions]
    except SensorError as error:
        print(error, file=sys.stderr)
        return WRONG
    if config.agent.budget:
        log.warning("[agent] budget leaves nothing out of a replay: on its virtual clock encoders take no time")
    try:
        with writer(args.out) as write:
            for session in sessions:
                log.info("%s: %d decisions", session.name, asyncio.run(_play(session, config, args=args, write=write)))
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"--out {args.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    return DONE


async def _play(session: Session, config: Config, *, args: argparse.Namespace, write: Callable[[bytes], object]) -> int:
    """Play one session; returns the number of its decisions."""
    from agent.assembly import build_pipeline
    from agent.payload import decision_payload, encode
    from agent.playback import Pacer, play
    from agent.screen import line

    clock, wall = VirtualClock(), WallClock()
    wall.calibrate(0, session.start_wall_ns)
    encoders, transcriber = _open_encoders(config, session.sources)
    pipeline = build_pipeline(
        config,
        sources=session.sources,
        encoders=encoders,
        transcriber=transcriber,
        clock=clock,
        session=session.name,
        learned=_open_fusion(config),
    )
    pace = Pacer(args.speed) if args.speed else None
    count = 0
    try:
        async for decision in play(session.events(), pipeline, clock, pace=pace):
            count += 1
            write(encode(decision_payload(decision, node=config.agent.node, wall=wall)) + b"\n")
            if args.out != Path("-"):
                out.print(line(decision, wall), markup=False, soft_wrap=True)
    finally:
        pipeline.close()
    return count


def check(config: Config, args: argparse.Namespace) -> int:
    """Say what works, what does not, and what to do."""
    from agent.check import Finding, check_broker
    from engines.check import check_models
    from sensors.check import check_sensors

    async def findings() -> list[Finding]:
        found = [Finding(f"config ({args.config})", ok=True, said="is valid"), *check_models(config)]
        found += [finding async for finding in check_sensors(config)]
        return [*found, await check_broker(config.mqtt)]

    found = asyncio.run(findings())
    for finding in found:
        mark = "[green]✓[/]" if finding.ok else "[red]✗[/]"
        out.print(f"{mark} [bold]{escape(finding.what)}[/]: {escape(finding.said)}", soft_wrap=True)
    return DONE if all(finding.ok for finding in found) else FAILED


def devices(config: Config, args: argparse.Namespace) -> int:
    """List the cameras and microphones that are there."""
    from sensors.screen import show_devices

    show_devices(out)
    return DONE


def models(config: Config, args: argparse.Namespace) -> int:
    """List the models, or fetch what is not here yet."""
    from engines.models import ModelStore
    from engines.screen import fetch_with_bars, models_table

    store = ModelStore.configured(config.models)
    if args.action == "fetch":
        fetch_with_bars(store, args.names, out)
    else:
        out.print(models_table(store))
    return DONE


def evaluate(config: Config, args: argparse.Namespace) -> int:
    """Measure an encoder as deployed on labelled data."""
    from engines.evaluation.dataset import DataError
    from engines.evaluation.verb import measure

    try:
        measure(config, args, out)
    except DataError as error:
        print(error, file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("eval: interrupted; nothing is written", file=sys.stderr)
        return FAILED
    return DONE


VERBS = {verb.__name__: verb for verb in (run, demo, send, check, devices, models, replay)} | {"eval": evaluate}
"""What the command line may ask for; the options of each stand in `agent.cli`."""


if __name__ == "__main__":
    sys.exit(leave(main()))
