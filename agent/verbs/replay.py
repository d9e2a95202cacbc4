"""``replay``: recorded sessions on the virtual clock."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from agent.assembly import build_pipeline
from agent.clock import VirtualClock, WallClock
from agent.config import Config
from agent.payload import decision_payload, encode
from agent.playback import Pacer, play
from agent.process import DONE, FAILED, WRONG, writer
from agent.screen import line
from agent.seams import SensorError
from agent.verbs import Parts, Recorded

log = logging.getLogger(__name__)


def replay(config: Config, args: argparse.Namespace, *, parts: Parts, out: Console) -> int:
    """Play recorded sessions: the same decisions every time."""
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
    clock, wall = VirtualClock(), WallClock()
    wall.calibrate(0, session.start_wall_ns)
    encoders, transcriber = parts.encoders(config, session.sources)
    pipeline = build_pipeline(
        config,
        sources=session.sources,
        encoders=encoders,
        transcriber=transcriber,
        clock=clock,
        session=session.name,
        learned=parts.fusion(config),
    )
    pace = Pacer(args.speed) if args.speed else None
    count = 0
    try:
        async for decided in play(session.events(), pipeline, clock, pace=pace):
            count += 1
            write(encode(decision_payload(decided.decision, node=config.agent.node, wall=wall)) + b"\n")
            if args.out != Path("-"):
                out.print(line(decided.decision, wall), markup=False, soft_wrap=True)
    finally:
        pipeline.close()
    return count
