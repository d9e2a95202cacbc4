"""``plot``: a session's decisions over time as a picture, for reports."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agent.config import Config
from agent.process import DONE, FAILED, WRONG
from agent.replay import replayed
from agent.seams import SensorError
from agent.verbs import Parts
from agent.verbs.compare import read

log = logging.getLogger(__name__)


def plot(config: Config, args: argparse.Namespace, *, parts: Parts) -> int:
    """Draw what was decided in a recording; of a folder, what is decided now; or what a ``.jsonl`` of --out says."""
    try:
        from agent.showing.chart import draw
    except ImportError as error:
        print(f"plot: {error.name} is not installed; pip install 'attune[plot]'", file=sys.stderr)
        return WRONG
    try:
        name, decisions = _decisions(config, args.session, parts)
    except (SensorError, ValueError) as error:
        print(error, file=sys.stderr)
        return WRONG
    if not decisions:
        print(f"{args.session}: holds no decision; there is nothing to draw", file=sys.stderr)
        return FAILED
    out = args.out or Path(f"{name}.png")
    try:
        draw(decisions, out, title=name)
    except (OSError, ValueError) as error:  # a suffix that names no kind of picture is a ValueError
        print(f"--out {out}: cannot be drawn: {error}", file=sys.stderr)
        return FAILED
    log.info("%s: %d decisions drawn", out, len(decisions))
    return DONE


def _decisions(config: Config, name: str, parts: Parts) -> tuple[str, Sequence[Mapping[str, Any]]]:
    path = Path(name)
    if path.suffix == ".jsonl" and path.is_file() and path.name != "text.jsonl":
        return path.stem, read(path)
    session = parts.session(name)
    if session.history is not None:
        return path.resolve().name, [json.loads(line) for line in session.history.published()]

    async def decided_now() -> list[dict[str, Any]]:
        async with aclosing(replayed(session, config, parts=parts)) as decisions:
            return [played.payload async for played in decisions]

    return path.resolve().name, asyncio.run(decided_now())
