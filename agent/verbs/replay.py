"""``replay``: recorded sessions on the virtual clock, and where two replays differ."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from rich.console import Console

from agent.clock import WallClock
from agent.config import Config
from agent.payload import encode
from agent.playback import Pacer, replayed
from agent.process import DONE, FAILED, WRONG, writer
from agent.screen import line
from agent.seams import SensorError
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
        with writer(args.out) as write:
            for session in sessions:
                count = asyncio.run(_play(session, config, args=args, parts=parts, out=out, write=write))
                log.info("%s: %d decisions", session.name, count)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"--out {args.out}: cannot be written: {error.strerror}", file=sys.stderr)
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
) -> int:
    """Play one session; returns the number of its decisions."""
    wall = WallClock()
    wall.calibrate(session.start_ns, session.start_wall_ns)
    count = lacking = 0
    pace = Pacer(args.speed) if args.speed else None
    async with aclosing(replayed(session, config, parts=parts, pace=pace)) as decisions:
        async for played in decisions:
            count += 1
            lacking += played.lost > 0
            write(encode(played.payload) + b"\n")
            if args.out != Path("-"):
                out.print(line(played.decided.decision, wall), markup=False, soft_wrap=True)
    if lacking:
        log.warning(
            "%s: %d of %d windows held samples that are not in the recording: those decisions may differ from what"
            " was decided then",
            session.name,
            lacking,
            count,
        )
    return count
