"""``replay``: recorded sessions on the virtual clock, and where two replays differ."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from rich.console import Console

from agent.clock import WallClock
from agent.config import Config
from agent.config.events import rules
from agent.events import Event, Events
from agent.payload import encode, event_payload
from agent.playback import Pacer
from agent.process import DONE, FAILED, WRONG, writer
from agent.replay import replayed
from agent.seams import SensorError
from agent.showing.screen import line
from agent.verbs import Parts, Recorded

log = logging.getLogger(__name__)


def replay(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Play recorded sessions: the same decisions every time."""
    if args.compare:
        from agent.verbs.compare import compare

        return compare(args, out=out)
    if not args.sessions:
        print('replay: name a session, or "demo" for the bundled one', file=sys.stderr)
        return WRONG
    if args.ray and args.events:
        print("replay: --ray tells no events; leave one of --ray and --events away", file=sys.stderr)
        return WRONG
    if args.ray:
        from agent.verbs.cluster import replay_many

        return replay_many(config, args, parts=parts, out=out)
    try:
        sessions = [parts.session(name) for name in args.sessions]
    except SensorError as error:
        print(error, file=sys.stderr)
        return WRONG
    if config.agent.budget:
        log.warning("[agent] budget leaves nothing out of a replay: on its virtual clock encoders take no time")
    try:
        with writer(args.out) as write, writer(args.events) as tell:
            for session in sessions:
                count = asyncio.run(_play(session, config, args=args, parts=parts, out=out, write=write, tell=tell))
                log.info("%s: %d decisions", session.name, count)
    except BrokenPipeError:
        raise
    except OSError as error:
        option = "events" if args.events and error.filename == str(args.events) else "out"
        print(f"--{option} {getattr(args, option)}: cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    return DONE


async def _play(
    session: Recorded,
    config: Config,
    *,
    args: argparse.Namespace,
    parts: Parts,
    out: Console,
    write: Callable[[bytes], object],
    tell: Callable[[bytes], object],
) -> int:
    """Play one session, ``write`` its decisions and ``tell`` its events; returns the number of its decisions."""
    events = Events(rules(config.events, config.agent.labels), hop_ns=config.agent.hop)

    def told(found: Sequence[Event]) -> None:
        for event in found:
            tell(encode(event_payload(event, node=config.agent.node, wall=wall)) + b"\n")

    wall = WallClock()
    wall.calibrate(session.start_ns, session.start_wall_ns)
    count = lacking = 0
    pace = Pacer(args.speed) if args.speed else None
    async with aclosing(replayed(session, config, parts=parts, pace=pace)) as decisions:
        async for played in decisions:
            count += 1
            lacking += played.lost > 0
            write(encode(played.payload) + b"\n")
            told(events.update(played.decided.decision))
            if args.out != Path("-"):
                out.print(line(played.decided.decision, wall), markup=False, soft_wrap=True)
    told(events.stop())
    if lacking:
        log.warning(
            "%s: %d of %d windows held samples that are not in the recording: those decisions may differ from what"
            " was decided then",
            session.name,
            lacking,
            count,
        )
    return count
