"""Attune's command line: ``python launch.py VERB``; without a verb it runs what ``config.toml`` says.

This is where the rooms meet: the agent's own verbs get the sensors and the engines from here, as `agent.verbs.Parts`.
What a verb does not need it does not import.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from agent import cli
from agent.config import Config, ConfigError, SensorTable, load
from agent.memory import return_memory
from agent.process import DONE, FAILED, WRONG, leave, log_to, set_level

if TYPE_CHECKING:
    from agent.fusion import TrainedHead
    from agent.remote.clocks import Listening
    from agent.seams import Encoder, Sensor, Transcriber
    from agent.types import Modality, Source
    from sensors.session import Session
    from sensors.session_mcap import McapSession

ROOT = Path(__file__).parent
DEMO = ROOT / "sensors" / "demo"

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    parser = cli.parser(VERBS, default="run", description=__doc__, config=ROOT / "config.toml")
    args = parser.parse_args(argv)
    return_memory()
    log_to(out if out.is_terminal else None, args.log_level or "INFO")
    try:
        config = load(args.config, [*args.set, *args.set_after])
        set_level(args.log_level or config.agent.log_level)
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
    except BaseExceptionGroup as group:  # of what was at work side by side
        failed, others = group.split(_failures())
        if failed is None or others is not None:
            raise
        print(*_leaves(failed), sep="\n", file=sys.stderr)
        return FAILED
    return code


def _failures() -> tuple[type[Exception], ...]:
    """What may go wrong while running and says in its message what to do. Asked for only when something was raised."""
    from agent.mqtt.broker import BrokerError
    from agent.seams import EncoderError, SensorError
    from agent.showing.view import ViewError
    from agent.web.server import WebError
    from engines.evaluation.output import OutputError
    from engines.models import ModelError

    return BrokerError, EncoderError, ModelError, OutputError, SensorError, ViewError, WebError


def _leaves(group: BaseExceptionGroup) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]


class Parts:
    """The sensors and engines of this repository, as `agent.verbs.Parts`."""

    def failures(self) -> tuple[type[Exception], ...]:
        return _failures()

    def sensors(self, tables: Mapping[str, SensorTable], listening: Listening, *, said_in: Path) -> Sequence[Sensor]:
        from agent.check import collisions
        from sensors import open_sensor

        clock, wall = listening.clock, listening.wall
        sensors = [open_sensor(name, t, clock=clock, wall=wall, listening=listening) for name, t in tables.items()]
        if lines := collisions(sensors):
            raise ConfigError(str(said_in), lines)
        return sensors

    def text_inlet(self, sensors: Sequence[Sensor]) -> Callable[[bytes, int], None] | None:
        from sensors.text import hand_out

        return hand_out(sensors)

    def encoders(
        self, config: Config, sources: Iterable[Source], *, live: bool = False
    ) -> tuple[dict[Modality, Encoder], Transcriber | None]:
        from engines.encoders import open_encoders
        from engines.models import ModelStore

        modalities = {source.modality for source in sources}
        return open_encoders(config, ModelStore.configured(config.models), modalities, live=live)

    def fusion(self, config: Config) -> TrainedHead | None:
        from engines.encoders import open_fusion
        from engines.models import ModelStore

        return open_fusion(config, ModelStore.configured(config.models))

    def session(self, name: str) -> Session | McapSession:
        from sensors.session import open_session

        return open_session(DEMO if name == "demo" else Path(name))


PARTS = Parts()


def run(config: Config, args: argparse.Namespace) -> int:
    """Run the agent with the sensors of the config until it is stopped."""
    from agent.verbs import live

    return live.run(config, args, parts=PARTS, out=out)


def record(config: Config, args: argparse.Namespace) -> int:
    """Run the agent and write down what it senses and decides."""
    from agent.verbs import live

    return live.record(config, args, parts=PARTS, out=out)


def demo(config: Config, args: argparse.Namespace) -> int:
    """Play the bundled session through the whole system."""
    from agent.verbs import live

    return live.demo(config, args, parts=PARTS, out=out, session=DEMO)


def replay(config: Config, args: argparse.Namespace) -> int:
    """Play recorded sessions on the virtual clock: the same decisions every time."""
    from agent.verbs.replay import replay

    return replay(config, args, parts=PARTS, out=out)


def plot(config: Config, args: argparse.Namespace) -> int:
    """Draw a session's decisions over time, for a report."""
    from agent.verbs.plot import plot

    return plot(config, args, parts=PARTS)


def sessions(config: Config, args: argparse.Namespace) -> int:
    """List recordings, say what is in them, or export them."""
    from agent.verbs.sessions import sessions

    return sessions(config, args, parts=PARTS, out=out)


def send(config: Config, args: argparse.Namespace) -> int:
    """Send what this host's sensors deliver to an agent on another host."""
    from sensors import verbs

    return verbs.send(config, args, opened=lambda t, listening: PARTS.sensors(t, listening, said_in=args.config))


def check(config: Config, args: argparse.Namespace) -> int:
    """Say what works, what does not, and what to do."""
    from agent.check import Finding, check_broker, check_privacy
    from engines.check import check_models
    from sensors.check import check_sensors

    async def findings() -> list[Finding]:
        said = Finding(f"config ({args.config})", ok=True, said="is valid")
        found = [said, check_privacy(config), *check_models(config)]
        found += [finding async for finding in check_sensors(config)]
        return [*found, await check_broker(config.mqtt)]

    found = asyncio.run(findings())
    for finding in found:
        out.print(f"{finding.mark} [bold]{escape(finding.what)}[/]: {escape(finding.said)}", soft_wrap=True)
    return DONE if all(finding.ok for finding in found) else FAILED


def devices(config: Config, args: argparse.Namespace) -> int:
    """List the cameras and microphones that are there."""
    from sensors import verbs

    return verbs.devices(out)


def models(config: Config, args: argparse.Namespace) -> int:
    """List the models, fetch what is not here yet, or build TensorRT's plans of them."""
    from engines import verbs

    return verbs.models(config, args, out, session=PARTS.session)


def bench(config: Config, args: argparse.Namespace) -> int:
    """Time the networks on the back ends of this machine."""
    from engines import verbs

    return verbs.bench(config, args, out)


def evaluate(config: Config, args: argparse.Namespace) -> int:
    """Measure an encoder as deployed on labelled data."""
    from engines import verbs

    return verbs.evaluate(config, args, out)


NAMED_SO = (run, record, demo, send, check, devices, models, bench, replay, plot, sessions)
VERBS = {verb.__name__: verb for verb in NAMED_SO} | {"eval": evaluate}
"""What the command line may ask for; the options of each stand in `agent.cli`."""


if __name__ == "__main__":
    sys.exit(leave(main()))
