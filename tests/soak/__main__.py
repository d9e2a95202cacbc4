"""``python -m tests.soak virtual|live``: says what was held, and fails where it grew."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.soak import live, reconnects, virtual
from tests.soak.usage import Trend, Usage, after, floors, report

DEMO = Path(__file__).parent.parent.parent / "sensors" / "demo"
MOST_MIB_PER_H = 1.0
MOST_MIB_PER_3600 = 4.5
"""Of reconnects: 1 MiB in the 800 that are looked at; a decoder left behind each time would be ten times that."""
WARM_VIRTUAL_S, WARM_LIVE_S, WARM_RECONNECTS = 600.0, 400.0, 200.0
"""The dashboard and the metrics keep five minutes, which must be full; the rest is for what starts."""


def main() -> int:
    """Run one of them; 1 where memory, threads or descriptors grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    parser.add_argument("--looks", type=Path, help="write every look there, a line of JSON each")
    parser.add_argument("--warm", type=float, help="seconds at the start that are left out")
    hours = kinds.add_parser("virtual", help="an endless session on the virtual clock")
    hours.add_argument("--hours", type=float, default=8.0)
    hours.add_argument("--real", action="store_true", help="the real encoders, over the bundled session in a loop")
    minutes = kinds.add_parser("live", help="the demo by the real clock, with the embedded broker")
    minutes.add_argument("--minutes", type=float, default=17.0, help="of which the first 400 s are left out")
    times = kinds.add_parser("reconnects", help="a camera that goes again and again")
    times.add_argument("--times", type=int, default=1000)
    args = parser.parse_args()
    begin_s = time.monotonic()
    run = {"live": _live, "virtual": _virtual, "reconnects": _reconnects}[args.kind]
    looks, title, warm_s = asyncio.run(run(args))
    if args.looks:
        args.looks.write_text("".join(json.dumps(asdict(look)) + "\n" for look in looks))
    warm_s = warm_s if args.warm is None else args.warm
    print(report(title, looks, warm_s))
    print(f"  took {time.monotonic() - begin_s:.0f} s")
    most = MOST_MIB_PER_3600 if args.kind == "reconnects" else MOST_MIB_PER_H
    grown = grew(after(looks, warm_s), most=most)
    print(f"  {grown or 'nothing grew'}")
    return 1 if grown else 0


def grew(looks: list[Usage], *, most: float) -> str:
    """What grew: the least memory of each minute by more than ``most`` MiB/h, threads or files at all; "" for nothing.

    Of memory it is only said where the slope less twice its error is more than that.
    """
    quarter = len(looks) // 4
    first, last = looks[: quarter + 1], looks[-quarter - 1 :]
    for what, held in (("threads", _threads), ("descriptors", _files)):
        if min(map(held, last)) > min(map(held, first)):
            return f"{what} grew"
    trend = Trend.of(floors(looks))
    return "memory grew" if trend.mib_per_h - 2 * trend.error > most else ""


def _threads(look: Usage) -> int:
    return look.threads


def _files(look: Usage) -> int:
    return look.files


async def _virtual(args: argparse.Namespace) -> tuple[list[Usage], str, float]:
    session = None
    if args.real:
        from sensors.session import Session

        session = Session.open(DEMO)
    title = "virtual, the bundled session and real encoders" if args.real else "virtual, scripted encoders"
    return [look async for look in virtual.soak(args.hours, session=session)], title, WARM_VIRTUAL_S


async def _live(args: argparse.Namespace) -> tuple[list[Usage], str, float]:
    heard = live.Heard()
    looks = [look async for look in live.soak(args.minutes, heard)]
    print(f"{heard.decisions} decisions heard by {heard.visits} readers one after the other; counts {heard.counts}")
    print(f"missing: {dict(heard.missing)}")
    return looks, "live, the demo with the embedded broker", WARM_LIVE_S


async def _reconnects(args: argparse.Namespace) -> tuple[list[Usage], str, float]:
    """An hour stands for 3600 reconnects."""
    logging.getLogger("agent").setLevel(logging.ERROR)  # it says each time that the camera is lost
    delivered = reconnects.Delivered()
    looks = [look async for look in reconnects.soak(args.times, delivered)]
    print(f"{args.times} reconnects, {delivered.pictures} pictures; below, an hour is 3600 reconnects")
    return looks, "a camera that goes again and again", WARM_RECONNECTS


if __name__ == "__main__":
    sys.exit(main())
